#!/usr/bin/env python3
"""Rank files of our own, and what `tiktoken` makes of some lines with them.

    python3 tests/golden/make_tiktoken_golden.py [OUT]        OUT defaults to the folder of this script

writes OUT/tiktoken/NAME.tiktoken and OUT/tiktoken/NAME.jsonl, lines of {"pattern": ..., "text": ..., "ids": [...]}:

    small       256 bytes and 300 merges of bpe/corpus.txt (bpe/tokenizer.json's), ranks in their order
    differ      a vocabulary for which rank BPE and BPE by the recovered list of merges give other ids; "listed" has the latter's

The patterns are those of tiktoken_ext/openai_public.py, by name.  Made with tiktoken 0.14.0.
"""
import base64
import json
import os
import random
import re
import sys

import tiktoken
import tiktoken_ext.openai_public as public

HERE = os.path.dirname(os.path.abspath(__file__))


def alphabet():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return {chr(b): b for b in keep} | {chr(256 + i): b for i, b in enumerate(rest)}


def small():
    with open(os.path.join(HERE, "bpe", "tokenizer.json"), encoding="utf-8") as f:
        model = json.load(f)["model"]
    names = alphabet()
    ranks = {bytes([b]): i for i, b in enumerate(names.values())}
    for m in model["merges"]:
        token = bytes(names[c] for c in "".join(m if isinstance(m, list) else m.split(" ")))
        ranks.setdefault(token, len(ranks))
    return ranks


def by_rank(ranks, piece):
    if piece in ranks:
        return [ranks[piece]]
    parts = [bytes([b]) for b in piece]
    while True:
        best = min((ranks.get(parts[i] + parts[i + 1], 1 << 30), i) for i in range(len(parts) - 1)) if len(parts) > 1 else (1 << 30, 0)
        if best[0] == 1 << 30:
            return [ranks[p] for p in parts]
        parts[best[1] : best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]


def by_list(ranks, piece):
    """BPE by a list of merges, one for each token that has two parts when the tokens of lower rank merge its bytes."""
    merges = {}
    for token, rank in ranks.items():
        parts = by_rank({t: r for t, r in ranks.items() if r < rank}, token) if len(token) > 1 else []
        if len(parts) == 2:
            merges[tuple(parts)] = rank
    ids = [ranks[bytes([b])] for b in piece]
    while len(ids) > 1:
        best = min((merges.get((ids[i], ids[i + 1]), 1 << 30), i) for i in range(len(ids) - 1))
        if best[0] == 1 << 30:
            break
        ids[best[1] : best[1] + 2] = [best[0]]
    return ids


def differ():
    """"abcd" is joined of "ab" and "cd", which has a higher rank; "xyz" of nothing: it is there only as a whole piece."""
    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256, b"abcd": 257, b"cd": 258, b"xyz": 259}
    texts = ["abcd", "abcdx", "ababcdcd", "xyz", "xyza", "cdab", "abc"]
    return ranks, [{"text": t, "ids": by_rank(ranks, t.encode()), "listed": by_list(ranks, t.encode())} for t in texts]


TEXTS = ["", " ", "  ", "\n", "\r\n", " \t\n  x", "The furnace stood in the middle of the yard.", "It's WE'LL they'Ve 'S 'tis don't''s",
         "naïve café — œuvre", "今天炼一炉，明天再炼一炉。", "Кузнец говорил медленно", "대장장이는 불을", "x = 1234567 + 0x1F; // 12",
         "🙂🔥👩‍🔧", "a\u3000b\u00a0c\u2028d", "\n\n\n  def f(x):\n\treturn x[0]\n", "ſ'ſ 'ſt", "1,024.5 ²³ ٣٤", "((a)) [b] {c}!?\n\n", "e\u0301 \u0301",
         "a" * 70, " " * 70, "中" * 40, "ab" * 40, "<|endoftext|>", "tab\tsep\x00nul\x7f", "A.B.C. 3.14"]


def main(out):
    folder = os.path.join(out, "tiktoken")
    os.makedirs(folder, exist_ok=True)
    source = open(public.__file__, encoding="utf-8").read()
    cl100k = re.search(r'"name": "cl100k_base",\s*"pat_str": r"""(.*?)"""', source, re.S).group(1)
    ranks = small()
    rnd = random.Random(3)
    texts = TEXTS + ["".join(rnd.choice(" \n\t'aeSt1é中.!") for _ in range(rnd.randint(1, 40))) for _ in range(60)]
    lines = []
    for name, pattern in (("cl100k_base", cl100k), ("r50k_base", public.r50k_pat_str)):
        t = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        lines += [{"pattern": name, "text": x, "ids": t.encode_ordinary(x)} for x in texts]
    t = tiktoken.Encoding("differ", pat_str=r"\S+|\s+", mergeable_ranks=differ()[0], special_tokens={})
    unlike, other = differ()
    assert all(t.encode_ordinary(x["text"]) == x["ids"] for x in other)
    for name, r, content in (("small", ranks, lines), ("differ", unlike, other)):
        with open(os.path.join(folder, name + ".tiktoken"), "w", encoding="ascii", newline="\n") as f:
            f.writelines(f"{base64.b64encode(k).decode()} {v}\n" for k, v in sorted(r.items(), key=lambda x: x[1]))
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8", newline="\n") as f:
            f.writelines(json.dumps(x) + "\n" for x in content)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
