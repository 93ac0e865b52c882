#!/usr/bin/env python3
"""Causal attention, forward and backward, of danlu and PyTorch, side by side on the CPU.

    make bench-tools
    python3 bench/attention_vs_pytorch.py --danlu build/bench/attend_bench [--dtype f32|bf16] [--threads 2] [--rounds 5]
    python3 bench/attention_vs_pytorch.py --dtype f32 --avx2      both sides without AVX-512 and AMX

The peer is torch.nn.functional.scaled_dot_product_attention: its flash kernel for the CPU, and the written-out product; the faster
of the two counts.  First the results of both sides are compared with PyTorch in float64.  Then they run in turn: peer, danlu,
peer, danlu, ...; a turn gives the median of its repeats, a round the ratio peer / danlu of forward + backward, and the answer is
the median of the rounds.  Memory is what a fresh process' peak grows by in one call: outputs and work space.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "--avx2" in sys.argv:
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2")
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def attention(qkv, heads, flash):
    """qkv [B,T,3C] -> o [B,T,C], as a GPT calls it."""
    b, t, c = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (x.view(b, t, heads, c // heads).transpose(1, 2) for x in qkv.split(c, dim=2))
    if flash:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        hidden = torch.ones(t, t, dtype=torch.bool).triu(1)
        score = (q * (c // heads) ** -0.5) @ k.transpose(-2, -1)
        y = score.masked_fill(hidden, float("-inf")).softmax(-1).to(v.dtype) @ v
    return y.transpose(1, 2).reshape(b, t, c)


def memory(field):
    with open("/proc/self/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field))


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w", encoding="utf-8") as f:
            f.write("5")
    except OSError:
        pass


class Peer:
    def __init__(self, qkv, d_o, heads, flash):
        self.qkv, self.d_o, self.heads, self.flash = qkv.clone().requires_grad_(), d_o, heads, flash

    def once(self):
        self.qkv.grad = None
        start = time.perf_counter()
        o = attention(self.qkv, self.heads, self.flash)
        middle = time.perf_counter()
        o.backward(self.d_o)
        return middle - start, time.perf_counter() - middle, o

    def turn(self, repeats):
        times = [self.once()[:2] for _ in range(repeats)]
        return tuple(statistics.median(x) for x in zip(*times))


def peer_growth(a, shape, dtype):
    """In a fresh process: freed memory that is used again would not show."""
    words = [sys.executable, __file__, "--peer-memory", *map(str, shape), "--dtype", dtype, "--threads", str(a.threads)]
    return int(subprocess.run(words + ["--avx2"] * a.avx2, capture_output=True, text=True, check=True).stdout)


def print_peer_growth(shape, dtype):
    def peer(t, d, heads, batch):
        return Peer(torch.randn(batch, t, 3 * heads * d).to(TYPES[dtype]), torch.randn(batch, t, heads * d).to(TYPES[dtype]), heads, True)
    peer(16, 32, 1, 1).once()                               # what the library sets up once
    p = peer(*shape)
    reset_peak()
    before = memory("VmRSS")
    p.once()
    print(memory("VmHWM") - before)


def run_danlu(a, shape, dtype, repeats, files=()):
    t, d, heads, batch = shape
    command = [a.danlu, *map(str, (t, d, heads, heads, batch, dtype, a.threads, repeats, "avx2" if a.avx2 else "any")), *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def errors(want, got):
    return (want - got.double()).abs().max().item() / want.abs().max().item()


def compare_results(a, shape, dtype, qkv, d_o):
    """Largest error of o and dqkv over the largest value, of both sides against float64 on the same rounded inputs."""
    t, d, heads, batch = shape
    exact = Peer(qkv.double(), d_o.double(), heads, False)
    o = exact.once()[2]
    peer = Peer(qkv, d_o, heads, True)
    peer_o = peer.once()[2]
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as folder:
        names = [os.path.join(folder, n) for n in ("in", "out")]
        with open(names[0], "wb") as f:
            f.write(qkv.detach().float().numpy().tobytes())
            f.write(d_o.float().numpy().tobytes())
        run_danlu(a, shape, dtype, 1, names)
        both = torch.frombuffer(bytearray(open(names[1], "rb").read()), dtype=torch.float32)
    n = o.numel()
    ours = [errors(o, both[:n].view_as(o)), errors(exact.qkv.grad, both[n:].view_as(qkv))]
    theirs = [errors(o, peer_o), errors(exact.qkv.grad, peer.qkv.grad)]
    limit = 5e-6 if dtype == "f32" else 2e-2
    if max(ours) > limit:
        sys.exit(f"danlu is off by {max(ours):.2g} of the largest value; {limit} is allowed")
    return f"error o, dqkv: PyTorch {theirs[0]:.1e} {theirs[1]:.1e}, danlu {ours[0]:.1e} {ours[1]:.1e}"


def measure(a, shape, dtype):
    t, d, heads, batch = shape
    torch.manual_seed(1)
    qkv = torch.randn(batch, t, 3 * heads * d).to(TYPES[dtype])
    d_o = torch.randn(batch, t, heads * d).to(TYPES[dtype])
    print(f"{dtype} T {t} D {d} H {heads} B {batch}: {compare_results(a, shape, dtype, qkv, d_o)}", flush=True)
    peers = [Peer(qkv, d_o, heads, flash) for flash in (True, False)]
    first = [sum(p.turn(3)) for p in peers]
    peer, name = min(zip(peers, ("flash", "written out")), key=lambda x: first[peers.index(x[0])])
    flops = 4 * batch * heads * d * t * t / 2 * 3.5
    repeats = max(3, min(200, int(a.seconds / min(first))))
    probe = run_danlu(a, shape, dtype, 3)
    ours_repeats = max(3, min(1000, int(a.seconds / (probe["forward"] + probe["backward"]))))
    ratios, peer_times, our_times = [], [], []
    for _ in range(a.rounds):
        peer_times.append(peer.turn(repeats))
        r = run_danlu(a, shape, dtype, ours_repeats)
        our_times.append((r["forward_median"], r["backward_median"]))
        ratios.append([x / y for x, y in zip(peer_times[-1], our_times[-1])] + [sum(peer_times[-1]) / sum(our_times[-1])])
    ratio = [statistics.median(x) for x in zip(*ratios)]
    p, o = ([statistics.median(x) * 1e3 for x in zip(*times)] for times in (peer_times, our_times))
    spread = [r[2] for r in ratios]
    print(f"  PyTorch {name:11} {p[0]:9.3f} + {p[1]:9.3f} ms, danlu {o[0]:9.3f} + {o[1]:9.3f} ms ({flops / sum(o) / 1e6:5.0f} GFLOP/s); "
          f"ratio {ratio[0]:5.2f} {ratio[1]:5.2f} both {ratio[2]:5.2f} ({min(spread):.2f} to {max(spread):.2f}); "
          f"memory PyTorch {peer_growth(a, shape, dtype) / 2**20:.1f}, danlu {r['growth'] / 2**20:.1f} MiB ({r['kernels']})", flush=True)
    return ratio[2]


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--danlu", default="build/bench/attend_bench", help="made by make bench-tools")
    p.add_argument("--dtype", choices=("f32", "bf16", "both"), default="both")
    p.add_argument("--time", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    p.add_argument("--dim", type=int, nargs="+", default=[32, 64, 128])
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--rows", type=int, default=4096, help="batch = rows / T, at least 1")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--avx2", action="store_true", help="no AVX-512 and AMX on either side")
    p.add_argument("--peer-memory", type=int, nargs=4, help=argparse.SUPPRESS)
    p.add_argument("--seconds", type=float, default=0.5, help="of a turn, about")
    a = p.parse_args()
    if not a.peer_memory and not os.access(a.danlu, os.X_OK):
        p.error(f"'{a.danlu}' is not a program: run make bench-tools, or say where it is with --danlu")
    return a


def main():
    a = options()
    torch.set_num_threads(a.threads)
    torch.set_num_interop_threads(1)
    if a.peer_memory:
        print_peer_growth(a.peer_memory, a.dtype)
        return
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {a.threads} threads, load {os.getloadavg()[0]:.1f}")
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy, which slows both sides and not equally; repeat this on an idle one")
    ratios = [measure(a, (t, d, a.heads, max(1, a.rows // t)), dtype)
              for dtype in (("f32", "bf16") if a.dtype == "both" else (a.dtype,)) for d in a.dim for t in a.time]
    print(f"PyTorch / danlu over {len(ratios)} shapes: smallest {min(ratios):.2f}, geometric mean "
          f"{math.exp(statistics.mean(map(math.log, ratios))):.2f}")


if __name__ == "__main__":
    main()
