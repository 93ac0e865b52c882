#!/usr/bin/env python3
"""Writes the GGUF files that danlu's reader, its storage formats and its llama are compared with.

    python3 tests/golden/make_gguf_golden.py [OUT]        OUT defaults to gguf/ beside this script

needs gguf, numpy, torch and transformers; the versions are stored in each file's key "golden.made_by" and in README.md.
types.gguf: every type of key; for each storage format a tensor NAME of random blocks and NAME.f32, what gguf.quants makes of it; and
for each format that gguf.quants can write, x.NAME, what it makes of x. llama.gguf: a random model whose q and k rows are permuted as
llama.cpp wants them, a token table in F16, with the logits that transformers computes.
"""
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, quants
from importlib.metadata import version
from transformers import LlamaConfig, LlamaForCausalLM

MADE_BY = (f"make_gguf_golden.py; gguf {version('gguf')}; numpy {np.__version__}; torch {torch.__version__.split('+')[0]}; "
           f"transformers {transformers.__version__}")
FORMATS = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL]
WRITTEN = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0]
# Where the f16 scales of a block lie: random bytes there could be infinite or NaN.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2],
          T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0]}
N = 512


def random_blocks(rng, t):
    """One row of N elements."""
    block, size = quants.GGML_QUANT_SIZES[t]
    if t in (T.F16, T.BF16):
        return quants.quantize(rng.standard_normal(N).astype(np.float32), t).reshape(1, -1)
    b = rng.integers(0, 256, (N // block, size), dtype=np.uint8)
    for at in SCALES[t]:
        scale = (rng.standard_normal(N // block) * 2.0 ** rng.integers(-20, 8, N // block)).astype(np.float16)     # also subnormal
        b[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return b.reshape(1, -1)


def source(rng):
    """Rows that quantisers get wrong: ties, zeros, one sign, tiny and large values."""
    x = rng.standard_normal((8, N)).astype(np.float32)
    x[1] = 0
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4] *= np.float32(1e-4)
    x[5] *= np.float32(100)
    x[6] = np.round(x[6] * 4) / 4
    x[7, ::32] = 3
    x[7, 1::32] = -3
    return x


def types(path):
    rng = np.random.default_rng(4)
    w = GGUFWriter(path, "golden")
    w.add_string("golden.made_by", MADE_BY)
    w.add_uint8("k.u8", 200)
    w.add_int8("k.i8", -100)
    w.add_uint16("k.u16", 60000)
    w.add_int16("k.i16", -30000)
    w.add_uint32("k.u32", 4000000000)
    w.add_int32("k.i32", -2000000000)
    w.add_float32("k.f32", 0.1)
    w.add_bool("k.bool", True)
    w.add_string("k.string", "danlu \u4e39\u7089")
    w.add_uint64("k.u64", 2 ** 63 + 5)
    w.add_int64("k.i64", -2 ** 62)
    w.add_float64("k.f64", 0.1)
    w.add_array("k.ints", [1, -2, 3])
    w.add_array("k.floats", [0.5, -1.5])
    w.add_array("k.strings", ["one", "", "\u4e09"])
    w.add_array("k.bools", [True, False, True])
    for t in FORMATS:
        blocks = random_blocks(rng, t)
        name = t.name.lower()
        w.add_tensor(name, blocks, raw_dtype=t)
        w.add_tensor(name + ".f32", quants.dequantize(blocks, t).astype(np.float32))
    x = source(rng)
    w.add_tensor("x", x)
    for t in WRITTEN:
        w.add_tensor("x." + t.name.lower(), quants.quantize(x, t), raw_dtype=t)
    for dtype in np.int8, np.int32, np.int64, np.float64:
        w.add_tensor("plain." + np.dtype(dtype).name, np.arange(-3, 3, dtype=dtype).reshape(2, 3))
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def permute(weight, heads):
    """Halves of each head become pairs, as llama.cpp's converter writes them."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).transpose(0, 2, 1, 3).reshape(weight.shape)


NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def gguf_name(hf):
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if hf in top:
        return top[hf]
    _, _, layer, rest = hf.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def llama(path):
    c = LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32,
                    max_position_embeddings=32, rms_norm_eps=1e-5, rope_theta=5000.0, tie_word_embeddings=False, bos_token_id=1,
                    eos_token_id=2, attn_implementation="eager")
    model = LlamaForCausalLM(c)
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            p.copy_(0.3 * torch.randn(*p.shape, generator=torch.Generator().manual_seed(i)) + (1.0 if p.dim() == 1 else 0.0))
        table = model.model.embed_tokens.weight
        table.copy_(table.half().float())
    tokens = torch.randint(0, 64, (1, 12), generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        logits = model.eval()(input_ids=tokens).logits[0].numpy()
    w = GGUFWriter(path, "llama")
    w.add_string("golden.made_by", MADE_BY)
    w.add_context_length(32)
    w.add_embedding_length(16)
    w.add_block_count(2)
    w.add_feed_forward_length(32)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(5000.0)
    w.add_rope_dimension_count(4)
    w.add_vocab_size(64)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_array("golden.tokens", tokens[0].tolist())
    w.add_array("golden.logits", [float(x) for x in logits.reshape(-1)])
    for name, p in model.state_dict().items():
        a = p.numpy()
        if "q_proj" in name:
            a = permute(a, 4)
        if "k_proj" in name:
            a = permute(a, 2)
        w.add_tensor(gguf_name(name), a.astype(np.float16) if "embed" in name else a)
    finish(w)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
    os.makedirs(out, exist_ok=True)
    torch.set_num_threads(1)
    types(os.path.join(out, "types.gguf"))
    llama(os.path.join(out, "llama.gguf"))
    for name in os.listdir(out):
        os.chmod(os.path.join(out, name), 0o644)


main()
