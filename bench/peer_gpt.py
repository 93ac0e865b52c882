#!/usr/bin/env python3
"""A small GPT-2 in PyTorch on the CPU, trained on the characters of a text: the peer of `danlu train --model gpt`.

Prints one JSON line per step with the same fields as danlu: {"step", "loss", "tokens_per_second"}, and a last one
{"peak_rss_bytes"}.  Layout of GPT-2: learned positions, pre-norm, biases, tanh GELU, tied head.  Written to be as fast as
plain PyTorch gets: fused qkv, fused AdamW, no dropout, gradients set to None.  --attention sdpa is PyTorch's fused kernel
(flash attention on the CPU), manual writes attention out.  bench/train_vs_pytorch.py times the variants and takes the fastest.
"""
import argparse
import contextlib
import json
import math
import os
import time

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    def __init__(self, channels, heads, context, manual):
        super().__init__()
        self.heads, self.manual = heads, manual
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        hidden = torch.ones(context, context, dtype=torch.bool).triu(1)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, x):                                   # x [B,T,C]
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in self.qkv(x).split(c, dim=2))
        if self.manual:
            score = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1)                # [B,H,T,T]
            y = score.masked_fill(self.hidden[:t, :t], float("-inf")).softmax(-1).to(v.dtype) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, channels, heads, context, manual):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, context, manual)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocab, layers, heads, channels, context, manual):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, channels), nn.Embedding(context, channels)
        self.blocks = nn.ModuleList(Block(channels, heads, context, manual) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids, targets):                        # [B,T] -> loss
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)                              # [B,T,V]
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))


def read_characters(path):
    """The text as ids; a character's id is its rank among the code points that occur."""
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    rank = {c: i for i, c in enumerate(sorted(set(text)))}
    return torch.tensor([rank[c] for c in text], dtype=torch.int64), len(rank)


def make_optimiser(model, lr):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                             lr=lr, betas=(0.9, 0.99), fused=True)


def learning_rate(step, steps, peak):
    """Linear warm-up over the first tenth, then a cosine down to a tenth."""
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def peak_rss():
    """VmHWM: what getrusage says survives exec and may be the parent's."""
    with open("/proc/self/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))


def train(a, report):
    torch.manual_seed(a.seed)
    if a.compile and os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        from torch._inductor import config as inductor
        inductor.cpp.simdlen = 256                         # the environment does not reach the code that torch.compile writes
    ids, vocab = read_characters(a.data)
    model = GPT(vocab, a.layers, a.heads, a.hidden, a.context, a.attention == "manual")
    optimiser = make_optimiser(model, a.lr)
    forward = torch.compile(model) if a.compile else model
    bf16 = torch.autocast("cpu", dtype=torch.bfloat16) if a.dtype == "bf16" else contextlib.nullcontext()
    offsets = torch.arange(a.context)
    for step in range(a.steps):
        start = time.perf_counter()
        rows = torch.randint(len(ids) - a.context - 1, (a.batch, 1)) + offsets           # [B,T]
        with bf16:
            loss = forward(ids[rows], ids[rows + 1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, a.steps, a.lr)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        value = loss.item()
        report(step + 1, value, a.batch * a.context / (time.perf_counter() - start))


def options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    for name, default in (("layers", 4), ("heads", 4), ("hidden", 128), ("context", 64), ("batch", 12), ("steps", 100),
                          ("threads", 2), ("seed", 1)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32", help="bf16: autocast, parameters stay f32")
    p.add_argument("--attention", choices=("sdpa", "manual"), default="sdpa")
    p.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    return p.parse_args()


def main():
    a = options()
    torch.set_num_threads(a.threads)
    torch.set_num_interop_threads(1)
    train(a, lambda step, loss, speed: print(json.dumps({"step": step, "loss": loss, "tokens_per_second": speed}), flush=True))
    print(json.dumps({"peak_rss_bytes": peak_rss()}))


if __name__ == "__main__":
    main()
