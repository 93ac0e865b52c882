#!/usr/bin/env bash
# The commands that use a model: generate, chat, eval, quantize, inspect, estimate, embed.
#   tests/e2e/infer.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh

value() { awk -v k="\"$1\":" '{i = index($0, k); if (i) {v = substr($0, i + length(k)); sub(/[,}].*/, "", v); print v}}'; }    # first of each line
export -f danlu value; export danlu root

awk 'BEGIN { srand(7); split("the old furnace a red elixir seven small stones one patient monk", w, " ");
  for (i = 0; i < 900; i++) { n = 4 + int(rand() * 6); s = ""; for (k = 0; k < n; k++) s = s (k ? " " : "") w[1 + int(rand() * 11)]; print s "." } }' > text.txt
head -n 60 text.txt > held.txt
for m in gpt llama lstm gru; do
    danlu train --data text.txt --tokenizer bytes --model $m --layers 2 --hidden 64 --heads 4 --context 64 --batch 8 --lr 5e-3 --warmup 5 --steps 80 --eval-every 0 --save-every 0 --quiet --out $m >log 2>&1 || bad "train $m"
done

for m in gpt llama lstm gru; do
    check "$m: greedy does not depend on company, threads or chunks" "danlu generate $m -q --temperature 0 -n 20 --prompt 'the old' > one && danlu generate $m -q --temperature 0 -n 20 --threads 3 --prompt 'seven small stones' 'the old' 'a' --json > many && grep -q \"\$(head -n 1 one)\" <(sed -n 2p many)"
    check "$m: same seed, same text" "danlu generate $m -q -n 30 --seed 5 --prompt a > 1 && danlu generate $m -q -n 30 --seed 5 --threads 1 --prompt a > 2 && cmp 1 2"
    check "$m: another seed, another text" "danlu generate $m -q -n 30 --seed 6 --prompt a > 2 && ! cmp -s 1 2"
    check "$m: perplexity of a trained model" "danlu eval $m --data held.txt --json | value perplexity | awk '{exit !(\$1 > 1 && \$1 < 30)}'"
    check "$m: q8_0 loses less than 1 %" "danlu quantize $m --to q8_0 --out $m-q8 --json > q.json && a=\$(danlu eval $m --data held.txt --json | value loss) && b=\$(danlu eval $m-q8 --data held.txt --json | value loss) && awk -v a=\$a -v b=\$b 'BEGIN {d = (b - a) / a; exit !(d < 0.01 && d > -0.01)}'"
    check "$m: q8_0 is smaller" "awk -v a=\$(value bytes_before < q.json) -v b=\$(value bytes_after < q.json) 'BEGIN {exit !(b < 0.6 * a)}'"
    check "$m: q8_0 generates" "danlu generate $m-q8 -q -n 10 --prompt 'the old' | grep -q ."
    check "$m: chat" "printf 'hello\n/reset\nhello again\n/exit\n' | danlu chat $m -n 10 --json | grep -c '\"role\":\"assistant\"' | grep -qx 2"
done

check "chat feeds only what is new" "printf 'a\nb\n' | danlu chat llama -n 4 --json | value fed_tokens | sort -n | tail -n 1 | awk '{exit !(\$1 < 30)}'"
check "a stop string ends the text and is not shown" "danlu generate llama -n 200 --context 64 --prompt 'the' --stop . --json > s.json; grep -q '\"finish_reason\":\"stop\"' s.json && ! grep -q '\"text\":\"[^\"]*[.]' s.json"
check "a full context ends with length" "danlu generate llama -n 0 --ignore-eos --prompt 'the' --json | grep '\"finish_reason\":\"length\"'"
check "prompt from standard input, echoed" "printf 'the old' | danlu generate llama -q -n 5 --echo | grep -q '^the old'"
check "--stride says so" "danlu eval llama --data held.txt --stride 16 | grep -q 'sliding windows of 64 tokens, stride 16'"
check "batch size changes no result" "danlu eval llama --data held.txt --batch 1 --json | value loss > 1; danlu eval llama --data held.txt --batch 7 --json | value loss > 2; cmp 1 2"
check "inspect lists tensors" "danlu inspect llama-q8 | grep -q 'blk.0.attn_q.weight *q8_0'"
check "inspect prints graphs" "danlu inspect llama --graph | grep -q '; after all passes'"
check "inspect --json is one object" "danlu inspect gpt --json | grep -q '^{.*\"parameters\":[0-9]*.*}\$'"
check "estimate knows GPT-2" "danlu estimate --model gpt --layers 12 --hidden 768 --heads 12 --vocab 50257 --context 1024 --batch 1 --json | grep -q '\"total\":124439808'"
refused "no model" 1 "there is no model folder" danlu generate nowhere --prompt x
refused "unknown format" 2 "use one of: .*q8_0" danlu quantize llama --to q3 --out q3
refused "no room for the prompt" 1 "shorten the prompt" danlu generate llama --prompt "$(head -c 300 text.txt)"
refused "context beyond the model's" 1 "64 positions" danlu generate llama --prompt a --context 65
refused "quantised twice" 1 "already" danlu quantize llama-q8 --out again
refused "out is taken" 1 "already holds a model" danlu quantize llama --out gpt
refused "text in two places" 2 "use one" danlu generate llama --prompt a --prompt-file text.txt

for m in bert roberta; do
    cp "$root/tests/golden/$m/texts.txt" .
    check "embed $m: order, company, threads and rows change no byte" "danlu embed \$root/tests/golden/$m texts.txt -q --out a.f32 && tac texts.txt | danlu embed \$root/tests/golden/$m - -q --threads 1 --rows 40 --out b.f32 && for i in 0 1 2 3 4 5; do cmp -n 128 -i \$((i * 128)):\$(((5 - i) * 128)) a.f32 b.f32 || exit 1; done"
    check "embed $m: normalised vectors have length 1" "danlu embed \$root/tests/golden/$m texts.txt -q --normalize --pool cls | awk -F, '{s = 0; for (i = 1; i <= NF; i++) s += \$i * \$i; if (NF != 32 || s < 0.99999 || s > 1.00001) exit 1} END {exit NR != 6}'"
done
bert=$root/tests/golden/bert
check "embed --json: one object a sentence, one with --out" "danlu embed $bert texts.txt --json | grep -c '^{\"index\":[0-9]*,\"tokens\":[0-9]*,\"embedding\":\\[' | grep -qx 6 && danlu embed $bert texts.txt --out a.safetensors --json | grep -q '\"sentences\":6,\"width\":32'"
printf '\037\213\010zip' > zipped.txt; refused "embed: a file that is no text" 1 "compressed .gzip., not plain text" danlu embed $bert zipped.txt
printf 'caf\351\n' > latin1.txt; check "embed warns of bytes that are no characters" "danlu embed $bert latin1.txt 2>&1 >/dev/null | grep -q \"invalid UTF-8 in 'latin1.txt', line 1\""
check "embed counts what it cuts" "danlu embed $bert texts.txt --max-tokens 6 --out a.f32 2> w; grep -q '^.*[1-5] of 6 sentences are longer than 6 tokens' w"
check "embed: bf16 is close" "danlu embed $bert texts.txt -q --dtype bf16 --normalize > b; danlu embed $bert texts.txt -q --normalize > a; paste -d, a b | awk -F, '{s = 0; for (i = 1; i <= 32; i++) s += \$i * \$(i + 32); if (s < 0.999) exit 1}'"
check "embed: the pooler" "danlu embed $bert texts.txt -q --pool pooler | awk -F, '{for (i = 1; i <= NF; i++) if (\$i > 1 || \$i < -1) exit 1} END {exit NR != 6}'"
refused "embed: no text" 1 "no sentence" danlu embed "$bert" /dev/null
refused "embed: not an encoder" 1 "reads bert, distilbert" danlu embed llama texts.txt
refused "embed: more tokens than positions" 1 "takes 32 tokens" danlu embed "$bert" texts.txt --max-tokens 33
refused "embed: unknown file type" 2 "safetensors or .f32" danlu embed "$bert" texts.txt --out a.txt
mkdir -p tanh && cp "$bert"/* tanh/ && sed -i 's/"hidden_act": "gelu"/"hidden_act": "tanh"/' tanh/config.json
refused "embed: a key that danlu does not compute" 1 "'hidden_act'" danlu embed tanh texts.txt
refused "generate with an encoder" 1 "danlu embed" danlu generate "$bert" --prompt x

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
