#!/usr/bin/env bash
# danlu reward as a user runs it: pairs and ranked answers, the control, scoring, judging, an adapter, going on, what is refused.
#   tests/e2e/reward.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

awk 'BEGIN { for (i = 0; i < 3000; i++) printf "the %s %s the %s.\n", i % 3 ? "cat" : "dog", i % 2 ? "sees" : "likes", i % 5 ? "bird" : "fish" }' >book.txt
awk 'BEGIN { for (i = 0; i < 120; i++) printf "{\"prompt\":\"what does the %s like, %d?\",\"chosen\":\"fish %d\",\"rejected\":\"bird %d\",\"margin\":%d}\n",
    i % 2 ? "cat" : "dog", i, i % 7, i % 5, i % 2 }' >pairs.jsonl
check "a base model" '$danlu train --data book.txt --layers 2 --hidden 64 --heads 2 --context 96 --vocab 300 --steps 30 --batch 8 --out base --quiet'

check "pairs" '$danlu reward base --data pairs.jsonl --epochs 2 --batch 8 --lr 1e-3 --center 0.01 --val-fraction 0.2 --out rm --json >r.json && grep -q "\"mean_reward\"" rm/log.jsonl && test -s rm/recipe.json'
check "the report: accuracy with its interval, margins, calibration, length" 'python3 -c "
import json
r = json.load(open(\"r.json\")); e = r[\"eval\"]
assert e[\"accuracy\"] > 0.9 and e[\"accuracy_interval\"][0] > 0.5 and e[\"pairs\"] == 24, r
assert [l[\"from\"] for l in e[\"by_margin\"]] == [0, 1] and sum(b[\"pairs\"] for b in e[\"calibration\"]) == 24 and abs(e[\"length\"][\"correlation\"]) <= 1, e
assert abs(e[\"mean_reward\"]) < 0.3, e"'
check "transformers would find its head" 'grep -q LlamaForSequenceClassification rm/config.json && grep -q "\"num_labels\": 1" rm/config.json && grep -q reward_bias rm/config.json'
check "the same seed, the same bytes, any threads" '$danlu reward base --data pairs.jsonl --epochs 2 --batch 8 --lr 1e-3 --center 0.01 --val-fraction 0.2 --threads 3 --out again --quiet >o && cmp rm/model.safetensors again/model.safetensors'
check "score: text" '$danlu reward score rm --data pairs.jsonl --quiet >s.txt && [ "$(wc -l <s.txt)" -eq 120 ] && awk -F "\t" "NF != 3 || \$2 <= \$3 { bad++ } END { exit bad > 6 }" s.txt'
check "score: JSON, from standard input" '$danlu reward score rm --data - --json --quiet <pairs.jsonl | python3 -c "
import json, sys
got = [json.loads(l) for l in sys.stdin]; want = [l.split() for l in open(\"s.txt\")]
assert len(got) == 120 and all(abs(g[\"chosen\"] - float(w[1])) < 1e-6 and g[\"line\"] == int(w[0]) for g, w in zip(got, want))"'
check "eval" '$danlu reward eval rm --data pairs.jsonl --json --quiet | python3 -c "import json, sys; assert json.load(sys.stdin)[\"accuracy\"] > 0.9"'
check "the control: shuffled labels teach nothing" '$danlu reward base --data pairs.jsonl --epochs 2 --batch 8 --lr 1e-3 --val-fraction 0.4 --shuffle-labels --out control --json >c.json && python3 -c "
import json; e = json.load(open(\"c.json\"))[\"eval\"]; assert e[\"accuracy_interval\"][0] <= 0.5 <= e[\"accuracy_interval\"][1], e"'

awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"what does the cat like, %d?\",\"completions\":[\"fish %d\",\"bird\",\"a dog %d\"],\"ranks\":[1,3,2]}\n", i, i % 7, i % 3 }' >ranked.jsonl
check "ranked answers, an adapter with its own head" '$danlu reward base --data ranked.jsonl --lora-rank 4 --epochs 3 --batch 8 --lr 5e-3 --val-fraction 0.2 --out adapter --json >a.json && ! test -e adapter/model.safetensors && python3 -c "
import json; e = json.load(open(\"a.json\"))[\"eval\"]; assert e[\"pairs\"] == 36 and e[\"prompts\"] == 12 and e[\"accuracy\"] > 0.8 and \"bootstrap\" in e[\"interval\"] and len(e[\"by_ranks_apart\"]) == 2, e"'
check "the adapter scores" '$danlu reward score adapter --data ranked.jsonl --json --quiet | head -n 1 | python3 -c "import json, sys; r = json.load(sys.stdin)[\"rewards\"]; assert len(r) == 3 and r[0] > r[2] > r[1], r"'

check "merged it gives the same scores, its bias included" '$danlu finetune merge adapter --out am --quiet && grep -q reward_bias am/config.json && for m in adapter am; do $danlu reward score $m --dtype f32 --data ranked.jsonl --quiet >$m.txt || exit 1; done; paste adapter.txt am.txt | awk "{ for (i = 2; i <= 4; i++) { off = \$i - \$(i + 4); if (off < -1e-3 || off > 1e-3) bad++ } } END { exit bad > 0 || NR != 60 }"'
check "stopped, it goes on to the same bytes" '
    { $danlu reward base --data pairs.jsonl --epochs 40 --batch 8 --lr 1e-3 --center 0.01 --val-fraction 0.2 --steps 300 --out stopped --quiet >o & pid=$!; until grep -q "\"step\":1[0-9]," stopped/log.jsonl 2>/dev/null; do sleep 0.05; done
    kill -INT $pid; wait $pid; rc=$?; [ $rc -eq 130 ] && ! test -e stopped/model.safetensors && ls stopped/checkpoints >/dev/null; } && $danlu reward --resume stopped --quiet >o && test -s stopped/model.safetensors'

printf '{"prompt":"a","chosen":"b","rejected":"b"}\n{"prompt":"a","chosen":"","rejected":"b"}\n{oops\n{"prompt":"a","completion":"b"}\n' | cat - pairs.jsonl >bad.jsonl
check "bad rows are named and counted" '$danlu reward base --data bad.jsonl --steps 1 --out x1 >o 2>log2; grep -q "4 of 124 rows were skipped: 2 bad row, 1 without answers to compare, 1 nothing to learn" log2 && grep -q "line 2 .* has an empty answer" log2'
head -n 4 bad.jsonl >none.jsonl
refused "no pairs at all" 1 "none of 4 rows is a pair" "$danlu" reward base --data none.jsonl --out x2
refused "pairs that are too long are not cut" 1 "more than 8: it is not cut" "$danlu" reward base --data pairs.jsonl --context 8 --out x3
refused "scoring with what is no reward model" 1 "is no reward model: it has no score head" "$danlu" reward score base --data pairs.jsonl
echo "{\"prompt\":\"a\"}" >p.jsonl
refused "scoring rows without answers" 1 "none of 1 rows has an answer" "$danlu" reward score rm --data p.jsonl
refused "two templates" 2 "raw is no template" "$danlu" reward base --data pairs.jsonl --raw --template zephyr --out x4

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
