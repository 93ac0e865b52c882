#!/usr/bin/env python3
"""Makes a random LLaMA as a Hugging Face folder and as a GGUF file with the same bits.

    python3 bench/make_llama.py OUT --shape 15M|110M|0.5B|1.1B [--types bf16,f16,f32] [--seed 1]

writes OUT/config.json, OUT/model.safetensors (BF16), OUT/tokenizer.json   for danlu
       OUT/model-bf16.gguf (and -f16, -f32 when asked for)                 for llama.cpp
The weights are normal with deviation 0.02 (projections to the residual stream smaller, as in GPT-2), rounded to bf16; norms are
around one.  The tokenizer is a byte-level BPE whose merges make every text of small letters short; both files hold the same one, so
both sides read the same prompt.  llama.cpp rotates neighbouring pairs where Hugging Face rotates halves: the rows of q and k are
reordered, which changes no product.  Needs numpy and gguf.
"""
import argparse
import itertools
import json
import os
import struct

import numpy as np

SHAPES = {                          # those of stories15M, stories110M, TinyLlama 1.1B and 8 of its 22 layers, which is about 1 GB
    "15M": dict(hidden=288, layers=6, heads=6, kv=6, ffn=768, context=2048, tied=True),
    "110M": dict(hidden=768, layers=12, heads=12, kv=12, ffn=2048, context=2048, tied=True),
    "0.5B": dict(hidden=2048, layers=8, heads=32, kv=4, ffn=5632, context=2048, tied=False),
    "1.1B": dict(hidden=2048, layers=22, heads=32, kv=4, ffn=5632, context=2048, tied=False),
}
VOCAB, EPS, THETA = 32000, 1e-5, 10000.0


def to_bf16(x):
    """f32 -> bits of bf16, nearest even."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (u.astype(np.uint32) << 16).view(np.float32)


def tensors(s):
    """(Hugging Face name, GGUF name, shape, deviation or None for a norm, heads whose rows are reordered)"""
    c, d = s["hidden"], s["hidden"] // s["heads"]
    small = 0.02 / np.sqrt(2 * s["layers"])
    yield "model.embed_tokens.weight", "token_embd.weight", (VOCAB, c), 0.02, 0
    for i in range(s["layers"]):
        hf, gg = f"model.layers.{i}.", f"blk.{i}."
        yield hf + "input_layernorm.weight", gg + "attn_norm.weight", (c,), None, 0
        yield hf + "self_attn.q_proj.weight", gg + "attn_q.weight", (s["heads"] * d, c), 0.02, s["heads"]
        yield hf + "self_attn.k_proj.weight", gg + "attn_k.weight", (s["kv"] * d, c), 0.02, s["kv"]
        yield hf + "self_attn.v_proj.weight", gg + "attn_v.weight", (s["kv"] * d, c), 0.02, 0
        yield hf + "self_attn.o_proj.weight", gg + "attn_output.weight", (c, s["heads"] * d), small, 0
        yield hf + "post_attention_layernorm.weight", gg + "ffn_norm.weight", (c,), None, 0
        yield hf + "mlp.gate_proj.weight", gg + "ffn_gate.weight", (s["ffn"], c), 0.02, 0
        yield hf + "mlp.up_proj.weight", gg + "ffn_up.weight", (s["ffn"], c), 0.02, 0
        yield hf + "mlp.down_proj.weight", gg + "ffn_down.weight", (c, s["ffn"]), small, 0
    yield "model.norm.weight", "output_norm.weight", (c,), None, 0
    if not s["tied"]:
        yield "lm_head.weight", "output.weight", (VOCAB, c), 0.02, 0


def draw(index, shape, deviation, seed):
    rng = np.random.default_rng([seed, index])
    x = rng.standard_normal(shape, dtype=np.float32)
    return to_bf16(1 + 0.1 * x if deviation is None else x * np.float32(deviation))


def write_safetensors(path, s, seed):
    """In the order of names, as Hugging Face writes them."""
    listed = sorted(enumerate(tensors(s)), key=lambda t: t[1][0])
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for _, (name, _, shape, _, _) in listed:
        n = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for i, (_, _, shape, deviation, _) in listed:
            draw(i, shape, deviation, seed).tofile(f)


def byte_chars():
    """GPT-2's printable character for every byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (256 + i for i in itertools.count())
    return [chr(b if b in shown else next(rest)) for b in range(256)]


def vocabulary():
    """256 bytes, then merges of two, three, four small letters in order: (tokens, merges)."""
    tokens, merges = byte_chars(), []
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    longest = letters
    while len(tokens) < VOCAB - 2:
        pairs = [(a, b) for a in longest for b in letters][:VOCAB - 2 - len(tokens)]
        merges += pairs
        longest = [a + b for a, b in pairs]
        tokens += longest
    return tokens + ["<s>", "</s>"], merges


def write_tokenizer(folder):
    tokens, merges = vocabulary()
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i in (VOCAB - 2, VOCAB - 1)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "vocab": {t: i for i, t in enumerate(tokens)},
             "merges": [" ".join(m) for m in merges]}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None, "pre_tokenizer": level,
             "post_processor": level, "decoder": level, "model": model}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(whole, f, ensure_ascii=False)


def write_config(folder, s):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": s["hidden"],
              "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"], "num_key_value_heads": s["kv"],
              "intermediate_size": s["ffn"], "max_position_embeddings": s["context"], "rms_norm_eps": EPS, "rope_theta": THETA,
              "hidden_act": "silu", "tie_word_embeddings": s["tied"], "bos_token_id": VOCAB - 2, "eos_token_id": VOCAB - 1,
              "torch_dtype": "bfloat16"}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)


def pairs_from_halves(bits, heads):
    """Rows of every head from (first half, second half) to neighbouring pairs."""
    return bits.reshape(heads, 2, -1, bits.shape[1]).swapaxes(1, 2).reshape(bits.shape)


def write_gguf(path, s, seed, kind):
    import gguf
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(s["context"])
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv"])
    w.add_rope_dimension_count(s["hidden"] // s["heads"])
    w.add_rope_freq_base(THETA)
    w.add_layer_norm_rms_eps(EPS)
    w.add_vocab_size(VOCAB)
    tokens, merges = vocabulary()
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (VOCAB - 2) + [gguf.TokenType.CONTROL] * 2)
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(VOCAB - 2)
    w.add_eos_token_id(VOCAB - 1)
    w.add_add_bos_token(False)
    types = {"bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16, "f32": gguf.GGMLQuantizationType.F32}
    for i, (_, name, shape, deviation, heads) in enumerate(tensors(s)):
        bits = draw(i, shape, deviation, seed)
        if heads:
            bits = pairs_from_halves(bits, heads)
        if deviation is None or kind == "f32":
            w.add_tensor(name, from_bf16(bits))
        elif kind == "f16":
            w.add_tensor(name, from_bf16(bits).astype(np.float16))
        else:
            w.add_tensor(name, bits.view(np.uint8), raw_dtype=types[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--shape", choices=SHAPES, required=True)
    p.add_argument("--types", default="bf16", help="GGUF files to write: bf16, f16, f32")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    s = SHAPES[a.shape]
    write_config(a.out, s)
    write_tokenizer(a.out)
    write_safetensors(os.path.join(a.out, "model.safetensors"), s, a.seed)
    for kind in filter(None, a.types.split(",")):
        write_gguf(os.path.join(a.out, f"model-{kind}.gguf"), s, a.seed, kind)


if __name__ == "__main__":
    main()
