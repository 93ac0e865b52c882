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
check "with --json, stdout is a JSON value a line" 'python3 -c "
import json
lines = [json.loads(x) for x in open(\"j.txt\")]
assert [x.get(\"out\") for x in lines] == [\"rloo/1-sft\", \"rloo/2-rloo\", \"rloo\"] and lines[2][\"method\"] == \"rloo\", lines"'
check "a recipe of all of it" 'printf "{\"command\": \"align\", \"template\": \"zephyr\", \"pairs\": [\"pairs.jsonl\"], \"set\": [\"dpo.steps=2\"]}" >all.json && $danlu align base --recipe all.json --out told --quiet && test -s told/1-dpo/model.safetensors'

# A reward that is ill dies; its process gives up after a number of lines.
cat >ill.sh <<'END'
n=0; while read -r line; do n=$((n + 1)); [ -e ill ] && [ $n -gt $1 ] && exit 3; echo 0.$((${#line} % 10)); done
END
b='--template zephyr --sft chats.jsonl --method best --set sft.steps=20 --set best.n=4 --set best.max-new=8 --set best.streams=4 --set tune.steps=3 --quiet'
export b
touch ill
refused "best, stopped midway" 1 "rows so far are in 'half-best/2-best/best.jsonl'" "$danlu" align base $b --reward "command:sh ill.sh 100" --out half-best
rm ill
check "goes on" 'test -s half-best/2-best/best.jsonl && $danlu align base $b --reward "command:sh ill.sh 100" --out half-best && $danlu align base $b --reward "command:sh ill.sh 100" --out whole-best && cmp half-best/2-best/best.jsonl whole-best/2-best/best.jsonl && cmp half-best/3-tune/model.safetensors whole-best/3-tune/model.safetensors'

# 12 prompts are held out: measured before, two steps of 16 answers, and the reward dies while it measures after.
l='--data pairs.jsonl --template zephyr --max-new 8 --val-fraction 0.2 --steps 2 --lr 1e-3 --warmup 0 --quiet'
export l
for run in 'grpo --batch 2 --group 8' 'ppo --batch 4 --answers 4 --ema 0.9' 'ppo --batch 4 --answers 4 --lora-rank 4'; do
    export run folder=$(tr -dc 'a-z0-9' <<<"$run")
    touch ill
    refused "$run: the last measurement fails" 1 "saved as of step 2: go on with danlu ${run%% *} --resume $folder" "$danlu" $run ppo/1-sft $l --reward "command:sh ill.sh 50" --out $folder
    rm ill
    check "$run: gone on with, it is the run that nothing happened to" '$danlu ${run%% *} --resume $folder --quiet && $danlu $run ppo/1-sft $l --reward "command:sh ill.sh 50" --out $folder-whole && for f in samples.jsonl $(cd $folder && ls *.safetensors); do cmp $folder/$f $folder-whole/$f || exit 1; done; test -s $folder/report.html && [ $(wc -l <$folder/log.jsonl) -eq 2 ]'
done

refused "the mix goes with ppo" 2 "ptx is of ppo, not of rloo" "$danlu" align base --sft chats.jsonl --reward regex:yes --method rloo --ptx book.txt --out x0
refused "no reward" 2 "needs a reward" "$danlu" align base --sft chats.jsonl --prompts chats.jsonl --out x1
refused "no stage of that name" 2 "no STAGE.OPTION=VALUE" "$danlu" align base --pairs pairs.jsonl --set sgd.lr=1 --out x2
refused "no option of that name" 2 "unknown option 'speed' of danlu dpo|unknown option 'speed'; " "$danlu" align base --template zephyr --pairs pairs.jsonl --set dpo.speed=1 --out x3
refused "one that is nearly of that name, before any work" 2 "did you mean 'reward.lr'" "$danlu" align base $a --method ppo --set reward.learnrate=1 --out x5
refused "a value that does not fit" 2 "wrong value 'many' for --set 'ppo.steps=many'" "$danlu" align base $a --method ppo --set ppo.steps=many --out x5
refused "no value" 2 "lacks a value; write sft.lr=X" "$danlu" align base $a --method ppo --set sft.lr --out x5
refused "a stage of another method" 2 "there is no stage ppo with --method dpo; add --method ppo" "$danlu" align base --pairs pairs.jsonl --set ppo.steps=50 --out x5
refused "a stage that has no data" 2 "there is no stage sft without its data; add --sft" "$danlu" align base --pairs pairs.jsonl --set sft.steps=50 --out x5
refused "rloo is set as grpo" 2 "grpo \(that of rloo" "$danlu" align base --pairs pairs.jsonl --method rloo --set rloo.group=4 --out x5
refused "what align gives itself" 2 "gives --out itself" "$danlu" align base --pairs pairs.jsonl --set dpo.out=x6 --out x5
refused "--forget-eval where nothing measures it" 2 "dpo does not measure it" "$danlu" align base --pairs pairs.jsonl --forget-eval book.txt --out x5
check "nothing was begun" '[ ! -e x2 ] && [ ! -e x3 ] && [ ! -e x5 ]'
refused "another seed in the same folder" 2 "stage sft in 'ppo/1-sft' was made with other options" "$danlu" align base $a $p --ptx book.txt --seed 2 --out ppo
check "another number of threads there" '$danlu align base $a $p --ptx book.txt --threads 1 --isa avx2 --out ppo'
refused "a stage that fails before its first step" 1 "unknown reward 'owl'" "$danlu" align base --template zephyr --reward owl --prompts pairs.jsonl --method grpo --out x7
check "does not block its folder" '$danlu align base --template zephyr --reward regex:yes --prompts pairs.jsonl --method grpo --set grpo.steps=1 --set grpo.batch=2 --set grpo.max-new=4 --out x7'
refused "no model" 1 "no model|no file|not there|does not exist" "$danlu" align gone --pairs pairs.jsonl --out x4

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
