#!/usr/bin/env python3
"""Writes src/text/uni_tables.h: character classes as Hugging Face `tokenizers` has them, as ranges.

    python3 tools/make_uni_tables.py > src/text/uni_tables.h        needs tokenizers, and Python 3.11 for Unicode 14
    python3 tools/make_uni_tables.py newer > src/text/uni_newer.h
    python3 tools/make_uni_tables.py case > src/text/uni_case.h

The library takes them from several versions of Unicode: StripAccents from 9, Digits from Rust's own, scripts from the table
of SentencePiece.  They are data here, not something to compute from the Unicode version that a machine happens to have.
"""
import re
import sys
import unicodedata
import tokenizers
from tokenizers import normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(rows):
    out = []
    for c, v in rows:
        if out and out[-1][1] + 1 == c and out[-1][2] == v:
            out[-1][1] = c
        else:
            out.append([c, c, v])
    return out


def show(name, doc, rows):
    print(f"\n/* {doc} */\nstatic const struct dan_range {name}[] = {{")
    line = "   "
    for a, b, v in rows:
        item = f" {{0x{a:X}, 0x{b:X}, {v}}},"
        if len(line) + len(item) > 138:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")


def scripts():
    """Two characters have one script when UnicodeScripts does not part them; 0 is Any, which parts nothing."""
    split = pre_tokenizers.UnicodeScripts()
    first, rows, last = [ord("a"), ord("一")], [], 0

    def same(a, b):
        return len(split.pre_tokenize_str(chr(a) + chr(b))) == 1

    for c in POINTS:
        if same(ord("a"), c) and same(ord("一"), c):
            k = 0
        elif last and same(first[last - 1], c):
            k = last
        else:
            k = next((i for i, f in enumerate(first, 1) if same(f, c)), 0)
            if not k:
                first.append(c)
                k = len(first)
        last = k or last
        if k:
            rows.append((c, k))
    return ranges(rows)


ALL = "".join(map(chr, POINTS))


def matches(pattern):
    """The code points that a pattern of Oniguruma matches."""
    left = set(normalizers.Replace(tokenizers.Regex(pattern), "").normalize_str(ALL))
    return [c for c in POINTS if chr(c) not in left]


def newer(pattern):
    """Those that Unicode 14, which PCRE2 may still have, had not assigned, as members of a set."""
    assert unicodedata.unidata_version == "14.0.0"
    out = ""
    for a, b, _ in ranges((c, 0) for c in matches(pattern) if unicodedata.category(chr(c)) == "Cn"):
        out += f"\\x{{{a:x}}}" + (f"-\\x{{{b:x}}}" if b > a else "")
    return out


def quoted(text):
    lines = [""]
    for item in re.findall(r"\\[px]\{[^}]*\}|-", text):
        item = item.replace("\\", "\\\\")
        if len(lines[-1]) + len(item) > 112 and item != "-":
            lines.append("")
        lines[-1] += item
    return "\n         ".join(f'"{line}"' for line in lines)


def main_newer():
    print(f"/* Made by tools/make_uni_tables.py from tokenizers {tokenizers.__version__}. */\n#ifndef DAN_TEXT_UNI_NEWER_H\n"
          "#define DAN_TEXT_UNI_NEWER_H\n\n/* \\p{...} and \\w of Oniguruma, which knows Unicode 16, for a PCRE2 that may only know 14: "
          "members of a set */\nstatic const struct { const char *name, *in; } uni_newer[] = {")
    for name in ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
                 "S", "Sm", "Sc", "Sk", "So"]:
        print(f'    {{"{name.lower()}", ' + quoted(f"\\p{{{name}}}" + newer(f"\\p{{{name}}}")) + "},")
    print('    {"alphabetic", ' + quoted("\\p{Alphabetic}" + newer("[[:alpha:]]")) + "},")
    print('    {"word", ' + quoted("\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" + newer("\\w")) + "},")
    print("};\n\n#endif")


def every_second(points):
    """Ranges whose value is the distance of their members: capital and small letters often take turns."""
    out = []
    for c in points:
        if out and out[-1][0] == out[-1][1] and c - out[-1][1] in (1, 2):
            out[-1][1:] = [c, c - out[-1][1]]
        elif out and c - out[-1][1] == out[-1][2]:
            out[-1][1] = c
        else:
            out.append([c, c, 1])
    return out


def main_case():
    print(f"/* Made by tools/make_uni_tables.py from tokenizers {tokenizers.__version__}. */\n#ifndef DAN_TEXT_UNI_CASE_H\n"
          "#define DAN_TEXT_UNI_CASE_H\n#include \"text/unicode.h\"\n\n/* value: 1 every character of the range, 2 every second */")
    show("uni_upper", "\\p{Lu}, \\p{Lt}", every_second(matches("[\\p{Lu}\\p{Lt}]")))
    show("uni_lower", "\\p{Ll}", every_second(matches("\\p{Ll}")))
    show("uni_m", "\\p{M}", every_second(matches("\\p{M}")))
    print("\n#endif")


def main():
    accents, digits = normalizers.StripAccents(), pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.Whitespace()
    compat, plain = normalizers.NFKD(), normalizers.NFD()
    print(f"/* Made by tools/make_uni_tables.py from tokenizers {tokenizers.__version__}. */\n#ifndef DAN_TEXT_UNI_TABLES_H\n"
          "#define DAN_TEXT_UNI_TABLES_H\n#include \"text/unicode.h\"")
    show("uni_mark", "StripAccents removes these", ranges((c, 0) for c in POINTS if accents.normalize_str(chr(c)) == ""))
    show("uni_numeric", "Digits splits at these", ranges((c, 0) for c in POINTS if len(digits.pre_tokenize_str("aa" + chr(c) + "a")) > 1))
    show("uni_word", "Whitespace takes these for parts of words: \\w of Rust's crate regex",
         ranges((c, 0) for c in POINTS if len(words.pre_tokenize_str("a" + chr(c) + "a")) == 1))
    show("uni_letter", "\\p{L}", ranges((c, 0) for c in matches("\\p{L}")))
    show("uni_number", "\\p{N}", ranges((c, 0) for c in matches("\\p{N}")))
    show("uni_compat", "these have a compatibility decomposition (the newer ones of Unicode have none here)",
         ranges((c, 0) for c in POINTS if compat.normalize_str(chr(c)) != plain.normalize_str(chr(c))))
    show("uni_script", "scripts as UnicodeScripts tells them apart; what is left out parts nothing", scripts())
    print("\n#endif")


{"newer": main_newer, "case": main_case}.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
