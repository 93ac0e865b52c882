#!/usr/bin/env python3
"""Writes sentencepiece/: small models and what SentencePiece makes of difficult texts with them.

    python3 tests/golden/make_sentencepiece_golden.py [OUT]    OUT defaults to the folder of this script; needs sentencepiece, tokenizers

NAME.model and cases.jsonl, one line for each model: {"model", "cases": [[hex of the text, ids, hex of the decoded text], ...],
"spans": [[hex of the text, [[begin, end], ...]], ...], "decode": [[ids, hex], ...], "long": [hex, times, ids, crc]}.  long: a text
repeated; how many ids, and zlib's crc32 of them as little-endian int32.
models.jsonl: the models of `tokenizers` alone: {"type", ..., "cases": [[text, ids], ...]}.
The models learn from bpe/corpus.txt, without most of its rare characters.
"""
import json
import os
import random
import struct
import sys
import zlib

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import models

HERE = os.path.dirname(os.path.abspath(__file__))
RULES = "0041\t0061\n0042\t0062 0062\n0041 0042\t0078 0079\n0020 0020\t0020\n00E9\t\n4E2D\t0020\n0031 0032\t0020 0033 0020\n0009\t0020\nFB01\t0066 0069\n0065 0301\t00E9\n"
UNRULES = "0061\t0041\n0020\t0020 0020\n"
USER = ["<sep>", "the", "\u2581of", "ab ab", "火候", " x"]
MODELS = {
    "unigram": dict(model_type="unigram", vocab_size=160, rules=RULES, unrules=UNRULES),
    "unigram_user": dict(model_type="unigram", vocab_size=430, byte_fallback=True, user_defined_symbols=USER, control_symbols=["<ctl>", "#"],
                         normalization_rule_name="identity", remove_extra_whitespaces=False),
    "unigram_suffix": dict(model_type="unigram", vocab_size=150, normalization_rule_name="identity", treat_whitespace_as_suffix=True,
                           unk_surface=" UNK! ", unk_piece="[UNK]", bos_piece="[B]", eos_piece="[E]", pad_piece="[P]", pad_id=3),
    "bpe": dict(model_type="bpe", vocab_size=160, rules=RULES, remove_extra_whitespaces=False, add_dummy_prefix=False),
    "bpe_bytes": dict(model_type="bpe", vocab_size=460, byte_fallback=True, normalization_rule_name="identity", split_digits=True,
                      remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
    "bpe_user": dict(model_type="bpe", vocab_size=170, user_defined_symbols=USER, control_symbols=["<ctl>", "#"],
                     normalization_rule_name="identity", unk_id=2, bos_id=0, eos_id=1),
    "char": dict(model_type="char", vocab_size=200, normalization_rule_name="identity", user_defined_symbols=["<sep>", "the"]),
    "word": dict(model_type="word", vocab_size=120, normalization_rule_name="identity"),
}
TEXTS = ["", " ", "   ", "Hello world", " Hello   world  ", "\u2581", "\u2581\u2581 \u2581a", "a\tb\nc\r\n", "The furnace stood in the yard.", "the<sep>the of ab ab x x",
         "#<ctl><s></s><unk><0x41>[UNK]", "AB A B 12 1212 e\u0301 \ufb01re", "火候炼丹 要看火候 中", "x" * 80, "ab" * 40, "don't we've seen 1,024 grams",
         "\u00e9\u00e9 \u00e9", "\U0001f642 \U0001f469\u200d\U0001f467", "\x00a\x00", "\u3000wide\u00a0nbsp", "waiting  waiting", "<sep><sep> <sep>"]
BYTES = [b"\xff", b"a\xe4\xb8", b"\xe4\xb8\xad\x80b", b"\xc0\x80\xed\xa0\x80", b"\xf4\x90\x80\x80 x", bytes(range(128, 256))]


def train(name, how):
    how, rules = dict(how), []
    for key, option in (("rules", "normalization_rule_tsv"), ("unrules", "denormalization_rule_tsv")):
        if key in how:
            rules.append(f"/tmp/{name}.{key}.tsv")
            open(rules[-1], "w").write(how.pop(key))
            how[option] = rules[-1]
    corpus = f"/tmp/{name}.txt"
    with open(os.path.join(HERE, "bpe", "corpus.txt")) as f:
        open(corpus, "w").write("".join(c for c in f.read() if c < "\x7f" or c in "火候炼丹要看"))
    spm.SentencePieceTrainer.train(input=corpus, model_prefix=f"/tmp/{name}", num_threads=1, minloglevel=2,
                                   hard_vocab_limit=False, character_coverage=0.98, **how)
    m = pb.ModelProto()
    m.ParseFromString(open(f"/tmp/{name}.model", "rb").read())
    del m.trainer_spec.input[:]
    m.trainer_spec.ClearField("model_prefix")
    m.normalizer_spec.ClearField("normalization_rule_tsv")
    m.denormalizer_spec.ClearField("normalization_rule_tsv")
    for path in rules + [corpus, f"/tmp/{name}.model", f"/tmp/{name}.vocab"]:
        os.remove(path)
    return m


def unused(m, every):
    """Some pieces of several characters, and one of a single character, become unused."""
    normal = [p for p in m.pieces if p.type == 1]
    for p in normal[:60:every] + normal[-3:-2]:
        p.type = 5
    return m


def cases_of(name, m):
    sp = spm.SentencePieceProcessor(model_proto=m.SerializeToString())
    r = random.Random(1)
    texts = [t.encode() for t in TEXTS] + BYTES
    for _ in range(12):
        texts.append("".join(r.choice(" \u2581aeiouthnsAB12\te\u0301火候<>.,") for _ in range(r.randint(3, 40))).encode())
        texts.append(bytes(r.choice([r.randrange(256), 32, 97, 116, 0xE2]) for _ in range(r.randint(1, 20))))
    cases = []
    for t in texts:
        try:
            ids = sp.encode(t)
        except RuntimeError:                                   # text that is a control piece
            continue
        cases.append([t.hex(), ids, sp.decode(ids).encode().hex()])
    spans = []
    for t in ["Hello  world the", " e\u0301 \ufb01re 12", "火候 ab", "AB\u2581"]:
        at = [[p.begin, p.end] for p in sp.encode(t, return_type="proto").pieces]
        for i in range(len(at) - 2, -1, -1):                   # of the bytes of a character only the last has its place
            if at[i][0] == at[i][1] == at[i + 1][0] and sp.is_byte(sp.encode(t)[i]):
                at[i][1] = at[i + 1][1]
        spans.append([t.encode().hex(), at])
    decode = []
    for _ in range(20):
        ids = [r.choice([r.randrange(len(m.pieces)), r.randrange(12)]) for _ in range(r.randint(0, 9))]
        decode.append([ids, sp.decode(ids).encode().hex()])
    text = "The old woman lit it before the birds began, 炼丹 "
    ids = sp.encode(text * 4000)
    long = [text.encode().hex(), 4000, len(ids), zlib.crc32(struct.pack(f"<{len(ids)}i", *ids))]
    return {"model": name, "cases": cases, "spans": spans, "decode": decode, "long": long}


def random_bpe(r):
    alphabet = r.choice(["abc", "abcd\u00e9中", "ab\u2581c\U0001f642"])
    prefix, suffix = r.choice(["", "", "##"]), r.choice(["", "", "</w>"])
    fallback, unk = r.random() < .2, r.random() < .7
    vocab = ["<unk>"] if unk else []
    for c in alphabet:
        if r.random() < .9:
            vocab += dict.fromkeys([c, prefix + c, c + suffix, prefix + c + suffix])
    known = [t for t in vocab if t != "<unk>"]
    vocab += [f"<0x{i:02X}>" for i in range(256) if r.random() < .995] if fallback else []
    merges = []
    for _ in range(r.randint(0, 40)):
        a, b = r.choice(known), r.choice(known)
        made = a + b[len(prefix):]
        if (suffix and a.endswith(suffix)) or not b.startswith(prefix) or len(made) > 24 or [a, b] in merges:
            continue
        if made not in vocab:
            vocab.append(made)
            known.append(made)
        merges.append([a, b])
    how = dict(byte_fallback=fallback, fuse_unk=r.random() < .5, ignore_merges=r.random() < .3)
    parts = {"unk_token": "<unk>" if unk else "", "continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    m = models.BPE(vocab={t: i for i, t in enumerate(vocab)}, merges=[tuple(x) for x in merges], **{k: v for k, v in parts.items() if v}, **how)
    return m, alphabet, dict(type="BPE", unk=0 if unk else -1, prefix=prefix, suffix=suffix, vocab=vocab, merges=merges, **how)


def random_unigram(r):
    alphabet = r.choice(["abc", "abcd\u00e9中", "ab\u2581c\U0001f642"])
    vocab, fallback = {"<unk>": 0.0}, r.random() < .2
    for _ in range(r.randint(3, 60)):
        vocab["".join(r.choice(alphabet) for _ in range(r.randint(1, 5)))] = r.choice([-1.0, -2.0, -3.5, -round(r.random() * 10, 3)])
    vocab.update({f"<0x{i:02X}>": 0.0 for i in range(256) if fallback and r.random() < .995})
    pairs = [[t, s] for t, s in vocab.items()]
    return models.Unigram([tuple(p) for p in pairs], 0, fallback), alphabet, dict(type="Unigram", unk=0, byte_fallback=fallback, vocab=pairs)


def model_cases(r, make):
    m, alphabet, line = make(r)
    line["cases"] = []
    for _ in range(8):
        text = "".join(r.choice(alphabet + "xy") for _ in range(r.choice([1, 2, 3, 5, 8, 13, 30, 90])))
        line["cases"].append([text, [t.id for t in m.tokenize(text)]])
    return line


def main():
    out = os.path.join(sys.argv[1] if len(sys.argv) > 1 else HERE, "sentencepiece")
    os.makedirs(out, exist_ok=True)
    made = {name: train(name, how) for name, how in MODELS.items()}
    made["bpe_unused"] = unused(train("bpe_unused", MODELS["bpe_user"]), 3)
    made["unigram_unused"] = unused(train("unigram_unused", MODELS["unigram"]), 4)
    with open(os.path.join(out, "cases.jsonl"), "w") as f:
        for name, m in made.items():
            open(os.path.join(out, name + ".model"), "wb").write(m.SerializeToString(deterministic=True))
            f.write(json.dumps(cases_of(name, m), separators=(",", ":")) + "\n")
    r = random.Random(2)
    with open(os.path.join(out, "models.jsonl"), "w") as f:
        for make in [random_bpe] * 24 + [random_unigram] * 10:
            f.write(json.dumps(model_cases(r, make), ensure_ascii=False, separators=(",", ":")) + "\n")


main()
