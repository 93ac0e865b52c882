#!/usr/bin/env bash
# Fusion as a user meets it: --fusion at every command, resuming with other rules, and the report of inspect.
#   tests/e2e/fusion.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh

loss_at() { sed -n "s/.*\"step\": *$2,.*/&/p; " "$1/log.jsonl" | sed -n 's/.*"loss": *\([0-9.eE+-]*\).*/\1/p' | head -n 1; }
close_to() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN {d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= t)}'; }
export -f danlu loss_at close_to; export danlu

awk 'BEGIN { srand(7); split("the old furnace a red elixir seven small stones one patient monk", w, " ");
  for (i = 0; i < 900; i++) { n = 4 + int(rand() * 6); s = ""; for (k = 0; k < n; k++) s = s (k ? " " : "") w[1 + int(rand() * 11)]; print s "." } }' > text.txt
tiny="--data text.txt --tokenizer char --layers 2 --hidden 32 --heads 4 --context 32 --batch 4 --lr 3e-3 --warmup 5 --dtype f32 --eval-every 0 --quiet"

echo "-- the switch"
check "train with all rules" danlu train $tiny --model llama --steps 20 --out on
for f in off swiglu -horizontal horizontal,swiglu on,-cse; do
    check "train --fusion=$f: the same loss" "danlu train $tiny --model llama --steps 20 --fusion=$f --out t$f && close_to \$(loss_at on 20) \$(loss_at t$f 20) 5e-5"
done
refused "an unknown rule" 2 "no fusion rule 'nosuch'; use on, off, or some of .*swiglu" danlu train $tiny --fusion=swiglu,nosuch --out x0
refused "a pass that is no rule" 2 "no fusion rule 'autodiff'" danlu generate on --prompt the --fusion=autodiff
danlu generate on --prompt "the old" --max-tokens 12 --temperature 0 > with.txt 2>log
check "generate --fusion=off: the same text" "danlu generate on --prompt 'the old' --max-tokens 12 --temperature 0 --fusion=off > without.txt && cmp with.txt without.txt"
check "eval, with rules and without" "a=\$(danlu eval on --data text.txt --json | sed 's/.*\"loss\": *\\([0-9.]*\\).*/\\1/'); b=\$(danlu eval on --data text.txt --fusion=off --json | sed 's/.*\"loss\": *\\([0-9.]*\\).*/\\1/'); close_to \$a \$b 1e-5"
check "estimate: without fusion it takes more memory" "a=\$(danlu estimate --vocab 32768 --json | sed 's/.*\"activations\": *\\([0-9]*\\).*/\\1/'); b=\$(danlu estimate --vocab 32768 --fusion=off --json | sed 's/.*\"activations\": *\\([0-9]*\\).*/\\1/'); test \$b -gt \$a"

echo "-- resuming with other rules"
check "straight" danlu train $tiny --model llama --steps 40 --save-every 20 --keep 9 --out straight
for f in off -horizontal on; do
    check "on to $f" "mkdir r$f && cp -r straight/. r$f && rm -rf r$f/checkpoints/step-*40 && danlu train --resume --quiet --fusion=$f --out r$f && close_to \$(loss_at straight 40) \$(loss_at r$f 40) 2e-4"
done
check "from off to on" "danlu train $tiny --model llama --steps 40 --save-every 20 --keep 9 --fusion=off --out off && rm -rf off/checkpoints/step-*40 && danlu train --resume --quiet --fusion=on --out off && close_to \$(loss_at straight 40) \$(loss_at off 40) 2e-4"
check "the same rules: the same bytes" cmp straight/model.safetensors ron/model.safetensors

echo "-- the report"
check "the table" "danlu inspect on --fusion > report && grep -qE 'attn_q, attn_k, attn_v +matmul +horizontal +E[01]' report && grep -qE 'silu, mul +swiglu +swiglu +E1' report && grep -qE '^swiglu +E1 +on +2 ' report"
check "why not" "grep -qE 'token_embd, softmax_ce.*not fused by head_ce because the vocabulary of [0-9]+ is below 4096' report"
check "a rule that is off" "danlu inspect on --fusion=-horizontal > report2 && grep -qE '^horizontal +E0/E1 +off +0 ' report2 && grep -qE 'not fused by swiglu because gate and up are not' report2"
check "off: nothing is fused" "danlu inspect on --fusion=off --json | grep -q '\"rules\": *\\[\\]' && ! danlu inspect on --fusion=off --json | grep -qE '\"class\": *\"E[0-9]\", *\"before\"'"
check "the graph that generates" "danlu inspect on --fusion --mode infer | grep -qE 'attn_q, attn_k, attn_v +matmul +horizontal +E0'"
check "profile: times, rates, limits" "danlu inspect on --fusion --profile --dtype f32 --threads 1 > prof && grep -qE 'one run takes .* without fusion and .* with it' prof && grep -q 'GFLOP/s' prof && grep -qE ' (f32|L1|L2|L3|memory)\$' prof"
check "json has its keys" "danlu inspect on --fusion --profile --json > r.json && for k in family mode groups original nodes rules class before after seconds flops_per_second share_of_limit binds not_fused because limits kernels; do grep -q \"\\\"\$k\\\"\" r.json || { echo \$k; exit 1; }; done"
check "a page by itself" "danlu inspect on --fusion --html page.html >/dev/null && grep -c '<svg' page.html | grep -qx 2 && ! grep -qE '<script|href=|src=|url\\(' page.html && grep -q '</html>' page.html"
for m in gpt lstm gru; do
    danlu train $tiny --model $m --steps 2 --out $m >log 2>&1 || bad "train $m"
    check "$m: both graphs, profiled" "danlu inspect $m --fusion --profile --threads 1 >/dev/null && danlu inspect $m --fusion --profile --mode infer --threads 1 > /dev/null"
done
check "an encoder" "danlu inspect $root/tests/golden/bert --fusion --profile --threads 1 > enc && grep -qE 'ffn_up, gelu +matmul +bias_act +E1' enc"
refused "an encoder is not trained" 2 "mode infer" danlu inspect "$root/tests/golden/bert" --fusion --mode train
refused "profile without fusion" 2 "without --fusion" danlu inspect on --profile
refused "report of an unknown rule" 2 "no fusion rule 'x'" danlu inspect on --fusion=x
refused "a page that cannot be written" 1 "nosuch" danlu inspect on --fusion --html nosuch/page.html

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
