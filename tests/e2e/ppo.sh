#!/usr/bin/env bash
# danlu ppo as a user runs it: all weights and adapters, the pre-training mix, going on, what is refused.
#   tests/e2e/ppo.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

awk 'BEGIN { srand(1); for (i = 0; i < 2000; i++) printf "the %s %s the %s.\n", i % 3 ? "cat" : "dog", i % 2 ? "sees" : "likes", i % 5 ? "bird" : "fish" }' >book.txt
awk 'BEGIN { for (i = 0; i < 40; i++) printf "{\"prompt\":\"does the %s like fish, %d?\"}\n", i % 2 ? "cat" : "dog", i }' >prompts.jsonl
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"does the %s like fish, %d?\",\"completion\":\"%s\"}\n", i % 2 ? "cat" : "dog", i, i % 4 < 2 ? "yes" : "it likes birds" }' >chats.jsonl
check "a model that answers" '$danlu train --data book.txt --layers 2 --hidden 32 --heads 2 --context 128 --vocab 300 --steps 20 --batch 4 --out base --quiet && $danlu finetune base --data chats.jsonl --template zephyr --steps 60 --batch 16 --lr 5e-3 --out chat --quiet'

p='--data prompts.jsonl --template zephyr --reward regex:yes --missing-eos-penalty 1 --max-new 16 --batch 8 --answers 4 --kl-beta 0.01'
export p
check "all weights, with the pre-training mix" '$danlu ppo chat $p --steps 8 --lr 3e-3 --ptx book.txt --ptx-coef 0.5 --forget-eval book.txt --val-fraction 0.2 --out full --json >r.json && test -s full/model.safetensors && test -s full/report.json'
check "the reward rose" 'python3 -c "
import json
log = [json.loads(l) for l in open(\"full/log.jsonl\")]
a, b = log[0][\"objective/scores\"], log[-1][\"objective/scores\"]
assert len(log) == 8 and b > a + 0.2, (a, b)
assert json.load(open(\"r.json\"))[\"forgetting\"][\"sequences\"] > 10"'
check "in the first minibatch of every update the ratio is 1 and approxkl 0, exactly" 'python3 -c "
import json
for l in open(\"full/log.jsonl\"):
    x = json.loads(l)
    assert x[\"val/first_ratio\"] == 1 and x[\"val/first_approxkl\"] == 0, x
    assert x[\"policy/approxkl_avg\"] > 0 and abs(x[\"objective/rlhf_reward\"] - x[\"objective/scores\"] - x[\"objective/non_score_reward\"]) < 1e-9, x"'
check "adapters over one base, a moving average, softer answers" '$danlu ppo chat $p --steps 4 --lr 1e-2 --lora-rank 4 --ema 0.5 --temperature 0.8 --out lora --quiet && test -s lora/adapter_model.safetensors && ! test -e lora/model.safetensors && $danlu generate lora --prompt hi --max-tokens 2 --quiet'
check "what is written is the policy" 'python3 -c "
import json
names = list(json.loads(open(\"lora/adapter_model.safetensors\", \"rb\").read()[8:].split(b\"}}\")[0] + b\"}}\"))
assert not any(\"score\" in n for n in names) and len(names) > 10, names"
$danlu ppo chat $p --steps 8 --lr 1e-2 --lora-rank 4 --out adapter --quiet && $danlu ppo chat $p --steps 8 --lr 1e-2 --lora-rank 4 --merge --out merged --quiet && q="--data prompts.jsonl --template zephyr --reward regex:yes --max-new 16 --n 8 --json --quiet" &&
for m in chat adapter merged; do $danlu best $m $q --out $m.best >$m.json || exit 1; done; python3 -c "
import json
a, b, c = (json.load(open(m + \".json\"))[\"best_of\"][0][\"reward\"] for m in (\"chat\", \"adapter\", \"merged\"))
assert b > a + 0.2 and abs(b - c) < 0.05, (a, b, c)"'
check "the same seed, the same bytes, any threads" '$danlu ppo chat $p --steps 4 --lr 1e-2 --lora-rank 4 --ema 0.5 --temperature 0.8 --threads 3 --streams 5 --out again --quiet && cmp lora/adapter_model.safetensors again/adapter_model.safetensors'
check "stopped, it goes on to the same bytes" '$danlu ppo chat $p --steps 4 --lr 1e-2 --lora-rank 4 --ema 0.5 --temperature 0.8 --save-every 2 --out stopped --quiet && rm stopped/adapter_* stopped/report.json && rm -rf stopped/checkpoints/step-*4 && $danlu ppo --resume stopped --quiet && cmp lora/adapter_model.safetensors stopped/adapter_model.safetensors && test "$(wc -l <stopped/log.jsonl)" -eq 4'
check "stopped by a signal, it says how to go on" 'timeout --foreground -s INT 1 $danlu ppo chat $p --steps 100000 --lora-rank 4 --out sig --quiet 2>s.txt; grep -q "go on with danlu ppo --resume sig" s.txt'
check "adaptive KL, a limit of it" '$danlu ppo chat $p --steps 9 --lr 1e-2 --kl-target 1 --kl-horizon 100 --max-kl 0.5 --out far 2>&1 | grep -q "more than --max-kl 0.5"'
first_kl() { # DIR MOST: what the policy is off the reference before it has learnt
    python3 -c "import json, sys; x = json.loads(open(sys.argv[1] + '/log.jsonl').readline())['objective/kl']; assert abs(x) < float(sys.argv[2]), x" "$1" "$2"
}
export -f first_kl
check "all weights of an adapter's folder: the reference has the adapter, too" '$danlu finetune base --data chats.jsonl --template zephyr --lora-rank 4 --steps 30 --batch 16 --lr 2e-2 --out tuned --quiet && $danlu ppo tuned $p --steps 1 --out from-adapter --quiet && first_kl from-adapter 1e-3'
check "a model stored in bf16, products in f32: the reference is the policy" '$danlu convert chat half --dtype bf16 --quiet && $danlu ppo half $p --steps 1 --dtype f32 --out from-half --quiet && first_kl from-half 1e-6'
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"does the %s like fish, %d?\",\"chosen\":\"yes\",\"rejected\":\"it likes birds\"}\n", i % 2 ? "cat" : "dog", i }' >pairs.jsonl
check "a reward model is the critic, with and without a weight behind it" '$danlu reward chat --data pairs.jsonl --template zephyr --lora-rank 4 --steps 5 --batch 8 --lr 1e-3 --out rm --quiet && for w in rm rm:1; do $danlu ppo chat $p --reward model:$w --steps 1 --out critic-$w --quiet || exit 1; done; cmp critic-rm/model.safetensors critic-rm:1/model.safetensors'
check "an adapter as the critic of all weights keeps its head" '$danlu finetune merge rm --out rm-merged --quiet && for m in rm rm-merged; do $danlu ppo chat $p --value $m --steps 1 --out value-$m --quiet || exit 1; done; cmp value-rm/model.safetensors value-rm-merged/model.safetensors'
refused "a reward that is none" 1 "unknown reward 'cheer'" "$danlu" ppo chat --data prompts.jsonl --template zephyr --reward cheer --out x1
refused "no room for a prompt" 1 "leaves no room|longer|too long" "$danlu" ppo chat --data prompts.jsonl --template zephyr --reward length:1-2 --max-new 128 --out x2
refused "the mix at another temperature" 2 "goes with --temperature 1" "$danlu" ppo chat $p --temperature 0.5 --ptx book.txt --out x3
refused "a critic that is not there" 1 "no model folder 'gone'" "$danlu" ppo chat $p --value gone --out x4
refused "a reward command that answers garbage" 1 "reward|command" "$danlu" ppo chat --data prompts.jsonl --template zephyr --reward 'command:sed -u s/.*/garbage/' --max-new 8 --steps 1 --out x5
refused "a learning rate that is far too high" 1 "lower --lr|not finite|became" "$danlu" ppo chat $p --steps 6 --lr 1000 --schedule constant --warmup 0 --clip 0 --out x6

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
