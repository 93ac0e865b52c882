#!/usr/bin/env bash
# danlu quantize as a user meets it: every method, several formats, the report, a budget, and what is refused.
#   tests/e2e/quantize.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh

number() { sed "s/.*\"$2\": *\\(-*[0-9.e+-]*\\).*/\\1/" "$1"; }
perplexity() { danlu eval "$1" --data test.txt --json --quiet > eval.json && number eval.json perplexity; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 <= b + 0) }'; }
export -f danlu number perplexity below; export danlu

awk 'BEGIN { srand(7); split("the old furnace a red elixir seven small stones one patient monk", w, " ");
  for (i = 0; i < 2400; i++) { n = 4 + int(rand() * 6); s = ""; for (k = 0; k < n; k++) s = s (k ? " " : "") w[1 + int(rand() * 11)]; print s "." } }' > all.txt
head -n 1800 all.txt > text.txt; tail -n 400 all.txt > test.txt; tail -n 600 all.txt | head -n 200 > calibration.txt
danlu train --data text.txt --tokenizer bpe --vocab 300 --model llama --layers 2 --hidden 64 --heads 4 --ffn 128 --context 64 --batch 4 --lr 3e-3 --warmup 5 --steps 60 --eval-every 0 --quiet --out m >log 2>&1
base=$(perplexity m)
common="--sequences 24 --length 64 --quiet"

echo "-- formats"
for f in q8_0 q5_1 q4_0 q4_k int8 int8_asym int8_tensor; do
    check "$f" "danlu quantize m --to $f --out f-$f --quiet && below \$(perplexity f-$f) \$(awk 'BEGIN {print 1.2 * $base}')"
done
check "rows that no block divides get another format, which is said" "danlu quantize m --to q4_k --out k --quiet | grep -q 'no multiple of 256'"
check "w3_g32 shows what three bits cost" "danlu quantize m --to w3_g32 --out w3 --quiet | grep -q 'no storage format' && perplexity w3"
check "a GGUF file" "danlu quantize m --to q4_0 --out m.gguf --quiet && danlu generate m.gguf --prompt 'the old' --max-tokens 4 --temperature 0"
check "kept tensors stay" "danlu quantize m --to q4_0 --keep 'ffn_down|token_embd' --out keep --quiet --json > keep.json && [ \$(grep -o 'kept in float' keep.json | wc -l) -eq 3 ]"

echo "-- methods"
for m in mse imatrix gptq adaround signround awq smoothquant smoothquant+gptq awq+mse; do
    check "$m" "danlu quantize m --to q4_0 --method $m --calibration calibration.txt $common --out q-$m && below \$(perplexity q-$m) \$(awk 'BEGIN {print 1.2 * $base}')"
done
check "gptq, columns by size, every product in turn" "danlu quantize m --to q4_0 --method gptq --act-order --order products --calibration calibration.txt $common --out act && perplexity act"
check "an importance matrix in a file: the same bytes as from the text" "danlu quantize m --to q4_0 --calibration calibration.txt $common --save-imatrix im.dat --out im1 && danlu quantize m --to q4_0 --method imatrix --imatrix im.dat --quiet --out im2 && cmp im2/model.safetensors q-imatrix/model.safetensors"
check "the same in a GGUF file" "danlu quantize m --to q4_0 --calibration calibration.txt $common --save-imatrix im.gguf --out im3 && danlu quantize m --to q4_0 --method imatrix --imatrix im.gguf --quiet --out im4 && cmp im4/model.safetensors q-imatrix/model.safetensors"
check "one thread, the same bytes" "danlu quantize m --to q4_0 --method gptq --calibration calibration.txt $common --threads 1 --out q-one && cmp q-one/model.safetensors q-gptq/model.safetensors"
check "static activations" "danlu quantize m --to int8 --method smoothquant --activations static --calibrator mse --calibration calibration.txt $common --out static && below \$(perplexity static) \$(awk 'BEGIN {print 1.2 * $base}')"
check "quantization.json says how" "grep -q '\"method\": \"gptq\"' q-gptq/quantization.json && grep -q tokens_hash q-gptq/quantization.json"

echo "-- the report"
check "json" "danlu quantize m --to q4_0 --calibration calibration.txt --test test.txt --report $common --test-sequences 12 --json --out r > r.json && for k in perplexity_before perplexity_after interval kl_p99 same_top kl_alone sqnr_db prefill_before decode_after overlap tokens_hash; do grep -q \"\\\"\$k\\\"\" r.json || { echo \"no \$k\"; exit 1; }; done"
check "text" "danlu quantize m --to q4_0 --calibration calibration.txt --report $common --test-sequences 4 --out r2 > r2.txt && grep -q 'held back' r2.txt && grep -q 'KL alone' r2.txt && grep -q 'tokens/s' r2.txt"
check "the same text for both is warned of" "danlu quantize m --to q4_0 --method imatrix --calibration test.txt --test test.txt --report --sequences 400 --length 64 --test-sequences 8 --out r3 2>&1 >r3.txt | grep -q 'flatters'"
check "calibration text that is too short is warned of" "head -n 12 calibration.txt > short.txt; danlu quantize m --to q4_0 --method gptq --calibration short.txt --out sh 2>&1 >sh.txt | grep -qE '[0-9]+ tokens'"

echo "-- a budget"
budget=60000
check "mixed formats in a budget" "danlu quantize m --budget $budget --formats q8_0,q5_0,q4_0 --calibration calibration.txt $common --test-sequences 8 --json --out b > b.json && below \$(number b.json bytes_after) $budget && grep -q kl_predicted b.json && [ \$(stat -c %s b/model.safetensors) -lt \$(($budget + 8000)) ]"
refused "a budget that is too small" 1 "smallest formats offered take [0-9]+" danlu quantize m --budget 20000 --formats q4_0 --calibration calibration.txt $common --out x

echo "-- refused"
refused "an unknown format" 2 "unknown quantisation format 'q9'.*q4_0" danlu quantize m --to q9 --out x
refused "a format as llama.cpp spells it" 2 "did you mean 'q4_k'" danlu quantize m --to Q4_K_M --out x
refused "text of --compare for a method" 2 "data is for --compare; text for a method is --calibration" danlu quantize m --to q4_0 --data text.txt --out x
refused "an output of --compare" 2 "leave out --out" danlu quantize --compare --data text.txt --out x
: > file; refused "a file where the folder would be, before the work" 1 "no folder 'file' for --out" danlu quantize m --out file/x
refused "no folder for the file, before the work" 1 "no folder 'gone' for --out" danlu quantize m --out gone/x.gguf
refused "the model itself, by another name" 1 "is the model itself" danlu quantize m --force --out ./m/
refused "an unknown method" 2 "unknown method 'magic'.*gptq" danlu quantize m --method magic --out x
refused "no calibration text" 2 "give --calibration" danlu quantize m --to q4_0 --method gptq --out x
refused "a damaged importance matrix" 1 "no importance matrix" danlu quantize m --to q4_0 --method imatrix --imatrix text.txt --out x
refused "a model as importance matrix" 1 "not an importance matrix" danlu quantize m --to q4_0 --method imatrix --imatrix m.gguf --out x
refused "a text that is not there" 1 "none.txt" danlu quantize m --to q4_0 --method gptq --calibration none.txt --out x
refused "quantising twice" 1 "quantised already.*float model" danlu quantize f-q4_0 --to q8_0 --out x
refused "quantising int8 twice" 1 "quantised already" danlu quantize f-int8 --to q8_0 --out x
refused "a folder that holds a model" 1 "already holds a model" danlu quantize m --out f-q8_0
refused "the model itself" 1 "already holds|is the model itself" danlu quantize m --out m
refused "static activations of blocks" 2 "int8" danlu quantize m --to q4_0 --activations static --calibration calibration.txt --out x
refused "an unknown calibrator" 2 "calibrator" danlu quantize m --to int8 --activations static --calibrator nosuch --calibration calibration.txt --out x
refused "a bad expression" 2 "no regular expression" danlu quantize m --keep '(' --out x
refused "everything kept" 1 "no tensor of" danlu quantize m --keep '.*' --out x
refused "int8 in a GGUF file" 2 "GGUF has no form" danlu quantize m --to int8 --out x.gguf
refused "a report without text" 2 "give --test" danlu quantize m --report --out x
refused "formats without a budget" 2 "budget" danlu quantize m --formats q8_0 --out x
cp -r m nan; printf '\000\000\300\177' | dd of=nan/model.safetensors bs=1 seek=$(($(stat -c %s nan/model.safetensors) - 40000)) conv=notrunc 2>/dev/null
refused "a weight that is no number" 1 "'[a-z0-9_.]+'.*no finite number" danlu quantize nan --to q8_0 --out x
refused "convert refuses it, too" 1 "'[a-z0-9_.]+' holds a weight that is no finite number" danlu convert nan x.gguf --dtype q8_0
refused "eval says so" 1 "no finite number" danlu eval nan --data test.txt
refused "generate says so" 1 "no finite number" danlu generate nan --prompt "the old" --max-tokens 3
check "nothing was written" test ! -e x -a ! -e x.gguf

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
