#!/usr/bin/env bash
# danlu finetune as a user runs it: an adapter, all weights, merging, what is refused.
#   tests/e2e/finetune.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
export danlu

awk 'BEGIN { srand(1); for (i = 0; i < 4000; i++) printf "the %s %s the %s.\n", i % 3 ? "cat" : "dog", i % 2 ? "sees" : "likes", i % 5 ? "bird" : "fish" }' >book.txt
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"messages\":[{\"role\":\"user\",\"content\":\"what does the %s like?\"},{\"role\":\"assistant\",\"content\":\"%s\"}]}\n",
    i % 2 ? "cat" : "dog", i % 2 ? "fish, always fish" : "birds, only birds" }' >chats.jsonl
check "a base model" '$danlu train --data book.txt --layers 2 --hidden 64 --heads 2 --context 96 --vocab 300 --steps 60 --batch 8 --out base --quiet'

check "data inspect: what is learnt" '$danlu data inspect base --data chats.jsonl --rows 2 >i.txt && grep -q "\[\[ *birds, only birds\]\]" i.txt && grep -q "^60 rows, 60 sequences" i.txt'
check "data inspect --json" '$danlu data inspect base --data chats.jsonl --json | grep -q "\"stop_trained\""'
check "an adapter" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --forget-eval book.txt --out adapter --json >r.json && test -s adapter/adapter_model.safetensors && test -s adapter/log.jsonl && ! test -e adapter/model.safetensors'
check "the held-out loss fell, and forgetting is measured" 'python3 -c "import json; r = json.load(open(\"r.json\")); assert r[\"eval_loss\"][\"change\"] < -0.1, r; assert r[\"forgetting\"][\"sequences\"] > 10"'
check "the same seed, the same bytes, any threads" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --threads 3 --out again --quiet && cmp adapter/adapter_model.safetensors again/adapter_model.safetensors'
check "the adapter answers" '$danlu generate adapter --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet >a.txt && $danlu generate base --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet >b.txt && ! cmp -s a.txt b.txt'
check "merged, it is the same" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --merge --out merged --quiet && $danlu generate merged --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt'
check "converted, it is merged, too" '$danlu convert adapter converted --quiet && $danlu generate converted --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt && $danlu convert adapter converted.gguf --quiet && $danlu generate converted.gguf --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt'
check "an adapter over q8_0" '$danlu quantize base --to q8_0 --out q8 --quiet && $danlu finetune q8 --data chats.jsonl --lora-rank 4 --steps 10 --batch 8 --lr 5e-3 --out q8a --quiet && $danlu generate q8a --prompt hi --max-tokens 2 --quiet'
check "all weights, with replay" '$danlu finetune base --data chats.jsonl --steps 10 --batch 8 --lr 1e-3 --replay book.txt:0.2 --out tuned --quiet && $danlu generate tuned --prompt hi --max-tokens 2 --quiet'

printf '{"messages":[{"role":"user","content":"a"}]}\n{oops\n' | cat - chats.jsonl >bad.jsonl
check "bad rows are named and counted" '$danlu finetune base --data bad.jsonl --lora-rank 2 --steps 1 --out x1 2>&1 | tee log2 | grep -q "2 of 62 rows were skipped" && grep -q "line 2" log2'
head -n 1 bad.jsonl >one.jsonl
refused "nothing to learn from" 1 "none of 1 rows" "$danlu" finetune base --data one.jsonl --lora-rank 2 --out x2
refused "a target that is none" 1 "no matrix of this model is a target 'owl'" "$danlu" finetune base --data chats.jsonl --lora-rank 2 --lora-targets owl --out x3
refused "an output that is there" 1 "already holds" "$danlu" finetune base --data chats.jsonl --lora-rank 2 --out adapter
refused "merging without an adapter" 2 "--merge needs --lora-rank" "$danlu" finetune base --data chats.jsonl --merge --out x4
refused "replay without a fraction" 2 "PATH:FRACTION" "$danlu" finetune base --data chats.jsonl --replay book.txt --out x5
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"what does the %s like, %d?\",\"chosen\":\"fish\",\"rejected\":\"birds, only birds\"}\n", i % 2 ? "cat" : "dog", i }' >pairs.jsonl
check "dpo learns the preference" '$danlu dpo base --data pairs.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --val-fraction 0.2 --out preferred --json >d.json && python3 -c "import json; r = json.load(open(\"d.json\")); assert abs(r[\"eval_before\"][\"loss\"] - 0.693147) < 1e-5 and r[\"eval\"][\"rewards/accuracies\"] > 0.9, r" && grep -q "rewards/margins" preferred/log.jsonl'
check "dpo --loss simpo, all weights" '$danlu dpo base --data pairs.jsonl --loss simpo --steps 5 --batch 8 --out simpo --quiet && $danlu generate simpo --prompt hi --max-tokens 2 --quiet'
check "data inspect: pairs" '$danlu data inspect base --data pairs.jsonl | grep -q "line 1, rejected"'
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"what does the cat like, %d?\",\"completion\":\"%s\",\"label\":%s}\n", i, i % 2 ? "fish" : "birds", i % 2 ? "true" : "false" }' >labels.jsonl
check "dpo --loss kto: answers with labels" '$danlu dpo base --data labels.jsonl --loss kto --lora-rank 4 --steps 30 --batch 10 --lr 5e-3 --val-fraction 0.2 --out kto --json >k.json && python3 -c "import json; r = json.load(open(\"k.json\")); assert abs(r[\"eval_before\"][\"loss\"] - 0.5) < 1e-6 and r[\"eval\"][\"rewards/margins\"] > 0.1, r"'
grep true labels.jsonl >t.jsonl
refused "kto needs both kinds" 1 "kto needs both kinds" "$danlu" dpo base --data t.jsonl --loss kto --lora-rank 2 --out x7
refused "dialogues are no pairs" 1 "expected a preference pair" "$danlu" dpo base --data chats.jsonl --lora-rank 2 --out x6
mv base moved
refused "an adapter whose base has gone" 1 "is of the model 'base', which is not there" "$danlu" generate adapter --prompt hi
mv moved base

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
