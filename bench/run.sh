#!/usr/bin/env bash
# What this machine can do, what the ops reach of it, and all comparisons that it can run: `make bench`.
#   PYTHON=python-with-torch   for the comparison with PyTorch (a throw-away environment: pip install torch)
#   LLMC=path/to/train_gpt2 LLMC_INPUT=folder   for the comparison with llm.c (see bench/README.md)
#   SCALING=file.svg           also draw how the cost of a step grows (three minutes)
#   DATA=text file             default: tiny Shakespeare of $DANLU_DATA
set -u
cd "$(dirname "$0")/.."
danlu=${BUILD:-build}/danlu
data=${DATA:-${DANLU_DATA:-../shared/data}/text/en/tinyshakespeare.txt}
ran=0
"$danlu" bench machine
"$danlu" bench ops
if [ -n "${PYTHON-}" ]; then
    "$PYTHON" bench/train_vs_pytorch.py --danlu "$danlu" --data "$data" && ran=1
else
    echo "PYTHON is not set: the comparison with PyTorch is left out"
fi
if [ -n "${LLMC-}" ]; then
    bash bench/train_vs_llmc.sh "$LLMC" "${LLMC_INPUT:?give LLMC_INPUT, the folder that bench/make_llmc_input.py wrote}" "$danlu" && ran=1
else
    echo "LLMC is not set: the comparison with llm.c is left out"
fi
if [ -n "${SCALING-}" ]; then
    python3 bench/scaling.py --danlu "$danlu" --data "$data" --out "$SCALING" && ran=1
fi
[ "$ran" = 1 ] || { echo "nothing was compared with another program; see bench/README.md"; exit 1; }
