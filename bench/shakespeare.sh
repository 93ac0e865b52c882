#!/usr/bin/env bash
# Tiny Shakespeare by characters, nanoGPT's own CPU configuration, on danlu's families; three seeds each.
#   bench/shakespeare.sh [BUILD] [DATA] [MODEL...]
# Prints the validation loss on the whole validation part (the last tenth; non-overlapping windows of 64; nats per character).
# lstm and gru have 2 layers of 220 (as many parameters as the others) and three times the learning rate.
set -eu
cd "$(dirname "$0")/.."
danlu=${1:-build}/danlu
data=${2:-${DANLU_DATA:-../shared/data}/text/en/tinyshakespeare.txt}
[ $# -ge 2 ] && shift 2 || shift $#
[ $# -gt 0 ] || set -- gpt llama lstm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export DANLU_HOME=$tmp
for model in "$@"; do
    extra=
    case $model in lstm | gru) extra="--layers 2 --hidden 220 --lr 3e-3 --min-lr 3e-4" ;; esac
    for seed in 1 2 3; do
        # shellcheck disable=SC2086
        "$danlu" train --data "$data" --tokenizer char --model "$model" --layers 4 --heads 4 --hidden 128 --context 64 --batch 12 \
            --steps 2000 --dropout 0 --lr 1e-3 --min-lr 1e-4 --warmup 100 --beta2 0.99 --eval-every 0 --save-every 0 --seed $seed --quiet \
            $extra --out "$tmp/$model-$seed"
        sed -n 's/.*"val_loss": *\([0-9.]*\).*/\1/p' "$tmp/$model-$seed/log.jsonl" | tail -n 1 | tee -a "$tmp/$model.loss" | sed "s/^/$model seed $seed  /"
    done
    awk -v m="$model" '{ s += $1 } END { printf "%s mean     %.4f\n", m, s / NR }' "$tmp/$model.loss"
done
