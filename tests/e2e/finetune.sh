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
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"what does the %s like, %d?\",\"chosen\":\"fish\",\"rejected\":\"birds, only birds\"}\n", i % 2 ? "cat" : "dog", i }' >pairs.jsonl
check "a base model" '$danlu train --data book.txt --layers 2 --hidden 64 --heads 2 --context 96 --vocab 300 --steps 60 --batch 8 --out base --quiet'

check "data inspect: what is learnt" '$danlu data inspect base --data chats.jsonl --rows 2 >i.txt && grep -q "\[\[ *birds, only birds\]\]" i.txt && grep -q "^60 rows, 60 sequences" i.txt'
check "data inspect --json" '$danlu data inspect base --data chats.jsonl --json | grep -q "\"stop_trained\""'
check "an adapter" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --forget-eval book.txt --out adapter --json >r.json && test -s adapter/adapter_model.safetensors && test -s adapter/log.jsonl && ! test -e adapter/model.safetensors'
check "the held-out loss fell, and forgetting is measured" 'python3 -c "import json; r = json.load(open(\"r.json\")); assert r[\"eval_loss\"][\"change\"] < -0.1, r; assert r[\"forgetting\"][\"sequences\"] > 10"'
check "the same seed, the same bytes, any threads" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --threads 3 --out again --quiet && cmp adapter/adapter_model.safetensors again/adapter_model.safetensors'
check "the adapter answers" '$danlu generate adapter --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet >a.txt && $danlu generate base --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet >b.txt && ! cmp -s a.txt b.txt'
check "merged, it is the same" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --merge --out merged --quiet && $danlu generate merged --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt'
check "converted, it is merged, too" '$danlu convert adapter converted --quiet && $danlu generate converted --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt && $danlu convert adapter converted.gguf --merge --quiet && $danlu generate converted.gguf --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet | cmp - a.txt'
check "an adapter over q8_0" '$danlu quantize base --to q8_0 --out q8 --quiet && $danlu finetune q8 --data chats.jsonl --lora-rank 4 --steps 10 --batch 8 --lr 5e-3 --out q8a --quiet && $danlu generate q8a --prompt hi --max-tokens 2 --quiet'
check "all weights, with replay" '$danlu finetune base --data chats.jsonl --steps 10 --batch 8 --lr 1e-3 --replay book.txt:0.2 --out tuned --quiet && $danlu generate tuned --prompt hi --max-tokens 2 --quiet'

ask() { "$danlu" generate "$@" --prompt "User: what does the cat like?\nAssistant:" --max-tokens 12 --temperature 0 --quiet; }
export -f ask
check "merge, unmerge: the base again, to rounding" '$danlu finetune merge adapter --out m1 --quiet && ask m1 | cmp - a.txt && $danlu finetune unmerge m1 adapter --out u1 --json >u.json && python3 -c "import json; r = json.load(open(\"u.json\")); assert r[\"relative_difference\"] < 1e-6, r" && ask u1 | cmp - b.txt'
check "quantised, an adapter is in its model" '$danlu quantize adapter --to q8_0 --out qa --quiet && $danlu quantize m1 --to q8_0 --out qm --quiet && cmp qa/model.safetensors qm/model.safetensors && ask qa'
check "all weights of a GGUF: a folder with its tokenizer" '$danlu convert base base.gguf --quiet && $danlu finetune base.gguf --data chats.jsonl --steps 1 --samples 0 --out from-gguf --quiet && ask from-gguf'
check "stack: halves of an adapter are the adapter" '$danlu finetune stack adapter adapter --weights 0.5,0.5 --out stacked --quiet && ask stacked | cmp - a.txt'
check "--adapter is the folder of the adapter; at weight 0 it is the base" 'ask base --adapter adapter | cmp - a.txt && ask base --adapter adapter:0.25 adapter:0.75 | cmp - a.txt && ask base --adapter adapter:0 | cmp - b.txt'
check "an adapter as GGUF, and back" '$danlu convert adapter adapter.gguf --quiet && ask base --adapter adapter.gguf | cmp - a.txt && $danlu convert adapter.gguf back --base base --quiet && ask back | cmp - a.txt'
check "DoRA, LoRA+, dropout, noise; merged it is the same" '$danlu finetune base --data chats.jsonl --lora-rank 4 --dora --lora-plus 8 --lora-dropout 0.1 --neftune 5 --steps 15 --batch 8 --lr 5e-3 --out dora --quiet && ask dora >d.txt && ! cmp -s d.txt b.txt && $danlu finetune merge dora --out dm --quiet && ask dm | cmp - d.txt'
check "chat /adapter: each answers as its folder alone, the base in between" 'printf "what does the cat like?\n" >q1 && for m in adapter base dora; do $danlu chat $m --temperature 0 --max-tokens 8 --quiet <q1; done >alone.txt && printf "/adapter adapter\nwhat does the cat like?\n/reset\n/adapter off\nwhat does the cat like?\n/reset\n/adapter dora\nwhat does the cat like?\n" | $danlu chat base --adapter adapter dora --temperature 0 --max-tokens 8 --quiet | cmp - alone.txt'
check "--qlora nf4: the adapter's folder and its merged model are what was trained" '$danlu finetune base --data chats.jsonl --lora-rank 4 --qlora nf4 --steps 5 --batch 4 --lr 1e-2 --out nf4 --json --quiet >n.json && python3 -c "import json; r = json.load(open(\"n.json\")); assert r[\"base_bytes\"] < 0.5 * r[\"base_bytes_before\"], r" && ask nf4 >n.txt && $danlu finetune merge nf4 --out nm --quiet && ask nm | cmp - n.txt'
check "the merged model of --qlora: by convert, and where all weights go on from its folder; halves of it stack" '$danlu convert nf4 nc --quiet && cmp nm/model.safetensors nc/model.safetensors && for m in nf4 nm; do $danlu finetune $m --data chats.jsonl --steps 2 --batch 8 --lr 1e-3 --out $m-on --quiet || exit 1; done; cmp nf4-on/model.safetensors nm-on/model.safetensors && $danlu finetune stack nf4 nf4 --weights 0.5,0.5 --out nf4-stack --quiet && ask nf4-stack | cmp - n.txt'
check "converted to GGUF, its base is named to be quantised" '$danlu convert nf4 nf4.gguf 2>&1 | grep -q "learned over its base quantised to nf4"'
refused "adapters over different weights" 1 "only adapters over the same weights stack" "$danlu" finetune stack nf4 adapter --out x11
check "all weights go on from an adapter as from its merged model" 'for m in adapter m1; do $danlu finetune $m --data chats.jsonl --steps 2 --batch 8 --lr 1e-3 --out $m-on --json --quiet >$m-on.json || exit 1; done; cmp adapter-on/model.safetensors m1-on/model.safetensors && cmp adapter-on/log.jsonl m1-on/log.jsonl && python3 -c "
import json
a, b = (json.load(open(f))[\"eval_loss\"] for f in (\"r.json\", \"adapter-on.json\"))
assert abs(a[\"after\"] - b[\"before\"]) < 0.01, (a, b)"'
refused "an adapter over an adapter" 2 "'adapter' is an adapter; merge it first: danlu finetune merge adapter --out DIR" "$danlu" finetune adapter --data chats.jsonl --lora-rank 2 --out x12
check "... but merged" '$danlu finetune adapter --data chats.jsonl --lora-rank 2 --merge --steps 1 --lr 1e-4 --out on-merged --json --quiet >om.json && cmp <(ask on-merged) a.txt && python3 -c "
import json
assert abs(json.load(open(\"om.json\"))[\"eval_loss\"][\"before\"] - json.load(open(\"r.json\"))[\"eval_loss\"][\"after\"]) < 0.01"'
check "--qat with an adapter: integers" '$danlu finetune base --data chats.jsonl --lora-rank 4 --qat w4a8 --steps 5 --batch 8 --lr 5e-3 --out qat --quiet && ask qat/quantised >/dev/null && test -s qat/adapter_model.safetensors'
check "--qat by every method: integers that answer" 'for m in clipped-ste pact lsq dsq dsq-soft quantnoise; do $danlu finetune base --data chats.jsonl --lora-rank 4 --qat w3 --qat-method $m --steps 4 --batch 8 --lr 5e-3 --samples 0 --out qat-$m --quiet && ask qat-$m/quantised >/dev/null && test -s qat-$m/adapter_model.safetensors || exit 1; done'
check "... and all weights, with learned scales" '$danlu finetune base --data chats.jsonl --qat w4a8 --qat-method lsq --steps 4 --batch 8 --lr 1e-3 --samples 0 --out qat-all --quiet && ask qat-all/quantised >/dev/null'
refused "a method without --qat" 2 "qat-method says nothing without --qat" "$danlu" finetune base --data chats.jsonl --qat-method lsq --out x13
refused "dropout where there is no branch" 2 "under --qat there is none" "$danlu" finetune base --data chats.jsonl --lora-rank 2 --lora-dropout 0.1 --qat w4 --out x14
shown() { "$danlu" data inspect "$@" --data chats.jsonl --rows 3 | grep -v "^template"; }
export -f shown
check "--template is saved with what learned by it: adapter, merged, integers, converted, stacked, and trained on" 'shown base --template zephyr >z.txt && ! shown base | cmp -s - z.txt && shown base | cmp - <(shown adapter) && z="--data chats.jsonl --template zephyr --lora-rank 2 --steps 1 --samples 0 --quiet" && $danlu finetune base $z --qat w8 --out za && $danlu finetune base $z --merge --out zb && $danlu finetune merge za --out zc --quiet && $danlu convert za zd --quiet && $danlu convert za ze.gguf --merge --quiet && $danlu finetune stack za za --out zf --quiet && $danlu finetune za --data chats.jsonl --steps 1 --samples 0 --out zg --quiet && $danlu dpo base $(echo $z | sed s/chats/pairs/) --val-fraction 0 --out zh && for m in za za/quantised zb zc zd ze.gguf zf zg zh; do shown $m | cmp - z.txt || { echo $m; exit 1; }; done; $danlu finetune unmerge zc za --out zi --quiet && shown zi | cmp - <(shown base)'
refused "DoRA taken away" 1 "go back to the base model" "$danlu" finetune unmerge dm dora --out x8
refused "DoRA as GGUF" 1 "has no form in GGUF" "$danlu" convert dora x9.gguf
refused "DoRA without a rank" 2 "--dora needs --lora-rank" "$danlu" finetune base --data chats.jsonl --dora --out x10

printf '{"messages":[{"role":"user","content":"a"}]}\n{oops\n' | cat - chats.jsonl >bad.jsonl
check "bad rows are named and counted" '$danlu finetune base --data bad.jsonl --lora-rank 2 --steps 1 --out x1 2>&1 | tee log2 | grep -q "2 of 62 rows were skipped" && grep -q "line 2" log2'
head -n 1 bad.jsonl >one.jsonl
refused "nothing to learn from" 1 "none of 1 rows" "$danlu" finetune base --data one.jsonl --lora-rank 2 --out x2
refused "a target that is none" 1 "no matrix of this model is a target 'owl'" "$danlu" finetune base --data chats.jsonl --lora-rank 2 --lora-targets owl --out x3
refused "an output that is there" 1 "already holds" "$danlu" finetune base --data chats.jsonl --lora-rank 2 --out adapter
refused "merging without an adapter" 2 "--merge needs --lora-rank" "$danlu" finetune base --data chats.jsonl --merge --out x4
refused "replay without a fraction" 2 "PATH:FRACTION" "$danlu" finetune base --data chats.jsonl --replay book.txt --out x5
check "dpo learns the preference" '$danlu dpo base --data pairs.jsonl --lora-rank 4 --steps 30 --batch 8 --lr 5e-3 --val-fraction 0.2 --out preferred --json >d.json && python3 -c "import json; r = json.load(open(\"d.json\")); assert abs(r[\"eval_before\"][\"loss\"] - 0.693147) < 1e-5 and abs(json.loads(open(\"preferred/log.jsonl\").readline())[\"loss\"] - 0.6931471805599453) < 1e-15 and r[\"eval\"][\"rewards/accuracies\"] > 0.9, r" && grep -q "rewards/margins" preferred/log.jsonl'
check "dpo --loss simpo, all weights" '$danlu dpo base --data pairs.jsonl --loss simpo --steps 5 --batch 8 --out simpo --quiet && $danlu generate simpo --prompt hi --max-tokens 2 --quiet'
check "a reward adapter of --qlora scores over the base that it learned over" '$danlu reward base --data pairs.jsonl --lora-rank 4 --qlora nf4 --steps 10 --batch 8 --lr 5e-3 --val-fraction 0.2 --out nf4-reward --quiet && $danlu finetune merge nf4-reward --out nf4-reward-merged --quiet && for m in nf4-reward nf4-reward-merged; do $danlu reward score $m --dtype f32 --data pairs.jsonl --quiet >$m.txt || exit 1; done; paste nf4-reward.txt nf4-reward-merged.txt | awk "{ off = (\$2 - \$3) - (\$5 - \$6); if (off < -1e-3 || off > 1e-3) bad++ } END { exit bad > 0 || NR != 60 }"'
check "data inspect: pairs" '$danlu data inspect base --data pairs.jsonl | grep -q "line 1, rejected"'
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"prompt\":\"what does the cat like, %d?\",\"completion\":\"%s\",\"label\":%s}\n", i, i % 2 ? "fish" : "birds", i % 2 ? "true" : "false" }' >labels.jsonl
check "dpo --loss kto: answers with labels" '$danlu dpo base --data labels.jsonl --loss kto --lora-rank 4 --steps 30 --batch 10 --lr 5e-3 --val-fraction 0.2 --out kto --json >k.json && python3 -c "import json; r = json.load(open(\"k.json\")); assert abs(r[\"eval_before\"][\"loss\"] - 0.5) < 1e-6 and r[\"eval\"][\"rewards/margins\"] > 0.1, r"'
# every row of these is refused for a reason of its own, named by line
cat >malformed.jsonl <<EOF
{"prompt":"a","chosen":"b"}
{"prompt":"a","chosen":3,"rejected":"x"}
{"prompt":"a","chosen":"b","rejected":"b"}
{"prompt":"a","chosen":"","rejected":"b"}
{"prompt":"a","chosen":"c","rejected":"b","margin":"x"}
EOF
cat >masked.jsonl <<EOF
{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0}]}
{"prompt":"a"}
{"prompt":"$(printf 'word %.0s' $(seq 300))","completion":"b"}
EOF
cat >ranked.jsonl <<EOF
{"prompt":"a","completions":["b","c","d"],"ranks":[1,2,2]}
{"prompt":"a","completions":["b","c"],"ranks":[1,1]}
EOF
cat malformed.jsonl pairs.jsonl >mixed.jsonl
check "malformed pairs are named by line, field and what is expected" '$danlu dpo base --data mixed.jsonl --lora-rank 2 --steps 1 --out mal 2>mal.txt; grep -q "5 of 65 rows were skipped: 4 bad row, 1 nothing to learn" mal.txt && grep -q "line 1 of .*without .rejected" mal.txt && grep -q "line 2 of .*.chosen. is no list" mal.txt && grep -q "line 3 of .*are the same" mal.txt && grep -q "line 4 of .*nothing to learn" mal.txt && grep -q "line 5 of .*.margin. is no number" mal.txt'
cat masked.jsonl chats.jsonl >mixed.jsonl
check "all turns masked, no answer, a prompt longer than the context" '$danlu finetune base --data mixed.jsonl --lora-rank 2 --steps 1 --out msk 2>msk.txt; grep -q "3 of 63 rows were skipped" msk.txt && grep -q "line 1 of .*every turn of the assistant is left out" msk.txt && grep -q "line 2 of .*expected a dialogue" msk.txt && grep -q "line 3 of .*it is not cut" msk.txt'
echo "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}" >silent.jinja
refused "a template without a turn of the assistant" 1 "no token of an assistant's turn" "$danlu" finetune base --data chats.jsonl --template silent.jinja --lora-rank 2 --out sil
check "ranked answers: all pairs of different rank" '$danlu dpo base --data ranked.jsonl --val-fraction 0 --lora-rank 2 --steps 1 --out rnk 2>rnk.txt; grep -q "2 pairs" rnk.txt && grep -q "line 2 of .*prefers nothing" rnk.txt'
grep true labels.jsonl >t.jsonl
refused "kto needs both kinds" 1 "kto needs both kinds" "$danlu" dpo base --data t.jsonl --loss kto --lora-rank 2 --out x7
refused "dialogues are no pairs" 1 "expected a preference pair" "$danlu" dpo base --data chats.jsonl --lora-rank 2 --out x6
# going on: bit for bit what a run without a break gives, whether it was killed behind a checkpoint or stopped
goes_on() { # NAME, then the command without --out
    local n=$1; shift
    "$danlu" "$@" --out "whole-$n" --quiet >/dev/null && "$danlu" "$@" --save-every 7 --out "cut-$n" --quiet >/dev/null &&
        rm -f "cut-$n"/*.safetensors && printf '{"step":19,' >>"cut-$n/log.jsonl" && "$danlu" "$1" --resume "cut-$n" --quiet >/dev/null &&
        cmp "whole-$n/log.jsonl" "cut-$n/log.jsonl" && cmp "whole-$n"/*model.safetensors "cut-$n"/*model.safetensors
}
export -f goes_on
check "finetune --resume: an adapter, with replay" 'goes_on a finetune base --data chats.jsonl --lora-rank 4 --steps 20 --batch 8 --lr 5e-3 --replay book.txt:0.2'
check "finetune --resume: all weights" 'goes_on b finetune base --data chats.jsonl --steps 16 --batch 8 --lr 1e-3'
check "finetune --qat --resume: learned scales, drawn rounding" 'goes_on e finetune base --data chats.jsonl --lora-rank 4 --qat w3 --qat-method lsq --steps 16 --batch 8 --lr 5e-3 --samples 0 && cmp whole-e/quantised/model.safetensors cut-e/quantised/model.safetensors && goes_on f finetune base --data chats.jsonl --lora-rank 4 --qat w4 --qat-method quantnoise --steps 10 --batch 8 --lr 5e-3 --samples 0'
check "dpo --resume" 'goes_on c dpo base --data pairs.jsonl --lora-rank 4 --steps 16 --batch 8 --lr 5e-3'
check "dpo --loss kto --resume" 'goes_on d dpo base --data labels.jsonl --loss kto --lora-rank 4 --steps 16 --batch 10 --lr 5e-3'
check "stopped, it says how to go on, and does" '$danlu finetune base --data chats.jsonl --lora-rank 4 --steps 400 --threads 1 --batch 4 --out long --quiet; timeout --foreground -s INT 0.3 $danlu finetune base --data chats.jsonl --lora-rank 4 --steps 400 --threads 1 --batch 4 --out stopped --quiet 2>s.txt; if grep -q "go on with danlu finetune --resume stopped" s.txt; then $danlu finetune --resume stopped --quiet; fi; cmp long/adapter_model.safetensors stopped/adapter_model.safetensors && cmp long/log.jsonl stopped/log.jsonl'
refused "going on with other options" 2 "cannot change in a run that goes on" "$danlu" finetune --resume cut-a --batch 4
refused "going on by another command" 2 "is for 'finetune'" "$danlu" dpo --resume cut-a
refused "going on from nothing" 1 "no run in 'nowhere'" "$danlu" finetune --resume nowhere
cp chats.jsonl kept.jsonl && sed -i '3s/birds/dogs/' chats.jsonl
refused "going on with other data" 1 "is not what the run" "$danlu" finetune --resume cut-a
mv kept.jsonl chats.jsonl
mv base moved
refused "an adapter whose base has gone" 1 "is of the model 'base', which is not there" "$danlu" generate adapter --prompt hi
mv moved base

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
