#!/usr/bin/env bash
# danlu chat with the model's template, from each place where one may be, and with templates that refuse.
#   tests/e2e/chat.sh [BUILD]
# Runs on text it makes itself.  Closes with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
value() { awk -v k="\"$1\":" '{i = index($0, k); if (i) {v = substr($0, i + length(k)); sub(/[,}].*/, "", v); print v}}'; }
export -f danlu value; export danlu

for i in $(seq 300); do echo "the old monk has seven small stones and one red furnace."; done > text.txt
danlu train --data text.txt --tokenizer bytes --model llama --layers 2 --hidden 32 --heads 4 --context 256 --batch 4 --lr 5e-3 --warmup 5 --steps 30 --eval-every 0 \
    --save-every 0 --quiet --out m >log 2>&1 || bad "train"

# fed_tokens tells what a template made of a message: a token a byte, and eos.
cat > turns.jinja <<'T'
{%- for m in messages -%}
[{{ m.role }}]{{ m.content }}{{ eos_token }}
{%- endfor -%}
{% if add_generation_prompt %}[assistant]{% endif %}
T
fed() { printf "$1" | danlu chat "${@:2}" -n 3 --temperature 0 --json 2>err | value fed_tokens | tr '\n' ' '; }
export -f fed

check "no template: plain, and it says so" "[ \"\$(fed 'hi\n' m)\" = '19 ' ] && grep -q 'no chat template' err"
cp -r m file && cp turns.jinja file/chat_template.jinja
check "chat_template.jinja" "[ \"\$(fed 'hi\n' file)\" = '20 ' ] && ! [ -s err ]"
cp -r m config && sed -i 's/^{/{"chat_template": "<{{ messages[-1].content }}>{{ eos_token }}",/' config/tokenizer_config.json
check "chat_template in tokenizer_config.json" "[ \"\$(fed 'hi\n' config)\" = '5 ' ]"
cp -r m named && sed -i 's/^{/{"chat_template": [{"name": "default", "template": "{{ messages[-1].content }}"}, {"name": "long", "template": "{{ messages[-1].content * 9 }}"}],/' named/tokenizer_config.json
check "named templates" "[ \"\$(fed 'hi\n' named)\" = '2 ' ] && [ \"\$(fed 'hi\n' named --template long)\" = '18 ' ]"
mkdir file/additional_chat_templates && printf '%s' '{{ messages[-1].content * 4 }}' > file/additional_chat_templates/four.jinja
check "additional_chat_templates, also copied" "danlu convert file copy --dtype bf16 -q && [ \"\$(fed 'hi\n' file --template four)\" = '8 ' ] && [ \"\$(fed 'hi\n' copy --template four)\" = '8 ' ]"
printf '%s' '{% for t in tools or [] %}{{ t.function.name }};{% endfor %}{{ messages[-1].content }}' > tools.jinja
echo '[{"type": "function", "function": {"name": "weather", "parameters": {}}}]' > tools.json; echo '[{"type": "function"}]' > bad.json
check "--tools" "[ \"\$(fed 'hi\n' m --template tools.jinja --tools tools.json)\" = '10 ' ] && ! [ -s err ]"
check "--tools that the template leaves out" "fed 'hi\n' file --tools tools.json >/dev/null; grep -q 'leaves --tools out' err"
refused "--tools without a name" 1 "tool 1 has no name" danlu chat m --tools bad.json </dev/null
check "GGUF carries it" "danlu convert file file.gguf -q && [ \"\$(fed 'hi\n' file.gguf)\" = '20 ' ]"
check "--template FILE and NAME" "[ \"\$(fed 'hi\n' m --template turns.jinja)\" = '20 ' ] && [ \"\$(fed 'hi\n' file --template plain)\" = '19 ' ] && [ \"\$(fed 'hi\n' m --template alpaca)\" -gt 100 ]"
check "--system" "[ \"\$(fed 'hi\n' file --system 'Be old.')\" = '36 ' ]"
check "control text in a message is text" "[ \"\$(fed '<|endoftext|>\n' file)\" = '31 ' ]"
check "only what is new is fed" "set -- \$(fed 'a\nb\n' file) && [ \$1 -eq 19 ] && [ \$2 -lt 24 ]"
check "the old is forgotten, and it says so" "fed 'a\nb\nc\nd\n' file --context 64 >/dev/null; grep -q 'forgetting its first 2 messages' err"
check "too long is said, the talk goes on" "printf '%0300d\nhi\n' 1 | danlu chat file -n 3 --json >out 2>err; [ \$(grep -c role out) -eq 1 ] && grep -q 'raise --context' err"
printf '%s' "{% if messages[-1].content == 'no' %}{{ raise_exception('not that') }}{% endif %}{{ messages[-1].content }}" > picky.jinja
check "a template refuses a message, the talk goes on" "printf 'no\nhi\n' | danlu chat m --template picky.jinja -n 3 --json >out 2>err; [ \$(grep -c role out) -eq 1 ] && grep -q 'line 1: the template refuses: not that' err"
printf '\n{{ messages|nothing }}' > wrong.jinja
refused "a template that is wrong" 1 "line 2: there is no filter 'nothing'; choose another one" danlu chat m --template wrong.jinja </dev/null
printf '%s' "{{ ''.__class__.__mro__ }}" > walk.jinja
refused "a template that walks attributes" 1 "__class__" danlu chat m --template walk.jinja </dev/null
printf '%s' "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}x" > nosys.jinja
refused "no place for a system text" 1 "takes no --system text.*System role not supported" danlu chat m --template nosys.jinja --system x </dev/null
refused "no such template" 1 "built-in ones are chatml, llama3" danlu chat m --template nowhere </dev/null

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
