#!/usr/bin/env python3
"""Writes wordpiece/: a small WordPiece vocabulary and what tokenizers makes of difficult texts with it.

    python3 tests/golden/make_wordpiece_golden.py [OUT]        OUT defaults to the folder of this script; needs tokenizers

tokenizer.json, vocab.txt (the same vocabulary) and cases.jsonl: {"clean", "chinese", "strip", "lower", "cases": [[text, ids], ...]}
for BertNormalizer's switches (null: not set).  Texts: written for this file, every kind of character, and random ones.
"""
import itertools
import json
import os
import random
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CORPUS = ["The furnace stood in the middle of the yard. It's lit, they're waiting; we'll see in 1987 or 2026.",
          "Unaffable elixirs were refined, refining and refinable: seven small stones, one patient monk.",
          "老师傅说，炼丹要看火候。炼丹要看火候。", "naïve café résumé Ångström über straße", "Ελληνικά και русский текст",
          "한국어 문장과 日本語の文章です", "https://example.org/a_b?c=d&e=f#g (x+y)*[z] {1}~`^|\\ <tag> @user $5 100%"] * 3
TEXTS = ["", " ", "  two   spaces ", "Unaffable", "unaffableelixirs", "REFINING", "don't", "a.b.c", "...", "!?", "[MASK]", "[CLS] x [SEP]",
         "##ing", "#", "x" * 100, "x" * 101, "é" * 100 + " e", "é" * 101, "丹" * 120, "火候炼丹", "a火b候c", "㐀𠀀豈", "ﬁne ﬂow", "İstanbul", "ǅ Ǆ ẞ", "Σίσυφος",
         "e\u0301\u0323 e\u0323\u0301", "a\u0344b", "\u1e69", "q\u0307\u0323", "\u302e\u1d165\u302e", "x\U0001d165\u302e\u1b44y", "\u08d4\u1b44",
         "\ufb1d\u05d0\u05b7", "\u0e33 \u0e01\u0e33", "हिन्दी वाक्य", "தமிழ்", "ไทยไทย", "עִבְרִית", "العَرَبِيَّة", "각각", "한국어 문장과", "日本語の文章です",
         "tab\there\nnew\rline\u2028sep\u2029par\u0085nel\u00a0nbsp\u3000wide", "zero\u200bwidth\u200djoin\ufeffbom\u00adshy", "nul\x00bell\x07del\x7f",
         "\ufffd", "private\ue000use\U000f0000", "emoji 🙂🙂 👩‍👩‍👧 🇨🇭 ☺️", "“quotes” ‘single’ «guillemets» 「jp」 —dash– …", "¿qué? ¡sí! ¶ § ©", "1,234.56 ½ ² ①",
         "math ∑∫≠∞ ℵ", "$€¥£₿", "a+b=c<d>e|f~g^h`i", "under_score-and-dash", "𝐛𝐨𝐥𝐝 𝒻𝒶𝓃𝒸𝓎", "ＦＵＬＬ ｗｉｄｔｈ", "\U0001d7ce\U0001d7cf", "\u166d \u1b7d \u2e43 \u01f9 \u01c9",
         "\u1c89\ua7cb\U00010d50", "\U00011938\U000105c9", "ϓ Ω Å K", "ᾳ ᾴ ῼ", "\u0958\u09dc\u0a33"]


def train():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False))
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok


def random_texts(rng, n):
    pools = [range(0x20, 0x7F), range(0xC0, 0x250), range(0x300, 0x370), range(0x370, 0x500), range(0x590, 0x700), range(0x900, 0xA00),
             range(0x4E00, 0x4E40), range(0x3040, 0x3100), range(0xAC00, 0xAC40), range(0x1F300, 0x1F600), range(0x2000, 0x2070), [0x20],
             [9, 10, 13, 0, 11, 12, 0x85], [0x1B44, 0x1D165, 0x302E, 0x1D16D, 0x11446, 0x8D4, 0x1E000, 0x302, 0x323, 0x900, 0x41],
             [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]]
    return ["".join(chr(rng.choice(rng.choice(pools))) for _ in range(rng.randrange(1, 24))) for _ in range(n)]


def main():
    out = os.path.join(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)), "wordpiece")
    os.makedirs(out, exist_ok=True)
    tok = train()
    tok.save(os.path.join(out, "tokenizer.json"), pretty=False)
    vocab = tok.get_vocab()
    with open(os.path.join(out, "vocab.txt"), "w", encoding="utf-8") as f:
        f.writelines(w + "\n" for w in sorted(vocab, key=vocab.get))
    rng = random.Random(1)
    with open(os.path.join(out, "cases.jsonl"), "w", encoding="utf-8") as f:
        for i, (clean, chinese, strip, lower) in enumerate(itertools.product([True, False], [True, False], [None, True, False], [True, False])):
            tok.normalizer = normalizers.BertNormalizer(clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower)
            texts = (TEXTS if i < 2 or i > 21 else rng.sample(TEXTS, 20)) + random_texts(rng, 60 if i == 0 else 10)
            cases = [[t, tok.encode(t, add_special_tokens=False).ids] for t in texts]
            json.dump({"clean": clean, "chinese": chinese, "strip": strip, "lower": lower, "cases": cases}, f, separators=(",", ":"))
            f.write("\n")


if __name__ == "__main__":
    main()
