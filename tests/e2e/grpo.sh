#!/usr/bin/env bash
# danlu grpo and danlu best as a user runs them: a tiny model that adds with mistakes learns from a verifier; going on, stopping, what is refused.
#   tests/e2e/grpo.sh [BUILD]
# Runs on data it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

awk 'BEGIN { srand(1); for (i = 0; i < 4000; i++) { a = int(10 * rand()); b = int(10 * rand()); c = rand() < 0.6 ? a + b : int(19 * rand()); printf "{\"text\":\"%d+%d=%d\"}\n", a, b, c } }' >sums.jsonl
awk 'BEGIN { for (i = 0; i < 100; i++) printf "{\"text\":\"%d+%d=\",\"answer\":\"%d\"}\n", i / 10, i % 10, int(i / 10) + i % 10 }' >prompts.jsonl
awk 'BEGIN { for (i = 0; i < 200; i++) printf "{\"text\":\"%d+%d=%d\"}\n", i % 10, i * 7 % 10, i % 10 + i * 7 % 10 }' >general.jsonl
rl="--data prompts.jsonl --reward exact --max-new 4 --group 8 --batch 8 --lr 1e-3 --val-fraction 0.2"
export rl
check "a base model" '$danlu train --data sums.jsonl --tokenizer char --model llama --layers 2 --hidden 48 --heads 2 --context 24 --steps 300 --batch 32 --lr 4e-3 --eval-every 0 --save-every 0 --out base --quiet'
check "grpo learns from a verifier, the forgetting is measured" '$danlu grpo base $rl --steps 40 --forget-eval general.jsonl --out g --json >g.json && python3 -c "
import json; r = json.load(open(\"g.json\")); lines = [json.loads(x) for x in open(\"g/log.jsonl\")]; mean = lambda v: sum(x[\"reward\"] for x in v) / len(v)
assert mean(lines[-10:]) > mean(lines[:10]) + 0.1, (mean(lines[:10]), mean(lines[-10:]))
assert all(x[\"policy/approxkl_avg\"] == 0 and x[\"val/ratio\"] == 1 for x in lines) and lines[0][\"kl\"] == 0 and lines[-1][\"kl\"] > 0
assert r[\"forgetting\"][\"sequences\"] > 0 and r[\"eval_reward\"][\"after\"][\"answers\"] == 20 and len(r[\"samples\"]) == 20 and len(lines) == 40"'
check "the names are those of TRL" 'for k in reward reward_std frac_reward_zero_std rewards/exact/mean kl entropy clip_ratio/low_mean completions/mean_length completions/clipped_ratio; do tail -n 1 g/log.jsonl | grep -q "\"$k\"" || exit 1; done; test $(wc -l <g/samples.jsonl) = 20'
for variant in rloo dr_grpo dapo; do check "variant $variant, an adapter" "\$danlu grpo base \$rl --variant $variant --lora-rank 4 --steps 3 --out v-$variant --quiet && test -s v-$variant/adapter_model.safetensors"; done
check "several epochs and minibatches, k2, other clip" '$danlu grpo base $rl --steps 3 --epochs-per-batch 2 --minibatches 2 --kl k2 --beta 0.1 --clip-range 0.1,0.3 --temperature 0.9 --mask-truncated --out m --quiet && grep -q "\"val/ratio\"" m/log.jsonl'
check "the same seed, the same bytes, any threads and streams" '$danlu grpo base $rl --lora-rank 4 --steps 6 --out a --quiet && $danlu grpo base $rl --lora-rank 4 --steps 6 --threads 3 --streams 5 --out b --quiet && cmp a/adapter_model.safetensors b/adapter_model.safetensors && cmp a/samples.jsonl b/samples.jsonl'
check "going on, bit for bit" '$danlu grpo base $rl --steps 9 --out whole --quiet && $danlu grpo base $rl --steps 9 --save-every 4 --out cut --quiet && rm cut/*.safetensors && $danlu grpo --resume cut --quiet && cmp whole/model.safetensors cut/model.safetensors'
d="$rl --variant dapo --batch 12 --seed 3"
export d
check "dynamic sampling: groups without a difference are made up for by further prompts" '$danlu grpo base $d --steps 8 --out dyn --json >dyn.json && python3 -c "
import json; r = json.load(open(\"dyn.json\"))[\"dynamic_sampling\"]; lines = [json.loads(x) for x in open(\"dyn/log.jsonl\")]
total = lambda k: sum(x[k] for x in lines)
assert r[\"rounds\"] == total(\"train/num_gen_batches\") > 8 and r[\"prompts\"] == total(\"prompts\") > 96 and r[\"flat_groups\"] == total(\"flat_groups\") > 0, r
assert all(x[\"learnt_answers\"] == 8 * min(12, x[\"prompts\"] - x[\"flat_groups\"]) and x[\"val/ratio\"] == 1 and x[\"policy/approxkl_avg\"] == 0 for x in lines)
assert r[\"short_steps\"] == sum(x[\"learnt_answers\"] < 96 for x in lines) and r[\"flat_steps\"] == 0
assert all(abs(x[\"frac_reward_zero_std\"] - x[\"flat_groups\"] / x[\"prompts\"]) < 1e-12 for x in lines)"'
check "gone on with in the middle: the same bytes, the same prompts" '$danlu grpo base $d --steps 8 --save-every 3 --out dyncut --quiet && rm -r dyncut/*.safetensors dyncut/report.* && $danlu grpo --resume dyncut --quiet && cmp dyn/model.safetensors dyncut/model.safetensors && python3 -c "
import json; a, b = ([json.loads(x) for x in open(d + \"/log.jsonl\")] for d in (\"dyn\", \"dyncut\"))
assert len(a) == 8 and all(x[k] == y[k] for x, y in zip(a, b) for k in x if k != \"rollout_tokens_per_second\")
assert json.load(open(\"dyn/report.json\"))[\"dynamic_sampling\"] == json.load(open(\"dyncut/report.json\"))[\"dynamic_sampling\"]"'
check "one round, with any variant; off" '$danlu grpo base $rl --steps 2 --dynamic-sampling 1 --out dyn1 --quiet && grep -q "train/num_gen_batches\": *1" dyn1/log.jsonl && $danlu grpo base $d --steps 2 --dynamic-sampling 0 --out dyn0 --quiet && ! grep -q num_gen_batches dyn0/log.jsonl && ! grep -q dynamic_sampling dyn0/report.json'
check "a punishment of answers that are nearly too long" '$danlu grpo base $rl --steps 2 --overlong-buffer 4 --out over --quiet && python3 -c "
import json
for x in map(json.loads, open(\"over/log.jsonl\")): assert abs(x[\"reward\"] - x[\"rewards/exact/mean\"] + x[\"completions/mean_length\"] / 4) < 1e-9, x"'
refused "a buffer longer than answers" 2 "more than the 4 tokens of --max-new" "$danlu" grpo base $rl --overlong-buffer 5 --steps 1 --out n6
check "stopped, it says how to go on" '$danlu grpo base $rl --steps 100000 --out stopped --quiet 2>s.txt & p=$!; for i in $(seq 300); do [ -s stopped/log.jsonl ] && break; sleep 0.1; done; kill -TERM $p; wait $p; [ $? = 130 ] && grep -q "go on with danlu grpo --resume stopped" s.txt'

cat >dies.sh <<'END'
n=0; while read -r line; do n=$((n + 1)); [ $n -gt 340 ] && exit 3; echo 0.$((n % 10)); done
END
cat >garbage.sh <<'END'
n=0; while read -r line; do n=$((n + 1)); if [ $n -gt 340 ]; then echo "well, rather good"; else echo 0.$((n % 10)); fi; done
END
echo 'while read -r line; do echo 1; done' >ones.sh
c="${rl/--reward exact/}"
refused "a reward command that dies mid-run: saved, and said" 1 "the run stops, saved as of step 5: go on with danlu grpo --resume dead" "$danlu" grpo base $c --reward "command:sh dies.sh" --steps 30 --out dead
refused "one that answers garbage" 1 "is no number: 'well, rather good'.*saved as of step 5" "$danlu" grpo base $c --reward "command:sh garbage.sh" --steps 30 --out garbled
check "a command, alone and beside another reward" '$danlu grpo base ${rl/--reward exact/} --reward "command:sh ones.sh x:0.5" --reward exact:0.5 --steps 2 --val-fraction 0 --out two >two.txt 2>&1 && grep -q "reward   command x 1$" two.txt && grep -q "reward   exact x 0.5" two.txt && grep -q "rewards/command/mean\":1.0" two/log.jsonl'
check "the same reward for every answer, in every round: said, counted, and it ends" '$danlu grpo base ${d/--reward exact/} --reward "command:sh ones.sh" --steps 2 --val-fraction 0 --dynamic-sampling 3 --out same >same.txt 2>&1 && grep -q "step 1: all of 36 groups have the same reward" same.txt && grep -q "2 of 2 steps had fewer than 12 with one, 2 none" same.txt && cmp <(tail -c 4096 base/model.safetensors) <(tail -c 4096 same/model.safetensors)'
sed 's/answer/unused/' prompts.jsonl >none.jsonl
refused "rewards that apply to nothing" 1 "no reward applies to any of" "$danlu" grpo base ${rl/prompts.jsonl/none.jsonl} --steps 2 --out n1
printf '{"text":"1+1+1+1+1+1+1+1+1+1+1+1+1="}\n{oops\n' | cat - prompts.jsonl >long.jsonl
check "prompts that are too long are named and counted" '$danlu grpo base ${rl/prompts.jsonl/long.jsonl} --steps 1 --out n2 2>log3; grep -q "2 of 102 rows were skipped: 1 bad row, 1 too long" log3 && grep -q "line 1 of" log3'
: >empty.jsonl
refused "no prompts" 1 "empty.jsonl' is empty" "$danlu" grpo base ${rl/prompts.jsonl/empty.jsonl} --steps 1 --out n3
refused "a reward that is none" 1 "unknown reward 'owl'" "$danlu" grpo base $c --reward owl --steps 1 --out n4
check "without --max-new answers have half the context" '$danlu grpo base --data prompts.jsonl --reward exact --group 2 --batch 2 --steps 1 --out fit >fit.txt 2>&1 && grep -q "at most 12 tokens, half of the context of 24" fit.txt && grep -q "\"max-new\": 12" fit/recipe.json'
refused "no room for a prompt" 1 "give a smaller --max-new, for example 12" "$danlu" grpo base ${rl/--max-new 4/--max-new 24} --steps 1 --out n7
refused "a clip that is none" 2 "not LOW or LOW,HIGH" "$danlu" grpo base $rl --clip-range 0.2,x --steps 1 --out n5
check "best of n: rows, pairs, the curve" '$danlu best base --data prompts.jsonl --reward exact --max-new 4 --n 8 --out best.jsonl --pairs pairs.jsonl --json >best.json && python3 -c "
import json, math; r = json.load(open(\"best.json\")); c = r[\"best_of\"]; rows = [json.loads(x) for x in open(\"best.jsonl\")]
assert [x[\"n\"] for x in c] == [1, 2, 4, 8] and all(a[\"reward\"] < b[\"reward\"] for a, b in zip(c, c[1:])), c
assert abs(c[3][\"kl_bound\"] - (math.log(8) - 7 / 8)) < 1e-9 and len(rows) == r[\"written\"] > 90
assert abs(sum(x[\"reward\"] for x in rows) / len(rows) - r[\"reward\"]) < 1e-9 and r[\"pairs\"] > 50"'
check "learnt from, the best raise the mean" '$danlu finetune base --data best.jsonl --steps 60 --batch 32 --lr 1e-3 --out better --quiet; $danlu best better --data prompts.jsonl --reward exact --max-new 4 --n 8 --out best2.jsonl --json >best2.json && python3 -c "
import json; a, b = (json.load(open(f))[\"best_of\"][0][\"reward\"] for f in (\"best.json\", \"best2.json\")); assert b > a + 0.1, (a, b)"'
refused "rows and pairs in one file" 2 "are the same file" "$danlu" best base --data prompts.jsonl --reward exact --out twice.jsonl --pairs twice.jsonl
refused "no folder for the rows, before any answer" 1 "no folder 'gone/'" "$danlu" best base --data prompts.jsonl --reward exact --out gone/best.jsonl
check "no row is said" '$danlu best base --data prompts.jsonl --reward exact --n 2 --max-new 1 --min-reward 5 --out norow.jsonl 2>n.txt  && grep -q "no row was written" n.txt && ! grep -q "learn from it" n.txt'
refused "an output that is there" 1 "is there already" "$danlu" best base --data prompts.jsonl --reward exact --out best.jsonl

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
