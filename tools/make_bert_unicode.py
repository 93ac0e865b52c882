#!/usr/bin/env python3
"""Writes src/text/bert_unicode.h: what BERT's normalizer and pre-tokenizer do with each code point, as ranges.

    python3 tools/make_bert_unicode.py > src/text/bert_unicode.h        needs tokenizers

`tokenizers` takes categories from Unicode 8 and decompositions from Unicode 9; neither will change, so this is data, not
something to compute from the Unicode version that a machine happens to have.
"""
import tokenizers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
import unicodedata

clean = BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
strip = BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
lower = BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=True)
chinese = BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
split = BertPreTokenizer()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] + 1 == c:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def show(name, doc, rows):
    print(f"\n/* {doc} */\nstatic const struct dan_range {name}[] = {{")
    line = "   "
    for r in rows:
        item = " {" + ", ".join(f"0x{v:X}" if i < 2 else str(v) for i, v in enumerate([*r, 0][:3])) + "},"
        if len(line) + len(item) > 138:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")


def parts(c):
    return len(split.pre_tokenize_str("a" + chr(c) + "b"))


def before(a, b):
    """Whether normalisation puts a before b when they come as b a."""
    return strip.normalize_str("x" + chr(b) + chr(a)) == "x" + chr(a) + chr(b)


def combining():
    """Marks that stay and still are put in canonical order, with their class; known classes tell the others'."""
    known = [(7, 0x11446), (9, 0x1B44), (216, 0x1D165), (224, 0x302E), (226, 0x1D16D), (230, 0x1E000)]
    out = []
    for c in POINTS:
        if not unicodedata.combining(chr(c)) or strip.normalize_str(chr(c)) != chr(c):
            continue
        k = unicodedata.combining(chr(c))
        if any(before(c, m) if k < n else before(m, c) if k > n else False for n, m in known):
            out.append((c, k))
    rows = []
    for c, k in out:
        if rows and rows[-1][1] + 1 == c and rows[-1][2] == k:
            rows[-1][1] = c
        else:
            rows.append([c, c, k])
    return rows


def new_lower():
    """Lower case of letters younger than Unicode 15, which utf8proc may not know yet: first, last, distance."""
    rows = []
    for c in POINTS:
        low = lower.normalize_str(chr(c))
        if len(low) != 1 or low == chr(c) or unicodedata.name(chr(c), None) and chr(c).lower() == low:
            continue
        d = ord(low) - c
        if rows and rows[-1][1] + 1 == c and rows[-1][2] == d:
            rows[-1][1] = c
        else:
            rows.append([c, c, d])
    return rows


print(f"/* Made by tools/make_bert_unicode.py from tokenizers {tokenizers.__version__}: categories of Unicode 8. */")
print("#ifndef DAN_TEXT_BERT_UNICODE_H\n#define DAN_TEXT_BERT_UNICODE_H\n#include <stdint.h>\n")
print("struct dan_range { int32_t first, last, value; };")
show("bert_control", "clean_text removes these", ranges(c for c in POINTS if clean.normalize_str(chr(c)) == ""))
show("bert_space", "words end here", ranges(c for c in POINTS if parts(c) == 2))
show("bert_punct", "each is a word of its own", ranges(c for c in POINTS if parts(c) == 3))
show("bert_chinese", "so are these, before anything else is done to them",
     ranges(c for c in POINTS if len(chinese.normalize_str(chr(c))) == 3))
show("bert_accent", "strip_accents removes these", ranges(c for c in POINTS if strip.normalize_str(chr(c)) == ""))
show("bert_mark", "marks that stay, with their combining class: neighbours are put in its order", combining())
show("bert_lower", "lower case of young letters: distance", new_lower())
print("\n#endif")
