#!/usr/bin/env bash
# The program as a user meets it: training, resuming after kill -9, bad input, full disks.
#   tests/e2e/run.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
danlu=$(realpath "${1:-build}/danlu" 2>/dev/null) && [ -x "$danlu" ] || { echo "there is no ${1:-build}/danlu; run make first"; echo "0 passed, 1 failed"; exit 1; }
work=$(mktemp -d)
export DANLU_HOME=$work/home NO_COLOR=1
trap 'mountpoint -q "$work/small" 2>/dev/null && umount "$work/small"; rm -rf "$work"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); echo "  ok  $1"; }
bad() { failed=$((failed + 1)); echo "FAIL  $1"; tail -n 15 "$work/log" 2>/dev/null; }
check() { local name=$1; shift; if "$@" >"$work/log" 2>&1; then ok "$name"; else bad "$name"; fi; }
# refused NAME CODE PATTERN COMMAND...: exits with CODE, and stderr says PATTERN
refused() {
    local name=$1 code=$2 pattern=$3; shift 3
    "$@" >"$work/out" 2>"$work/log"
    local rc=$?
    if [ "$rc" -eq "$code" ] && grep -qiE -- "$pattern" "$work/log"; then ok "$name"; else echo "exit $rc, expected $code and /$pattern/" >>"$work/log"; bad "$name"; fi
}

# Small text with structure: a model can learn it in a few steps.
awk 'BEGIN { srand(7); split("the old furnace a red elixir seven small stones one patient monk", w, " ");
  for (i = 0; i < 1500; i++) { n = 4 + int(rand() * 6); s = ""; for (k = 0; k < n; k++) s = s (k ? " " : "") w[1 + int(rand() * 11)]; print s "." } }' > "$work/text.txt"
tiny="--data $work/text.txt --tokenizer char --layers 2 --hidden 32 --heads 4 --context 32 --batch 4 --lr 3e-3 --warmup 5 --quiet"
train() { "$danlu" train $tiny "$@"; }

echo "-- training"
check "train gpt"   train --model gpt --steps 60 --eval-every 20 --save-every 20 --out "$work/a"
check "the model folder is whole" test -s "$work/a/model.safetensors" -a -s "$work/a/config.json" -a -s "$work/a/tokenizer.json" -a -s "$work/a/loss.svg" -a -s "$work/a/log.jsonl" -a -s "$work/a/recipe.json"
check "json lines have their keys" bash -c "'$danlu' train $tiny --model llama --steps 10 --eval-every 5 --json --out $work/j 2>/dev/null > $work/j.jsonl && [ \$(wc -l < $work/j.jsonl) -ge 10 ] && for k in step loss lr grad_norm tokens_per_second val_loss; do grep -q \"\\\"\$k\\\"\" $work/j.jsonl || exit 1; done"
check "loss falls" awk -F'"loss": *' '{split($2, v, /[,}]/); if (NR == 1) first = v[1]; last = v[1]} END {exit !(last < first - 0.3)}' "$work/a/log.jsonl"
for m in llama lstm gru; do check "train $m" train --model $m --steps 12 --out "$work/$m"; done
check "same seed, same bytes" bash -c "'$danlu' train $tiny --model gpt --steps 60 --eval-every 0 --save-every 0 --out $work/b && cmp $work/a/model.safetensors $work/b/model.safetensors"
check "one thread, same bytes" bash -c "'$danlu' train $tiny --model gpt --steps 60 --eval-every 0 --save-every 0 --threads 1 --out $work/c && cmp $work/a/model.safetensors $work/c/model.safetensors"
check "remat, same bytes" bash -c "'$danlu' train $tiny --model gpt --steps 60 --eval-every 0 --save-every 0 --remat --out $work/d && cmp $work/a/model.safetensors $work/d/model.safetensors"

# loss_at RUN STEP
loss_at() { sed -n "s/.*\"step\": *$2,.*/&/p; " "$1/log.jsonl" | sed -n 's/.*"loss": *\([0-9.eE+-]*\).*/\1/p' | head -n 1; }
close_to() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN {d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= t)}'; }
train --model gpt --dtype f32 --steps 10 --batch 8 --out "$work/big" >/dev/null 2>&1
train --model gpt --dtype f32 --steps 10 --batch 2 --accumulate 4 --out "$work/acc" >/dev/null 2>&1
check "accumulation equals the large batch" close_to "$(loss_at "$work/big" 10)" "$(loss_at "$work/acc" 10)" 2e-5
train --model llama --dtype f32 --steps 10 --fusion off --out "$work/nofuse" >/dev/null 2>&1
train --model llama --dtype f32 --steps 10 --out "$work/fuse" >/dev/null 2>&1
check "fused equals unfused" close_to "$(loss_at "$work/nofuse" 10)" "$(loss_at "$work/fuse" 10)" 2e-5

"$danlu" train --data "$work/text.txt" --tokenizer char --model llama --layers 4 --hidden 256 --heads 4 --context 128 --batch 8 --steps 2 --out "$work/mem" 2>"$work/mem.log" >/dev/null
check "peak memory is known before the first step, within 10 %" awk '/peak .* resident/ {
        for (i = 1; i <= NF; i++) if ($i == "peak") { got = $(i + 1) * ($(i + 2) ~ /GiB/ ? 1024 : 1); want = $(i + 4) * ($(i + 5) ~ /GiB/ ? 1024 : 1) } }
    END { print got, want; exit !(want > 0 && got < 1.1 * want && got > 0.9 * want) }' "$work/mem.log"

echo "-- kill and resume"
long="$tiny --model gpt --steps 400 --eval-every 100 --dropout 0.1"
"$danlu" train $long --save-every 0 --out "$work/whole" >/dev/null 2>&1
for try in 1 2 3; do
    rm -rf "$work/k"
    kills=0
    for _ in $(seq 1 60); do
        if [ -e "$work/k/recipe.json" ]; then args="--resume --quiet --out $work/k"; else rm -rf "$work/k"; args="$long --save-every 7 --out $work/k"; fi
        "$danlu" train $args >"$work/log" 2>&1 &
        pid=$!
        sleep "0.$((1 + RANDOM % 3))$((RANDOM % 10))"
        if kill -9 $pid 2>/dev/null; then wait $pid 2>/dev/null; kills=$((kills + 1)); else wait $pid; break; fi
    done
    "$danlu" train --resume --quiet --out "$work/k" >"$work/log" 2>&1
    check "$kills times kill -9 and resume: the same bytes" cmp "$work/whole/model.safetensors" "$work/k/model.safetensors"
done
rm -rf "$work/i"
# a background job of a script ignores SIGINT unless it is told otherwise
env --default-signal=INT "$danlu" train $tiny --model gpt --steps 100000 --save-every 0 --eval-every 0 --out "$work/i" >/dev/null 2>"$work/log" &
pid=$!; for _ in $(seq 50); do sleep 0.1; [ -s "$work/i/log.jsonl" ] && break; done
refused "two runs do not write into one folder" 1 "another danlu is writing into" "$danlu" train --resume --out "$work/i"
kill -INT $pid; wait $pid; rc=$?
check "ctrl-c exits with 130" test $rc -eq 130
check "ctrl-c leaves a checkpoint" bash -c "ls $work/i/checkpoints/step-*/manifest.json"
refused "an existing run is not overwritten" 1 "resume" train --model gpt --steps 5 --out "$work/a"
cp -r "$work/a" "$work/more"
refused "what a run cannot change" 2 "layers 3 cannot change.*was 2" "$danlu" train --resume --layers 3 --out "$work/more"
refused "other data for the same run" 2 "data .* cannot change" "$danlu" train --resume --data "$work/none.txt" --out "$work/more"
refused "another seed for the same run" 1 "seed 1; give the same" "$danlu" train --resume --seed 2 --out "$work/more"
refused "fewer steps than are done" 2 "fewer than the 60 steps" "$danlu" train --resume --steps 50 --out "$work/more"
check "more steps, and a changed batch is said" bash -c "'$danlu' train --resume --steps 65 --batch 2 --out '$work/more' 2>&1 | grep -q -- '--batch 2 instead of 4'"
check "a recipe of a resumed run begins a new one" bash -c "'$danlu' train --quiet --recipe '$work/more/recipe.json' --out '$work/again'"
stop="--model gpt --lr 0.3 --warmup 1 --eval-every 5 --patience 2 --steps 400"
check "early stopping" bash -c "'$danlu' train ${tiny% --quiet} $stop --out '$work/es' 2>&1 | grep -q 'early stop after 2'"
cp "$work/es/log.jsonl" "$work/es.log"; cp "$work/es/model.safetensors" "$work/es.model"
check "a run that stopped early stays stopped" bash -c "'$danlu' train --resume --quiet --out '$work/es' && cmp '$work/es/log.jsonl' '$work/es.log' && cmp '$work/es/model.safetensors' '$work/es.model'"

echo "-- looking inside"
check "trace: a line for every node, once" bash -c "n=\$('$danlu' train ${tiny% --quiet} --model gpt --steps 2 --trace --out '$work/tr' 2>&1 | grep -c '^%.* min .* max .* mean .*('); [ \$n -gt 40 ] && [ \$n -lt 200 ]"
train --model gpt --dtype f32 --steps 5 --ref --out "$work/ref1" >/dev/null 2>&1
train --model gpt --dtype f32 --steps 5 --out "$work/ref2" >/dev/null 2>&1
check "reference kernels give the same loss" close_to "$(loss_at "$work/ref1" 5)" "$(loss_at "$work/ref2" 5)" 2e-5
train --model gpt --dtype f32 --steps 5 --isa avx2 --out "$work/avx2" >/dev/null 2>&1
check "AVX2 only gives the same loss" close_to "$(loss_at "$work/avx2" 5)" "$(loss_at "$work/ref2" 5)" 2e-5
check "scalar only: no vector kernel runs" bash -c "! '$danlu' eval '$work/a' --isa scalar --trace 2>&1 | grep -q '(.*avx'"
check "bench machine" bash -c "'$danlu' bench machine --json --quiet --threads 1 | grep -q '\"f32\":{\"by\":\"[a-z0-9_]*\",\"points\":.{\"threads\":1,\"per_second\":[1-9]'"
check "bench ops, every kernel" bash -c "[ \$('$danlu' bench ops --op 'rms*' --seconds 0 --kernels --json --quiet | grep -o '\"share\":[0-9]*[.][0-9]' | wc -l) -gt 5 ]"
refused "bench of an op that is none" 2 "no case for op 'nosuch'" "$danlu" bench ops --op nosuch --seconds 0
check "trace and reference kernels of generate and eval" bash -c "'$danlu' generate '$work/a' --prompt the --max-tokens 2 --trace 2>&1 | grep -q '(matmul' && '$danlu' eval '$work/a' --ref --trace 2>&1 | grep -q '(ref)'"
refused "no such pass" 2 "there is no pass 'nosuch'" train --model gpt --dump-after nosuch --out "$work/x0"

echo "-- damage"
last=$(ls -d "$work"/i/checkpoints/step-* | tail -n 1)
cp -r "$work/i" "$work/trunc"; t=$work/trunc/checkpoints/$(basename "$last")/tensors.safetensors
truncate -s -100 "$t"
refused "a truncated checkpoint is found" 1 "checkpoint|truncated|damaged|bytes" "$danlu" train --resume --quiet --steps 10 --out "$work/trunc"
cp -r "$work/i" "$work/flip"; t=$work/flip/checkpoints/$(basename "$last")/tensors.safetensors
printf '\377' | dd of="$t" bs=1 seek=$(($(stat -c %s "$t") / 2)) conv=notrunc 2>/dev/null
refused "a flipped bit is found" 1 "checksum|crc|damaged" "$danlu" train --resume --quiet --steps 10 --out "$work/flip"
cp -r "$work/a" "$work/cut"; truncate -s -1000 "$work/cut/model.safetensors"
refused "a truncated model is found" 1 "model.safetensors" "$danlu" generate "$work/cut" --prompt x --quiet

echo "-- bad input"
check "no command: help, and the code of wrong usage" bash -c "'$danlu' >$work/o 2>$work/log; [ \$? -eq 2 ] && grep -q 'usage: danlu' $work/o && ! grep -q bug $work/log"
check "--json behind the option that is wrong" bash -c "'$danlu' train --bogus --json 2>/dev/null | python3 -m json.tool | grep -q '\"exit\": 2'"
mkfifo "$work/never"; "$danlu" tokenizer encode "$work/a" --json <>"$work/never" >"$work/o" 2>"$work/log" & pid=$!; sleep 1; kill -TERM $pid; wait $pid; rc=$?
check "a signal before the work begins ends it" bash -c "[ $rc -eq 130 ] && python3 -m json.tool $work/o"
refused "missing file" 1 "no such file|there is no" "$danlu" train --data "$work/none.txt" --out "$work/x1"
: > "$work/empty.txt";            refused "empty file" 1 "empty" "$danlu" train --data "$work/empty.txt" --out "$work/x2"
head -c 20000 /dev/urandom > "$work/bin.txt"; refused "binary file" 1 "binary" "$danlu" train --data "$work/bin.txt" --out "$work/x3"
{ head -c 3000 "$work/text.txt"; printf '\xff\xfe bad\n'; } > "$work/inv.txt"; refused "invalid utf-8" 1 "utf-8" "$danlu" train --data "$work/inv.txt" --out "$work/x4"
head -c 400000 /dev/zero | tr '\0' 'a' > "$work/long.txt"
check "one huge line" "$danlu" train --data "$work/long.txt" --tokenizer bytes --layers 1 --hidden 16 --heads 2 --context 16 --batch 2 --steps 2 --quiet --out "$work/x5"
head -c 300 "$work/text.txt" > "$work/short.txt"
refused "context longer than the data" 1 "context" "$danlu" train --data "$work/short.txt" --tokenizer char --context 4096 --steps 2 --out "$work/x6"
refused "heads that do not divide hidden" 1 "heads" "$danlu" train --data "$work/text.txt" --hidden 130 --heads 4 --steps 2 --out "$work/x7"
refused "not enough memory, before the first step" 1 "memory.*(batch|context)" train --model gpt --steps 2 --memory-limit 0.001 --out "$work/x8"
refused "a model far too large" 1 "memory|too large|too much" "$danlu" train --data "$work/text.txt" --tokenizer char --hidden 32768 --heads 32 --layers 200 --steps 2 --out "$work/x9"
refused "another vocabulary for a model that is there" 2 "tokenizer char makes a new vocabulary" "$danlu" train --data "$work/text.txt" --init "$work/a" --tokenizer char --out "$work/x9"
refused "unknown option" 2 "did you mean '--lr'" "$danlu" train --lernrate 1 --data "$work/text.txt"
refused "unknown command" 2 "did you mean" "$danlu" trian
refused "wrong number" 2 "steps" "$danlu" train --data "$work/text.txt" --steps many
refused "no data" 2 "data" "$danlu" train --out "$work/x10"
refused "no such tokenizer" 2 "tokenizer" "$danlu" train --data "$work/text.txt" --tokenizer nosuch --out "$work/x11"
refused "no such model" 1 "config.json|no such file|there is no" "$danlu" generate "$work/nosuch" --prompt x
check "nothing of a's was touched" cmp "$work/a/model.safetensors" "$work/b/model.safetensors"

echo "-- full disk"
mkdir -p "$work/small"
if mount -t tmpfs -o size=1500k tmpfs "$work/small" 2>/dev/null; then
    "$danlu" train --data "$work/text.txt" --tokenizer char --model gpt --layers 2 --hidden 64 --heads 4 --context 32 --batch 4 --steps 40 --save-every 5 --keep 3 --eval-every 0 --quiet --out "$work/small/r" >"$work/out" 2>"$work/full.log"
    check "a full disk is reported" bash -c "[ $? -eq 1 ] && cat $work/full.log && grep -qiE 'space|full|room' $work/full.log"
    check "what was written before is intact" bash -c "! ls -A $work/small/r/checkpoints | grep -q '^.tmp' "
    umount "$work/small"
else
    echo "      (no permission to mount a small file system: skipped)"
fi
(ulimit -f 200; "$danlu" train --data "$work/text.txt" --tokenizer char --model gpt --layers 2 --hidden 64 --heads 4 --context 32 --batch 4 --steps 10 --save-every 5 --quiet --out "$work/limit") >"$work/out" 2>"$work/log"
check "a file size limit is an error, not a signal" bash -c "[ $? -eq 1 ]"

echo "-- using the model"
g() { "$danlu" generate "$work/a" --prompt "the old" --max-tokens 20 --quiet "$@"; }
check "generate" bash -c "[ -n \"\$('$danlu' generate $work/a --prompt 'the old' --max-tokens 20 --temperature 0 --quiet)\" ]"
check "same seed, same text" test "$(g --seed 3 2>/dev/null)" = "$(g --seed 3 2>/dev/null)"
check "other seed, other text" test "$(g --seed 3 --temperature 1.5 2>/dev/null)" != "$(g --seed 4 --temperature 1.5 2>/dev/null)"
for m in llama lstm gru; do check "generate with $m" "$danlu" generate "$work/$m" --prompt "the" --max-tokens 8 --quiet; done
check "eval" bash -c "'$danlu' eval $work/a --data $work/text.txt --json 2>/dev/null | grep -q bits_per_byte"
check "quantize" "$danlu" quantize "$work/a" --to q8_0 --out "$work/q" --quiet
check "int8 loss is near the float loss" bash -c "
    f=\$('$danlu' eval $work/a --data $work/text.txt --json 2>/dev/null | sed 's/.*\"loss\": *\([0-9.]*\).*/\1/'); q=\$('$danlu' eval $work/q --data $work/text.txt --json 2>/dev/null | sed 's/.*\"loss\": *\([0-9.]*\).*/\1/')
    awk -v f=\$f -v q=\$q 'BEGIN {d = q - f; if (d < 0) d = -d; exit !(f > 0 && q > 0 && d < 0.02)}'"
check "generate from int8" "$danlu" generate "$work/q" --prompt "the old" --max-tokens 8 --quiet
check "inspect" "$danlu" inspect "$work/a" --graph
check "estimate" "$danlu" estimate "$work/a"
check "runs are recorded" bash -c "'$danlu' runs --json 2>/dev/null | grep -q finished"
check "a model of characters that no template fits: chat says so" bash -c "! '$danlu' chat $work/a --max-tokens 8 --quiet </dev/null 2>$work/chat.log && grep -q 'does not fit this model' $work/chat.log"
check "tokenizer round trip" bash -c "'$danlu' tokenizer train --data $work/text.txt --vocab 300 --out $work/tok --quiet && ids=\$('$danlu' tokenizer encode $work/tok 'the old furnace') && [ \"\$('$danlu' tokenizer decode $work/tok \$ids)\" = 'the old furnace' ]"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
