#!/usr/bin/env python3
"""Makes what llm.c's train_gpt2 and danlu need to train the same random GPT-2 on the same token stream.

    python3 bench/make_llmc_input.py OUT [--vocab 50257 --layers 12 --heads 12 --hidden 768 --positions 1024 --tokens N]

writes OUT/gpt2_124M.bin        checkpoint, format version 3 (float32): header of 256 i32, then the 16 kinds of tensors
       OUT/tokens.bin           token file, version 1: header of 256 i32, then u16 ids
       OUT/gpt2_tokenizer.bin   tokeniser, version 2; the program reads the end-of-text id from it
       OUT/text.txt             the same stream for danlu's character tokeniser: id i is the i-th of `vocab` code points
The stream can be learned (most ids follow from the one before) and contains every id, so that both sides have the same vocabulary.
Needs numpy.  About 500 MB with the default sizes; 8 tokens per id unless told otherwise.
"""
import argparse
import os
import struct

import numpy as np

FIRST_CHAR = 0x4E00                # CJK ideographs upwards: no spaces, no controls


def header(magic, version, *fields):
    return struct.pack("<256i", magic, version, *fields, *[0] * (254 - len(fields)))


def write_checkpoint(path, a, rng):
    c, layers, padded = a.hidden, a.layers, -(-a.vocab // 128) * 128
    small = 0.02 / np.sqrt(2 * layers)
    # (values, standard deviation or None for zeros, or 1.0 for ones): the order in which the program keeps its tensors
    tensors = [(padded * c, 0.02), (a.positions * c, 0.02), (layers * c, 1.0), (layers * c, None),              # wte wpe ln1 w b
               (layers * 3 * c * c, 0.02), (layers * 3 * c, None), (layers * c * c, small), (layers * c, None),  # qkv, proj
               (layers * c, 1.0), (layers * c, None), (layers * 4 * c * c, 0.02), (layers * 4 * c, None),        # ln2 w b, up
               (layers * 4 * c * c, small), (layers * c, None), (c, 1.0), (c, None)]                             # down, lnf w b
    with open(path, "wb") as f:
        f.write(header(20240326, 3, a.positions, a.vocab, layers, a.heads, c, padded))
        for count, std in tensors:
            if std is None or std == 1.0:
                values = np.full(count, std or 0.0, dtype="<f4")
            else:
                values = rng.standard_normal(count, dtype=np.float32) * np.float32(std)
            if count == padded * c:
                values[a.vocab * c:] = 0                    # rows beyond the vocabulary
            values.astype("<f4").tofile(f)


def make_stream(a, rng):
    """Seven of eight ids walk a fixed random map over 256 common ids; the rest visits all ids in random order."""
    follow = rng.permutation(256)
    walk, at = np.empty(a.tokens, dtype=np.int64), 0
    jump, to = rng.random(a.tokens) < 0.1, rng.integers(0, 256, a.tokens)
    for i in range(a.tokens):
        at = to[i] if jump[i] else follow[at]
        walk[i] = at
    places = np.arange(0, a.tokens, 8)
    if len(places) < a.vocab:
        raise SystemExit(f"{a.tokens} tokens are too few for every one of {a.vocab} ids, give --tokens {8 * a.vocab}")
    walk[places] = np.concatenate([rng.permutation(a.vocab), rng.integers(0, a.vocab, len(places) - a.vocab)])
    return walk


def write_tokens(path, ids):
    with open(path, "wb") as f:
        f.write(header(20240520, 1, len(ids)))
        ids.astype("<u2").tofile(f)


def write_tokenizer(path, vocab):
    with open(path, "wb") as f:
        f.write(struct.pack("<256I", 20240328, 2, vocab, vocab - 1, *[0] * 252))
        f.write(b"\x01?" * vocab)


def write_text(path, ids):
    code = ids + FIRST_CHAR
    code = np.where(code >= 0xD800, code + 0x800, code)     # step over the surrogates
    code = np.where(code >= 0xFDD0, code + 0x10230, code)   # and from the noncharacters to U+20000
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write("".join(map(chr, code)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    for name, default in (("vocab", 50257), ("layers", 12), ("heads", 12), ("hidden", 768), ("positions", 1024), ("tokens", 0),
                          ("seed", 1)):
        p.add_argument("--" + name, type=int, default=default)
    a = p.parse_args()
    a.tokens = a.tokens or 8 * a.vocab
    if not 256 <= a.vocab <= 65536:
        p.error("--vocab must be between 256 and 65536: token files hold 16-bit ids")
    os.makedirs(a.out, exist_ok=True)
    rng = np.random.default_rng(a.seed)
    ids = make_stream(a, rng)
    write_tokens(os.path.join(a.out, "tokens.bin"), ids)
    write_text(os.path.join(a.out, "text.txt"), ids)
    write_tokenizer(os.path.join(a.out, "gpt2_tokenizer.bin"), a.vocab)
    write_checkpoint(os.path.join(a.out, "gpt2_124M.bin"), a, rng)


if __name__ == "__main__":
    main()
