#!/usr/bin/env bash
# Training speed of danlu and of llm.c's CPU program, side by side: GPT-2 124M, batch 4, 64 tokens, two threads.
#
#   bench/train_vs_llmc.sh TRAIN_GPT2 INPUT DANLU [ROUNDS] [STEPS]
#
#   TRAIN_GPT2  the program `train_gpt2`, built by you from llm.c (make train_gpt2)
#   INPUT       folder with gpt2_124M.bin, gpt2_tokenizer.bin, tokens.bin and text.txt; bench/make_llmc_input.py writes one
#   DANLU       the program danlu
#   ROUNDS      3; in each round llm.c runs first, then danlu
#   STEPS       6 per run (llm.c takes seconds for each), 5 to 20: it samples text at step 20, which is not training
#
# Environment: DTYPE=f32|bf16 (danlu's; llm.c has float32 only), THREADS=2, DANLU_ARGS="more options for danlu".
#
# Both train the same shape on the same token stream from random weights.  The vocabulary is that of text.txt, 50257 characters.
# danlu keeps 64 positions where llm.c keeps 1024 (0.6 % fewer parameters).  The first fifth of the steps is warm-up, of the rest
# the median tokens/s counts; the answer is the median over rounds of danlu / llm.c.
set -euo pipefail

if [ $# -lt 3 ]; then sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; fi
peer=$(realpath "$1") input=$(realpath "$2") danlu=$(realpath "$3") rounds=${4:-3} steps=${5:-6}
threads=${THREADS:-2} dtype=${DTYPE:-f32}
batch=4 context=64

fail() { echo "train_vs_llmc.sh: $1" >&2; exit 1; }
if [ "$steps" -lt 5 ] || [ "$steps" -gt 20 ]; then fail "STEPS must be 5 to 20"; fi
for f in gpt2_124M.bin gpt2_tokenizer.bin tokens.bin text.txt; do
    [ -r "$input/$f" ] || fail "'$input/$f' is missing; make it with 'python3 bench/make_llmc_input.py $input'"
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/llmc/dev/data/tinyshakespeare"
ln -s "$input/gpt2_124M.bin" "$input/gpt2_tokenizer.bin" "$tmp/llmc/"
for part in train val; do ln -s "$input/tokens.bin" "$tmp/llmc/dev/data/tinyshakespeare/tiny_shakespeare_$part.bin"; done

# Lines "LOSS TOKENS_PER_SECOND" of STEPS steps.  The program has no option for the number of steps: grep leaves after enough
# of them (mawk would wait for a full buffer) and the broken pipe ends the program at its next line, hence no pipefail here.
run_llmc() (
    set +o pipefail
    cd "$tmp/llmc"
    OMP_NUM_THREADS=$threads stdbuf -oL "$peer" 2>"$tmp/llmc.err" |
        grep --line-buffered -m "$steps" '^step [0-9]*: train loss' |
        awk -v tokens=$((batch * context)) '{
            sub(/.*train loss /, ""); loss = $1
            sub(/.*took /, ""); print loss, tokens / ($1 / 1000)
        }'
)

run_danlu() {
    rm -rf "$tmp/run"
    # shellcheck disable=SC2086                   # DANLU_ARGS holds several words
    "$danlu" train --model gpt --data "$input/text.txt" --tokenizer char --layers 12 --heads 12 --hidden 768 \
        --context $context --batch $batch --steps "$steps" --dtype "$dtype" --threads "$threads" --out "$tmp/run" --json --quiet \
        --eval-every 0 --save-every 0 --lr 1e-4 --warmup 0 --schedule constant --beta2 0.999 --weight-decay 0 \
        ${DANLU_ARGS:-} 2>"$tmp/danlu.err" |
        awk 'function field(name,    skip) {
                 skip = length(name) + 3
                 return match($0, "\"" name "\": *[-+.0-9eE]+") ? substr($0, RSTART + skip, RLENGTH - skip) + 0 : ""
             }
             { loss = field("loss"); speed = field("tokens_per_second") }
             loss != "" && speed != "" { print loss, speed }'
}

# stdin: lines "LOSS SPEED" -> "SPEED FIRST_LOSS LAST_LOSS": median speed after warm-up
summary() {
    awk 'NR == 1 { first = $1 } { last = $1; speed[NR] = $2 }
         END { if (NR < 5) exit 1; skip = int(NR / 5)
               for (i = skip + 1; i <= NR; i++) print speed[i] | "sort -g"
               close("sort -g"); print "loss", first, last }' |
        awk '$1 == "loss" { n = NR - 1; print (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2, $2, $3; exit } { v[NR] = $1 }'
}

median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

grep -m1 '^model name' /proc/cpuinfo || true
echo "GPT-2 124M, batch $batch x $context tokens, $steps steps, $threads threads; llm.c f32, danlu $dtype"
echo "load $(cut -d' ' -f1 /proc/loadavg)"
awk '$1 > 0.5 { print "note: the machine is busy, which slows both sides and not equally; repeat this on an idle one" }' /proc/loadavg
for round in $(seq "$rounds"); do
    p=$(run_llmc | summary) || true
    [ -n "$p" ] || fail "llm.c printed too few steps: $(tail -n 3 "$tmp/llmc.err")"
    d=$(run_danlu | summary) || true
    [ -n "$d" ] || fail "danlu printed too few steps: $(tail -n 3 "$tmp/danlu.err")"
    echo "$p $d" | awk -v r="$round" '{
        printf "round %d  llm.c %.0f tokens/s, loss %.3f -> %.3f   ", r, $1, $2, $3
        printf "danlu %.0f tokens/s, loss %.3f -> %.3f   ratio %.2f\n", $4, $5, $6, $4 / $1 }'
    echo "$p $d" | awk '{ print $4 / $1 }' >>"$tmp/ratios"
done
echo "median  danlu / llm.c $(median <"$tmp/ratios" | awk '{ printf "%.2f", $1 }')"
