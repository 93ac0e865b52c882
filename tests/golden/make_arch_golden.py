#!/usr/bin/env python3
"""Writes arch/: for each decoder family and each scaling of rotary positions a config.json and what transformers computes.

    python3 tests/golden/make_arch_golden.py [OUT]        OUT defaults to the folder of this script
    python3 tests/golden/make_arch_golden.py --saved DIR  compares models that danlu saved (arch_test writes them to
                                                          $DANLU_ARCH_OUT) with the values of arch/

needs torch, transformers, numpy and safetensors.  Weights are not stored: both sides compute them from the tensor's name in files
(see `weight`), so that a name that danlu gets wrong gives other numbers.  Gradients are stored as two numbers for each
parameter: their norm, and their product with the numbers that `weight` gives for "grad." + name.  Everything is computed in
float32 on one thread and compared with float64 before it is written.
"""
import json
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers import (Gemma2Config, Gemma3TextConfig, GemmaConfig, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config,
                          Qwen3Config)

import make_golden
from make_golden import MADE_BY, check_noise, save

make_golden.MADE_BY = MADE_BY.replace("make_golden", "make_arch_golden")
V, T, ORIGINAL = 48, 40, 16
SMALL = dict(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
             max_position_embeddings=64, attn_implementation="eager", bos_token_id=1, eos_token_id=2, pad_token_id=0)


def small(**more):
    return {**SMALL, **more}


def scaled(kind, context=64, **more):
    return LlamaConfig(**small(max_position_embeddings=context, rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **more}))


CASES = {
    "llama_bias": lambda: LlamaConfig(**small(attention_bias=True, mlp_bias=True, head_dim=12, tie_word_embeddings=True)),
    "llama_linear": lambda: scaled("linear", factor=2.5),
    "llama_dynamic": lambda: scaled("dynamic", ORIGINAL, factor=4.0),
    "llama_yarn": lambda: scaled("yarn", factor=4.0, original_max_position_embeddings=ORIGINAL, beta_fast=4.0, beta_slow=0.5),
    "llama_yarn_mscale": lambda: scaled("yarn", factor=4.0, original_max_position_embeddings=ORIGINAL, mscale=1.3, mscale_all_dim=0.7),
    "llama_yarn_smooth": lambda: scaled("yarn", factor=4.0, original_max_position_embeddings=ORIGINAL, beta_fast=3.0, truncate=False,
                                        attention_factor=1.25),
    "llama_llama3": lambda: scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=ORIGINAL),
    "mistral": lambda: MistralConfig(**small(sliding_window=11)),
    "qwen2": lambda: Qwen2Config(**small(num_hidden_layers=3, use_sliding_window=True, sliding_window=11, max_window_layers=1)),
    "qwen2_yarn": lambda: Qwen2Config(**small(rope_parameters={"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0,
                                                               "original_max_position_embeddings": ORIGINAL})),
    "qwen3": lambda: Qwen3Config(**small(head_dim=16, attention_bias=True)),
    "gemma": lambda: GemmaConfig(**small(head_dim=12, num_key_value_heads=1)),
    "gemma2": lambda: Gemma2Config(**small(head_dim=12, sliding_window=11, query_pre_attn_scalar=20, final_logit_softcapping=5.0,
                                           attn_logit_softcapping=2.0)),
    "gemma3": lambda: Gemma3TextConfig(**small(num_hidden_layers=3, head_dim=12, sliding_window=11, query_pre_attn_scalar=20,
                                               layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                               rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
                                                                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})),
    "phi3": lambda: Phi3Config(**small(sliding_window=13)),
    "phi3_partial": lambda: Phi3Config(**small(num_attention_heads=2, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75})),
}


def uniform(name, n):
    """n numbers in [-1, 1): murmur3's finaliser over FNV-1a of the name and the index."""
    h = 2166136261
    for c in name.encode():
        h = ((h ^ c) * 16777619) & 0xFFFFFFFF
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + h) & 0xFFFFFFFF
    for shift, by in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = ((x ^ (x >> shift)) * by) & 0xFFFFFFFF
    return (x >> 8).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def weight(name, shape, plus):
    u = uniform(name, int(np.prod(shape))).reshape(shape)
    if len(shape) == 1 and name.endswith("norm.weight") and not plus:
        return np.float32(1) + np.float32(0.25) * u
    return np.float32(0.25) * u


def fill(model, dtype):
    plus = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(name, tuple(p.shape), plus)).to(dtype))


def tokens_of(name):
    """Without 0: torch gives the row of the padding token no gradient."""
    return torch.from_numpy((1 + (uniform("tokens." + name, 2 * T) + 1) / 2 * (V - 1)).astype(np.int64)).reshape(2, T)


def one_by_one(model, ids):
    """With a cache, token after token: what dynamic scaling gives a text that grows."""
    cache, rows = None, []
    for i in range(T):
        y = model(input_ids=ids[None, i:i + 1], past_key_values=cache, use_cache=True)
        cache = y.past_key_values
        rows.append(y.logits[0, 0])
    return torch.stack(rows)


def compute(name, dtype):
    torch.manual_seed(0)
    config = CASES[name]()
    config.architectures = None
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype).eval()
    fill(model, dtype)
    ids, targets = tokens_of(name)
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    out = {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    if name == "llama_dynamic":
        with torch.no_grad():
            out["logits.cached"] = one_by_one(model, ids)
    for n, p in model.named_parameters():
        g = p.grad.double().reshape(-1)
        u = torch.from_numpy(uniform("grad." + n, g.numel())).double()
        out["grad." + n] = torch.stack([g.norm(), (g * u).sum()]).to(dtype)
    return model, out


def write(out):
    folder = os.path.join(out, "arch")
    os.makedirs(folder, exist_ok=True)
    for name in CASES:
        model, single = compute(name, torch.float32)
        check_noise(name, single, compute(name, torch.float64)[1])
        config = model.config.to_dict()
        config["architectures"] = [type(model).__name__]
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        with open(os.path.join(folder, name, "config.json"), "w") as f:
            json.dump(config, f, indent=1, sort_keys=True)
            f.write("\n")
        ids, targets = tokens_of(name)
        save(os.path.join(folder, name, "golden.safetensors"), {"tokens": ids.int(), "targets": targets.int(), **single})


def saved(out, folder):
    worst = 0
    for name in sorted(os.listdir(folder)):
        model = AutoModelForCausalLM.from_pretrained(os.path.join(folder, name), attn_implementation="eager", dtype=torch.float32).eval()
        ids = tokens_of(name)[0]
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
        with safe_open(os.path.join(out, "arch", name, "golden.safetensors"), "pt") as f:
            want = f.get_tensor("logits")
        off = ((logits - want).abs().max() / want.abs().max()).item()
        print(f"{name} as saved by danlu, in {type(model).__name__}: differs by {off:.1e}")
        worst = max(worst, off)
    if not worst < 1e-5:
        sys.exit("a saved model differs")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    here = os.path.dirname(os.path.abspath(__file__))
    if len(sys.argv) > 2 and sys.argv[1] == "--saved":
        saved(here, sys.argv[2])
        return
    write(sys.argv[1] if len(sys.argv) > 1 else here)
    print(make_golden.MADE_BY, transformers.__version__)


if __name__ == "__main__":
    main()
