#!/usr/bin/env bash
# danlu tokenizer as a user runs it: train, encode, decode, info, compare.
#   tests/e2e/tokenizer.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

# a text of words whose use falls with their rank, and one that has everything
awk 'BEGIN { srand(1); split("ba con du er fi ing ka lo mi na tion st ver re the un", s, " ");
    for (i = 0; i < 30000; i++) { r = 1 + int(rand() * rand() * 300); w = ""; x = r; n = 1 + r % 4;
        for (k = 0; k < n; k++) { w = w s[1 + x % 16]; x = int(x * 7 / 3) + k }
        printf "%s%s", w, i % 19 == 0 ? ".\n" : " " } }' >text.txt
printf 'Hello  world, caf\303\251 \346\261\211\345\255\227 \360\237\230\200!\tend\n' >odd.txt
printf '{"text": "the first"}\n{"text": "and the second"}\n' >docs.jsonl

for kind in bpe unigram sp-bpe wordpiece char bytes; do
    data="--data text.txt odd.txt"
    [ $kind = bytes ] && data=
    size="--vocab 700"
    check "train $kind" "\$danlu tokenizer train $data --kind $kind $size --out $kind --quiet && test -s $kind/tokenizer.json"
    check "$kind: any number of threads" "\$danlu tokenizer train $data --kind $kind $size --threads 3 --out again --quiet && cmp $kind/tokenizer.json again/tokenizer.json"
    check "$kind: info names the algorithm" "\$danlu tokenizer info $kind | grep -q '^algorithm   [a-zA-Z]'"
    check "$kind: info --json" "\$danlu tokenizer info $kind --data text.txt --json | grep -q bytes_per_token"
done
for kind in bpe char bytes; do
    check "$kind: decoding gives the text back" "\$danlu tokenizer encode $kind <odd.txt | \$danlu tokenizer decode $kind | cmp - odd.txt"
done
for kind in unigram sp-bpe; do
    check "train $kind for every text, with SentencePiece's file" "\$danlu tokenizer train --data text.txt --kind $kind --vocab 700 --byte-fallback --normalisation none --format sentencepiece --out exact-$kind --quiet"
    check "$kind: decoding gives the text back" "\$danlu tokenizer encode exact-$kind/tokenizer.model <odd.txt | \$danlu tokenizer decode exact-$kind/tokenizer.model | cmp - odd.txt"
    check "$kind: both files give the same ids" "\$danlu tokenizer encode exact-$kind/tokenizer.model --data text.txt >a && \$danlu tokenizer encode exact-$kind/tokenizer.json --data text.txt >b && cmp a b"
done

check "encode: text and input are the same" '$danlu tokenizer encode bpe "the unthe" >a && printf "the unthe" | $danlu tokenizer encode bpe >b && cmp a b'
check "encode --pieces --offsets: begin and end" '$danlu tokenizer encode bytes "ab" --pieces --offsets | awk "NR == 2 && \$2 == 1 && \$3 == 2 { ok = 1 } END { exit !ok }"'
check "encode --data: one line a document" '$danlu tokenizer encode bpe --data docs.jsonl >a && test "$(wc -l <a)" = 2 && $danlu tokenizer encode bpe "and the second" | cmp - <(tail -n 1 a)'
check "encode --data --json: file and ids" '$danlu tokenizer encode bpe --data docs.jsonl --json | grep -q "\"file\": *\".*docs.jsonl\""'
check "control tokens only when asked" '$danlu tokenizer encode bpe "<|endoftext|>" >a && $danlu tokenizer encode bpe "<|endoftext|>" --special >b && test "$(wc -w <b)" = 1 && test "$(wc -w <a)" -gt 1'
check "decode --skip-special" 'test "$($danlu tokenizer encode bpe "the<|endoftext|>re" --special | $danlu tokenizer decode bpe --skip-special)" = there'
check "encode --wrap: [CLS] and [SEP]" '$danlu tokenizer encode wordpiece "the" --wrap | grep -q "^2 .* 3$"'
check "a long input streams" 'for i in 1 2 3 4 5 6 7 8; do cat text.txt; done >long.txt && $danlu tokenizer encode bpe <long.txt | $danlu tokenizer decode bpe | cmp - long.txt'
check "compare: a row for each" '$danlu tokenizer compare bpe exact-unigram bytes --data text.txt >a && grep -q "^bpe .*merge-list BPE" a && grep -q "^exact-unigram .*unigram" a && grep -q "^bytes .*1\.000" a'
check "compare --json" 'test "$($danlu tokenizer compare bpe char --data text.txt --json | grep -c tokens_per_word)" = 2'

refused "train without text" 2 "give it with --data" "$danlu" tokenizer train --out none
refused "a vocabulary that is too small" 1 "too small" "$danlu" tokenizer train --data text.txt odd.txt --kind unigram --byte-fallback --vocab 257 --out none
refused "an option of another kind" 2 "is for --kind" "$danlu" tokenizer train --data text.txt --kind bpe --byte-fallback --out none
refused "SentencePiece's file of another kind" 2 "is for unigram" "$danlu" tokenizer train --data text.txt --format sentencepiece --out none
refused "wrong ids" 1 "wrong token id" "$danlu" tokenizer decode bpe 5 900000
refused "text and --data" 2 "give one of them" "$danlu" tokenizer encode bpe text --data text.txt
refused "compare without a text" 2 "data" "$danlu" tokenizer compare bpe char

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
