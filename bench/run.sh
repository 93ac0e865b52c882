#!/usr/bin/env bash
# All comparisons that this machine can run: `make bench`.
#   PYTHON=python-with-torch   for the comparison with PyTorch (a throw-away environment: pip install torch)
#   LLMC=path/to/train_gpt2 LLMC_INPUT=folder   for the comparison with llm.c (see bench/README.md)
#   DATA=text file             default: tiny Shakespeare of $DANLU_DATA
set -u
cd "$(dirname "$0")/.."
danlu=${BUILD:-build}/danlu
data=${DATA:-${DANLU_DATA:-../shared/data}/text/en/tinyshakespeare.txt}
ran=0
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
[ "$ran" = 1 ] || { echo "nothing was compared; see bench/README.md"; exit 1; }
