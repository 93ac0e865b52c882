#!/bin/bash
# The main job, `make run`: real text -> tokenizer -> a small LLaMA -> int8 -> evaluation -> a sample of each.
#   DATA=FILE-OR-FOLDER make run     your own text
set -euo pipefail
BUILD=${BUILD:-build}
danlu=$BUILD/danlu
out=${OUT:-runs/first}
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -z "${NO_COLOR-}" ] && [ -t 2 ] || say() { printf '\n%s\n' "$*" >&2; }

# Text: the user's, then $DANLU_DATA, then English that is on the system through a Debian package.
find_text() {
    if [ -n "${DATA-}" ]; then
        [ -e "$DATA" ] || { echo "there is no '$DATA'; give DATA=FILE or DATA=FOLDER" >&2; exit 1; }
        echo "$DATA"
        return
    fi
    local d=${DANLU_DATA:-../shared/data}/text/en
    for f in "$d/tinystories_train.txt" "$d/tinyshakespeare.txt"; do
        [ -f "$f" ] && { echo "$f"; return; }
    done
    system_text
}

# fortunes: about 2.5 MB of English sayings and quotations (packages fortunes, fortunes-min).
system_text() {
    local dir=/usr/share/games/fortunes text=$BUILD/fortunes.txt
    [ -d "$dir" ] && [ -f "$dir/wisdom" ] || sh tools/deps.sh text >&2
    find "$dir" -type f ! -name '*.dat' ! -name '*.u8' | LC_ALL=C sort | while read -r f; do
        sed 's/^%$/<|endoftext|>/' "$f"
        echo '<|endoftext|>'
    done > "$text.tmp"
    mv "$text.tmp" "$text"
    echo "$text"
}

data=$(find_text)
rm -rf "$out" "$out-q8"
say "1. Training a tokenizer and a small LLaMA on $data"
"$danlu" train --data "$data" --model llama --tokenizer bpe --vocab "${VOCAB:-2048}" --layers 4 --hidden 192 --heads 6 --kv-heads 3 \
    --context 192 --batch 16 --steps "${STEPS:-600}" --lr 2e-3 --warmup 60 --eval-every 150 --out "$out"
say "2. Quantising to int8"
"$danlu" quantize "$out" --to q8_0 --out "$out-q8" | tail -n 1
say "3. Evaluating both on the held-out text"
"$danlu" eval "$out"
"$danlu" eval "$out-q8" --shards "$out/data"
prompt=${PROMPT:-Once upon a time}
say "4. What the float model says"
"$danlu" generate "$out" --prompt "$prompt" --max-tokens 100 --temperature 0.8 --top-k 40 --seed 1 --echo
say "5. What the int8 model says"
"$danlu" generate "$out-q8" --prompt "$prompt" --max-tokens 100 --temperature 0.8 --top-k 40 --seed 1 --echo
say "Next:"
cat >&2 <<END
  $danlu chat $out-q8                                talk to it
  DATA=your.txt make run                             your own text
  $danlu train --resume --steps 2000 --out $out      train longer
  $danlu train --help                                everything that can be set
  the loss curve: $out/loss.svg
END
