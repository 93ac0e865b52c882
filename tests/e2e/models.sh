#!/usr/bin/env bash
# Model files: GGUF, llama2.c, folders; convert and inspect; damaged files and files that are no models.
#   tests/e2e/models.sh [BUILD]
# Runs on text it makes itself, and on stories260K where DANLU_DATA (default ../shared/data) has it.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
data=$(realpath -m "${DANLU_DATA:-../shared/data}")
. tests/e2e/lib.sh
export -f danlu; export danlu root

awk 'BEGIN { srand(7); split("the old furnace a red elixir seven small stones one patient monk", w, " ");
  for (i = 0; i < 900; i++) { n = 4 + int(rand() * 6); s = ""; for (k = 0; k < n; k++) s = s (k ? " " : "") w[1 + int(rand() * 11)]; print s "." } }' > text.txt
danlu tokenizer train --data text.txt --vocab 300 --out tok --quiet >log 2>&1 || bad "train a tokenizer"
for m in gpt llama; do
    danlu train --data text.txt --tokenizer tok --model $m --layers 2 --hidden 64 --heads 4 --context 64 --batch 8 --lr 5e-3 --warmup 5 --steps 60 --eval-every 0 --save-every 0 --quiet --out $m >log 2>&1 || bad "train $m"
    danlu generate $m -q --temperature 0 -n 30 --prompt 'the old' > $m.txt 2>log
    check "$m: to GGUF" "danlu convert $m $m.gguf -q"
    check "$m: the GGUF file gives the same text" "danlu generate $m.gguf -q --temperature 0 -n 30 --prompt 'the old' | cmp - $m.txt"
    check "$m: back to a folder, the same bytes" "danlu convert $m.gguf $m-back -q && cmp $m/model.safetensors $m-back/model.safetensors && cmp $m/tokenizer.json $m-back/tokenizer.json"
    check "$m: and to GGUF again, the same bytes" "danlu convert $m-back $m-2.gguf -q && cmp $m.gguf $m-2.gguf"
    for t in f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q3_k q6_k iq4_nl; do
        check "$m: $t generates" "danlu convert $m $m-$t.gguf --dtype $t -q && danlu generate $m-$t.gguf -q --temperature 0 -n 8 --prompt 'the old' | grep -q ."
    done
    check "$m: rows that the blocks do not fit are named" "danlu convert $m $m-q4_k.gguf --dtype q4_k --json | grep -q '\"token_embd.weight\":\"q5_0\"'"
    check "$m: shards" "danlu convert $m $m-shards --shard-size 100k -q && ls $m-shards | grep -q 'model-00002-of-' && danlu generate $m-shards -q --temperature 0 -n 30 --prompt 'the old' | cmp - $m.txt"
    check "$m: shards joined again" "danlu convert $m-shards $m-joined -q && danlu generate $m-joined -q --temperature 0 -n 30 --prompt 'the old' | cmp - $m.txt"
done
check "bf16 there and back" "danlu convert llama b16 --dtype bf16 -q && danlu convert b16 b16.gguf -q && danlu convert b16.gguf b16-2 -q && danlu convert b16-2 b16-3.gguf -q && cmp b16.gguf b16-3.gguf"
check "inspect a folder" "danlu inspect llama | grep -q 'blk.0.attn_q.weight'"
check "inspect GGUF" "danlu inspect llama.gguf | grep -q 'llama.block_count'"
check "inspect safetensors" "danlu inspect llama/model.safetensors | grep -q 'model.norm.weight'"
check "inspect config.json, as JSON" "danlu inspect llama/config.json --json | grep -q '\"key\":\"hidden_size\"'"
check "inspect tokenizer.json" "danlu inspect llama/tokenizer.json | grep -q 'tokens'"

head -c 60000 llama.gguf > cut.gguf
refused "a truncated GGUF file: what is good, and where it ends" 1 "at byte 60000: truncated" danlu inspect cut.gguf
check "its keys and whole tensors are listed" "grep -q 'not whole' out && grep -q 'llama.block_count' out"
refused "a truncated GGUF file is no model" 1 "truncated" danlu generate cut.gguf --prompt a
head -c 60000 llama/model.safetensors > cut.safetensors
refused "a truncated safetensors file" 1 "truncated" danlu inspect cut.safetensors
check "its tensors are listed" "grep -q 'not whole' out"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' > lfs.gguf
refused "a Git LFS pointer" 1 "git lfs pull" danlu generate lfs.gguf --prompt a
printf '<!DOCTYPE html><html></html>' > page.safetensors
refused "a web page" 1 "web page" danlu inspect page.safetensors
printf 'PK\3\4rest of a zip' > pytorch_model.bin
refused "a PyTorch checkpoint" 1 "safetensors" danlu generate pytorch_model.bin --prompt a
: > empty.gguf
refused "an empty file" 1 "empty" danlu inspect empty.gguf
refused "no such file" 1 "no model folder" danlu generate none.gguf --prompt a
refused "what is there is kept" 1 "already holds a model" danlu convert llama gpt
refused "blocks into a folder" 2 "gguf" danlu convert llama q --dtype q4_0

stories=$data/ckpt/stories260K
if [ -f "$stories/stories260K.bin" ]; then
    want="Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    export stories want
    check "stories260K: the documented greedy text" "danlu generate \$stories/stories260K.bin -q --temperature 0 -n 255 --echo --prompt 'Once upon a time' > s.txt && sed -n '/^Once upon a time, there/,/^Lily didn/p' \$stories/stories260K.md | head -n 4 | head -c -1 > doc.txt && head -c \$(wc -c < doc.txt) s.txt | cmp - doc.txt && head -n 1 s.txt | grep -qxF \"\$want\""
    check "stories260K: as GGUF the same text" "danlu convert \$stories/stories260K.bin s.gguf -q && danlu generate s.gguf -q --temperature 0 -n 255 --echo --prompt 'Once upon a time' | cmp - s.txt"
    check "stories260K: as a folder and back the same file" "danlu convert s.gguf s-hf -q && danlu convert \$stories/stories260K.bin s2-hf -q && cmp s-hf/model.safetensors s2-hf/model.safetensors"
    check "stories260K: a folder from either, and GGUF from that folder, the same text" "for m in s-hf s2-hf; do danlu generate \$m -q --temperature 0 -n 255 --echo --prompt 'Once upon a time' | cmp - s.txt || exit 1; done; danlu convert s2-hf s3.gguf -q && danlu generate s3.gguf -q --temperature 0 -n 255 --echo --prompt 'Once upon a time' | cmp - s.txt"
    check "inspect llama2.c" "danlu inspect \$stories/stories260K.bin | grep -q 'blk.4.ffn_down.weight'"
else
    echo "      (no stories260K below $data: skipped)"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
