#!/usr/bin/env bash
# danlu align as a user runs it: all stages, each way to end, going on, what is refused.
#   tests/e2e/align.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

awk 'BEGIN { srand(1); for (i = 0; i < 1500; i++) printf "the %s %s the %s.\n", i % 3 ? "cat" : "dog", i % 2 ? "sees" : "likes", i % 5 ? "bird" : "fish" }' >book.txt
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"does the %s like fish, %d?\",\"completion\":\"%s\"}\n", i % 2 ? "cat" : "dog", i, i % 4 < 2 ? "yes" : "it likes birds" }' >chats.jsonl
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"does the %s like fish, %d?\",\"chosen\":\"yes\",\"rejected\":\"it likes birds\"}\n", i % 2 ? "cat" : "dog", i }' >pairs.jsonl
check "a base model" '$danlu train --data book.txt --layers 2 --hidden 32 --heads 2 --context 128 --vocab 300 --steps 20 --batch 4 --out base --quiet'

a='--template zephyr --sft chats.jsonl --pairs pairs.jsonl --forget-eval book.txt --set sft.steps=40 --set sft.lr=5e-3 --set reward.steps=20 --set reward.lr=5e-3'
p='--set ppo.steps=3 --set ppo.batch=4 --set ppo.max-new=12 --set ppo.val-fraction=0.2'
export a p
check "dialogues, a reward model, PPO with the pre-training mix" '$danlu align base $a $p --ptx book.txt --out ppo >r.txt && test -s ppo/1-sft/model.safetensors && test -s ppo/2-reward/model.safetensors && test -s ppo/3-ppo/model.safetensors && grep -q "^reward" r.txt'
check "one report of all of them" 'python3 -c "
import json
r = json.load(open(\"ppo/report.json\"))
assert [s[\"stage\"] for s in r[\"stages\"]] == [\"sft\", \"reward\", \"ppo\"] and r[\"final\"] == \"ppo/3-ppo\" and r[\"method\"] == \"ppo\", r
assert r[\"stages\"][2][\"report\"][\"forgetting\"][\"sequences\"] > 5
page = open(\"ppo/report.html\").read()
assert \"Calibration on held-out pairs\" in open(\"ppo/2-reward/report.html\").read() or len(r[\"stages\"][1][\"report\"][\"eval\"][\"calibration\"]) < 2
assert page.count(\"<svg\") > 5 and \"objective/kl\" in page and \"http://\" not in page.replace(\"http://www.w3.org\", \"\")"'
check "the same again does nothing again" '$danlu align base $a $p --ptx book.txt --out ppo >r2.txt 2>log2 && [ $(grep -c "done before" log2) -eq 3 ]'
check "stopped between stages, it goes on to the same bytes" 'cp -r ppo half && rm -r half/3-ppo half/report.* && sed -i "s,ppo/,half/,g" half/*/arguments.json && $danlu align base $a $p --ptx book.txt --out half --quiet && cmp ppo/3-ppo/model.safetensors half/3-ppo/model.safetensors'
refused "other options in the same folder" 2 "stage reward in 'ppo/2-reward' was made with other options" "$danlu" align base $a $p --ptx book.txt --set reward.batch=7 --out ppo
check "preferences alone: dpo, through adapters" '$danlu align base --template zephyr --pairs pairs.jsonl --lora-rank 4 --set dpo.steps=3 --out dpo --quiet && test -s dpo/1-dpo/model.safetensors'
check "a verifier: grpo" '$danlu align base --template zephyr --sft chats.jsonl --reward regex:yes --set sft.steps=20 --method rloo --set grpo.steps=2 --set grpo.batch=2 --set grpo.max-new=8 --out rloo --json --quiet >j.txt && tail -n 1 j.txt | grep -q "\"method\": *\"rloo\""'
check "the best of some answers" '$danlu align base --template zephyr --sft chats.jsonl --reward regex:yes --method best --set sft.steps=20 --set best.n=4 --set best.max-new=8 --set tune.steps=3 --out best --quiet && test -s best/2-best/best.jsonl && test -s best/3-tune/model.safetensors'
refused "no reward" 2 "needs a reward" "$danlu" align base --sft chats.jsonl --prompts chats.jsonl --out x1
refused "no stage of that name" 2 "no STAGE.OPTION=VALUE" "$danlu" align base --pairs pairs.jsonl --set sgd.lr=1 --out x2
refused "no option of that name" 2 "unknown option" "$danlu" align base --template zephyr --pairs pairs.jsonl --set dpo.speed=1 --out x3
refused "no model" 1 "no model|no file|not there|does not exist" "$danlu" align gone --pairs pairs.jsonl --out x4

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
