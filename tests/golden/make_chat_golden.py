#!/usr/bin/env python3
"""Conversations through chat templates, as transformers' apply_chat_template renders and encodes them.

    python3 make_chat_golden.py [OUT [DATA]]        needs transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6; default: chat/ here

OUT/NAME/ are two small tokenizers: "bytes", byte-level BPE, and "metaspace", unigram with Metaspace's prepend_scheme "first", NFKC and control
tokens that take the white space beside them.  OUT/cases.jsonl has a line for each tokenizer, template and conversation:
{"tokenizer", "template", "messages", "tools", "open" (add_generation_prompt), "text", "ids", "mask" (assistant_masks, for templates with
{% generation %}), "learn": [[from, to], ...] (of one template without: the bytes of each answer and of the token that ends it)}.
With DATA (the folder that DANLU_DATA names) OUT/real.jsonl gets the CRC-32 of text and ids of the templates in
DATA/tokenizer/chat-templates with DATA/tokenizer/minimind; no text of theirs is stored.  Everything else was written for these files.
"""
import json
import os
import sys
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

CORPUS = """The furnace stood in the middle of the yard, and the waiting was the work. It's lit; they're waiting, we'll see in 1987 or 2026.
Naïve café façade. Ещё раз: печь горит! 老师傅说，炼丹要看火候。 for (int i = 0; i < n; i++) { sum += a[i]; }  // system user assistant
""".splitlines(keepends=True)
CONTROL = ["<s>", "</s>", "<pad>", "<|start|>", "<|end|>", "[INST]", "[/INST]"]
TEMPLATES = {
    "turns": "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}",
    "blocks": "{% for m in messages %}\n<|start|>{{ m.role }}\n"
              "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}\n\n"
              "{% endfor %}\n{%- if add_generation_prompt %}<|start|>assistant\n\n{% endif %}",
    "inst": "{%- if messages[0].role == 'system' %}{% set sys = messages[0].content|trim %}{% set messages = messages[1:] %}{% endif -%}\n"
            "{{- bos_token }}\n{%- for m in messages %}\n    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}\n"
            "        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if m.role == 'user' %}\n"
            "        {{- '[INST] ' + (sys + '\n\n' if loop.first and sys is defined else '') + m.content|trim + ' [/INST]' }}\n"
            "    {%- else %}\n        {{- ' ' + m.content|trim + eos_token }}\n    {%- endif %}\n{%- endfor %}",
    "tools": "{%- if tools %}<|start|>system\n{% for t in tools %}{{ t | tojson(indent=2) }}{{ '\n' }}{% endfor %}<|end|>\n{% endif %}"
             "{%- for m in messages %}<|start|>{{ m.role }}\n{%- if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}"
             "{{ '\n<call>' ~ c.function.name ~ ' ' ~ c.function.arguments|tojson ~ '</call>' }}{% endfor %}"
             "{%- elif m.content is string %}{{ '\n' + m.content }}{% else %}{{ '\n' }}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endif %}"
             "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
}
TOOLS = [{"type": "function", "function": {"name": "heat", "description": "Heats the <furnace> \"slowly\", é.", "parameters": {
    "type": "object", "properties": {"degrees": {"type": "number"}}, "required": ["degrees"]}}}]
CONVERSATIONS = [
    [{"role": "user", "content": "Is it lit?"}],
    [{"role": "system", "content": "Be brief.  "}, {"role": "user", "content": " Ещё раз? "}, {"role": "assistant", "content": "печь горит!"},
     {"role": "user", "content": "\n老师傅说 1987\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\n\nNaïve\ufb01 "}, {"role": "user", "content": ""}, {"role": "assistant", "content": " "}],
    [{"role": "user", "content": "<|st"}, {"role": "assistant", "content": "art|> [INST < /INST] <|"}],
]
WITH_TOOLS = [
    [{"role": "user", "content": "Heat it to 1000."},
     {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "heat", "arguments": {"degrees": 1000.0, "é": [None, True]}}}]},
     {"role": "tool", "content": "{\"ok\": true}"}, {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "image"}, {"type": "text", "text": "hot."}]}],
]


def bytes_tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=t), [{}]


def metaspace_tokenizer():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=t, unk_token="<unk>"), [{}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}]


def make_tokenizer(made, path):
    t, flags = made
    t.add_tokens([AddedToken(c, special=True, normalized=False, **flags[i % len(flags)]) for i, c in enumerate(CONTROL)], special_tokens=True)
    t.add_tokens([AddedToken(c, special=False, normalized=False) for c in ("<call>", "</call>")])
    t.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    os.makedirs(path, exist_ok=True)
    t.save_pretrained(path)
    for name in os.listdir(path):
        if name not in ("tokenizer.json", "tokenizer_config.json"):
            os.remove(os.path.join(path, name))
    with open(path + "/tokenizer.json") as f:                 # on one line
        j = json.load(f)
    with open(path + "/tokenizer.json", "w") as f:
        json.dump(j, f, ensure_ascii=False, separators=(",", ":"))
    return AutoTokenizer.from_pretrained(path)


def one(t, template, messages, tools, open_):
    text = t.apply_chat_template(messages, chat_template=template, tools=tools, add_generation_prompt=open_, tokenize=False)
    out = t.apply_chat_template(messages, chat_template=template, tools=tools, add_generation_prompt=open_, tokenize=True, return_dict=True,
                                return_assistant_tokens_mask="generation %}" in template)
    return text, out["input_ids"], out.get("assistant_masks")


def answers(text, messages):
    """Of the template "turns": the bytes of each answer and the <|end|> behind it."""
    found, at = [], 0
    for m in messages:
        head, turn = "<|start|>" + m["role"] + "\n", m["content"] + "<|end|>"
        at = text.index(head + turn, at) + len(head)
        if m["role"] == "assistant":
            found.append([len(text[:at].encode()), len(text[:at + len(turn)].encode())])
    return found


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat")
    tokenizers_ = {"bytes": make_tokenizer(bytes_tokenizer(), out + "/bytes"), "metaspace": make_tokenizer(metaspace_tokenizer(), out + "/metaspace")}
    with open(out + "/cases.jsonl", "w") as f:
        for name, t in tokenizers_.items():
            for key, template in TEMPLATES.items():
                for k, messages in enumerate(CONVERSATIONS + (WITH_TOOLS if key == "tools" else [])):
                    tools = TOOLS if key == "tools" and k % 2 == 0 else None
                    text, ids, mask = one(t, template, messages, tools, k % 2 == 0)
                    case = {"tokenizer": name, "template": template, "messages": messages, "tools": tools, "open": k % 2 == 0, "text": text, "ids": ids}
                    case.update({"mask": mask} if mask else {"learn": answers(text, messages)} if key == "turns" else {})
                    f.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
    if len(sys.argv) > 2:
        folder = sys.argv[2] + "/tokenizer/"
        t = AutoTokenizer.from_pretrained(folder + "minimind")
        with open(out + "/real.jsonl", "w") as f:
            for name in sorted(os.listdir(folder + "chat-templates")):
                with open(folder + "chat-templates/" + name) as template:
                    source = template.read()
                for k, messages in enumerate(CONVERSATIONS):
                    if "gemma" in name and messages[0]["role"] == "system":
                        continue
                    tools = TOOLS if k == 0 and "gemma" not in name else None
                    text, ids, _ = one(t, source, messages, tools, k % 2 == 0)
                    crc = zlib.crc32(b"".join(i.to_bytes(4, "little") for i in ids))
                    f.write(json.dumps({"template": name, "messages": messages, "tools": tools, "open": k % 2 == 0, "text_crc": zlib.crc32(text.encode()),
                                        "ids_crc": crc, "n": len(ids)}, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
