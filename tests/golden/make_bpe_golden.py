#!/usr/bin/env python3
"""Trains a small byte-level BPE with Hugging Face `tokenizers` and writes what it makes of some awkward lines.

    python3 tests/golden/make_bpe_golden.py [OUT]        OUT defaults to the folder of this script

writes OUT/bpe/corpus.txt (the text below, so that danlu's trainer can be given the same bytes), OUT/bpe/tokenizer.json and
OUT/bpe/cases.jsonl: lines of {"text": ..., "ids": [...]}, UTF-8, separated by "\\n" only (U+0085 and U+2028 occur unescaped
inside strings).  The same version of `tokenizers` writes the same bytes.
"""
import json
import os
import sys

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 400
END = "<|endoftext|>"

# Written for this file; in the public domain.
CORPUS = """\
The furnace stood in the middle of the yard, and every morning the old woman lit it before the birds began. She fed it with
pine, then with charcoal, then with whatever the village had brought: broken tools, bent nails, a bell that no longer rang.
"It's not the fire that does the work," she'd say, "it's the waiting." We didn't believe her. We'd seen the fire; we hadn't
seen the waiting. But when the metal ran, it ran in one clean line, and none of us could've said which minute had mattered.

In the evening we counted what was left. There were 12 ingots on Monday, 7 on Tuesday, 1,024 grams of slag and 3.14 litres of
oil; in 1987 there had been 250, and in 2026 there would be 4,096. Numbers don't lie, they're only lonely. I'll write them
down, you'll add them up, he's going to forget them, they've all been wrong before. What's done is done, isn't it? I'm sure.

老师傅说，炼丹要看火候。火太大，丹会焦；火太小，丹不成。我们每天早上生火，晚上记账，一年四季都是这样。春天的雨打湿了木柴，
夏天的太阳晒干了泥土，秋天的风吹走了灰，冬天的雪盖住了屋顶。学生问：老师，什么时候才算成功？老师笑了笑，说：等你不再问的时候。
模型也是这样炼出来的：数据是柴，算力是火，耐心是锅。今天炼一炉，明天再炼一炉，炼到第一百炉，才知道第一炉错在哪里。

Le forgeron a préféré l'été à l'hiver ; déjà, où la rivière gelait, il rêvait d'œufs, de crème brûlée et de garçons à vélo.
Der Bäcker grüßte die Köchin über die Straße: „Schöne Grüße, süße Brötchen für 5 €!“ El niño soñó con el pingüino y mañana
comió piñas, ¿verdad? ¡Claro que sí! Żółta łódź płynęła w dół rzeki. Кузнец говорил медленно: огонь не любит спешки.
Ο σιδεράς γελούσε. 鍛冶屋は朝早く火をおこし、夜おそくまで働いた。대장장이는 불을 보고 웃었다. कारीगर ने आग जलाई। צורף טוב שותק.

for (int i = 0; i < n; i++) {
    sum += x[i] * w[i];          // one multiply, one add
    if (sum > 1e-6f && !done) { done = true; break; }
}
def forge(metal, heat=1200, *, wait=True):
    return [m.melt(heat) for m in metal if m is not None]
int main(void) { printf("%d\\n", 42); return 0; }
<p class="note">see https://example.org/forge?id=7&amp;lang=en#top</p>
SELECT name, count(*) FROM ingots WHERE weight >= 10 GROUP BY name;

The apprentices wrote to each other at night 🙂 and the answers came back 🔥🔥🔥, then 👍, then 👩‍🔧 and 🇨🇳 🇫🇷, then nothing at all.
"When the waiting is over," she said, "the fire will tell you." The fire didn't tell us. The waiting did; the waiting was the
work, and the work was the waiting, and in the end the bell rang again: once, twice, and then for the rest of the winter.

Nobody knows how long a thing must be heated before it changes. The books say one hour, the books say ten; the old woman said
that the books were written by people who had somewhere else to be. She kept a notebook of her own, with the date, the wood, the
weather and the colour of the flame, and beside each line a single word: better, worse, same, again. Again was the longest list.
有人问她，为什么不写下秘诀？她说：秘诀就是再来一次。再来一次，火候会慢慢变成手上的感觉；再来一次，错误会慢慢变成经验。
"""

CASES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "a", " a", "  a", "a ", "a  ",
    "Hello world", "hello  world", "hello   world ", "   leading and trailing   ", "tabs\tand\t\ttabs", "line\none\n\nline two\r\nthree",
    " \t\n mixed \t\n space\n\t ", "it's I'm you're they've she'll he'd don't", "IT'S I'M YOU'RE", "'s't 're'' ' s", "can't''ve",
    "the furnace stood in the middle of the yard", "waiting waiting waiting", "THE WAITING", "0", "1234567890", "3.14159 1,024 -7 1e-6",
    "2026-01-31T23:59:60Z", "x2y3 4z5", "½ ² Ⅷ ٣٤ १२", "老师傅说，炼丹要看火候。", "炼丹炉 danlu 丹炉", "今天是2026年1月1日。", "鍛冶屋は朝早く火をおこし",
    "대장장이는 불을 보고", "カタカナ ｶﾀｶﾅ ひらがな", "crème brûlée déjà vu", "cafe\u0301 nai\u0308ve", "Straße Grüße ẞ ß", "Żółta łódź",
    "Кузнец говорил медленно", "Ο σιδεράς γελούσε", "कारीगर ने आग जलाई", "צורף טוב שותק", "🙂", "🔥🔥🔥 👍", "👩‍🔧👨‍👩‍👧‍👦", "🇨🇳🇫🇷 flags",
    "a🙂b 🙂 c", "mixed 中文 and English 混合", "no\u00a0break\u00a0space", "\u3000ideographic\u3000space\u3000",
    "thin\u2009and\u200bzero\u200dwidth", "next\u0085line and \u2028separator\u2029", "\ufeffbyte order mark",
    "control \x00\x01\x1c\x1f\x7f characters", "!!!???...---===###",
    "for (int i = 0; i < n; i++) { sum += x[i] * w[i]; }", "    return [m.melt(heat) for m in metal]\n",
    "<p class=\"note\">&amp;</p>",
    "https://example.org/forge?id=7&lang=en#top", "printf(\"%d\\n\", 42);", "under_score kebab-case camelCase",
    "“quotes” ‘single’ — dash… €5",
    "a" * 200, " " * 100, "\n" * 50, "=" * 97, "ab" * 64, "1" * 65, "炼" * 33, "🔥" * 17, " the" * 40,
    "the the the", "ingots ingot ing",
    "\U0010ffff\ue000\ufffd", "end" + END, END, END + END, "a " + END + " b", "< |endoftext|> <|endoftext|", "<|ENDOFTEXT|>",
]


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[END], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator([CORPUS], trainer)
    return tokenizer


def main():
    out = os.path.join(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)), "bpe")
    os.makedirs(out, exist_ok=True)
    tokenizer = train()
    if tokenizer.get_vocab_size() != VOCAB:
        sys.exit(f"vocabulary of {tokenizer.get_vocab_size()} entries, expected {VOCAB}: the corpus is too small")
    tokenizer.save(os.path.join(out, "tokenizer.json"))
    with open(os.path.join(out, "corpus.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write(CORPUS)
    with open(os.path.join(out, "cases.jsonl"), "w", encoding="utf-8", newline="\n") as f:
        for text in CASES:
            ids = tokenizer.encode(text).ids
            if tokenizer.decode(ids, skip_special_tokens=False) != text:
                sys.exit(f"{text!r} does not survive encode and decode")
            f.write(json.dumps({"text": text, "ids": ids}, ensure_ascii=False) + "\n")
    print(f"make_bpe_golden.py; tokenizers {tokenizers.__version__}; {len(CORPUS.encode())} bytes, {len(CASES)} cases")


if __name__ == "__main__":
    main()
