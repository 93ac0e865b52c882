#!/usr/bin/env python3
"""Matrix products of danlu, PyTorch (oneDNN, MKL), NumPy (OpenBLAS) and BLIS, side by side on the CPU.

    make bench-tools
    python3 bench/matmul_vs_peers.py --danlu build/bench/matmul_danlu [--dtype f32 bf16] [--threads 2] [--shapes train thin large]
    python3 bench/matmul_vs_peers.py --isa avx2                   all sides without AVX-512 and AMX

A peer that is not installed is left out; BLIS (package `blis`) has one thread only and is left out with more.  Each side
is a process of its own.  For every shape they run in turn: danlu, peer, peer, danlu, ..., a turn being --seconds of products
that go through --copies sets of operands (so that they come from the cache that the machine shares, as in a model).  A turn gives
its median; a round the ratio peer / danlu of times; the answer is the median of the rounds, above 1 where danlu is faster.
Operands and result are stored as the dtype says, on all sides.
"""
import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell",
        "BLIS_ARCH_TYPE": "haswell"}
KERNEL = {("f32", "avx2"): "matmul_f32_avx2"}


def training(rows, c):
    """The products of a block of a GPT with c channels, forward and backward: (name, m, n, k, ta, tb)."""
    for n, k in ((3 * c, c), (c, c), (4 * c, c), (c, 4 * c)):
        yield f"forward {n}x{k}", rows, n, k, 0, 1
        yield f"d input {n}x{k}", rows, k, n, 0, 0
        yield f"d weight {n}x{k}", n, k, rows, 1, 0


SHAPES = {
    "train": [*training(768, 128), *training(4096, 384)],
    "large": [*training(2048, 768), ("square 2048", 2048, 2048, 2048, 0, 0)],
    "thin": [(f"M = {m}, weights {n}x{k}", m, n, k, 0, 1) for n, k in ((3072, 768), (2048, 2048)) for m in (1, 2, 4, 8, 16, 32, 64)],
}


# ---- the peers' side: a process that answers lines "m n k ta tb dtype copies seconds" with the median time in nanoseconds ----

def numpy_product(xp, gemm):
    def make(m, n, k, ta, tb, dtype):
        if dtype != "f32":
            return None
        a = xp.random.rand(*((k, m) if ta else (m, k))).astype("f4")
        b = xp.random.rand(*((n, k) if tb else (k, n))).astype("f4")
        return lambda out=xp.empty((m, n), "f4"): gemm(a, b, ta, tb, out)
    return make


def serve_openblas():
    import numpy
    config = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    name = f"numpy {numpy.__version__}, {config['name']} {config['version']}"
    return name, numpy_product(numpy, lambda a, b, ta, tb, out: numpy.matmul(a.T if ta else a, b.T if tb else b, out=out))


def serve_blis():
    from importlib.metadata import version
    import blis.py
    import numpy
    gemm = blis.py.gemm
    return f"blis {version('blis')}", numpy_product(numpy, lambda a, b, ta, tb, out: gemm(a, b, trans1=bool(ta), trans2=bool(tb), out=out))


def serve_torch():
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def make(m, n, k, ta, tb, dtype):
        t = torch.bfloat16 if dtype == "bf16" else torch.float32
        a, b = torch.rand(*((k, m) if ta else (m, k))).to(t), torch.rand(*((n, k) if tb else (k, n))).to(t)
        a, b, out = a.T if ta else a, b.T if tb else b, torch.empty(m, n, dtype=t)
        return lambda: torch.mm(a, b, out=out)
    return f"torch {torch.__version__}", make


PEERS = {"torch": serve_torch, "openblas": serve_openblas, "blis": serve_blis}


def median_time(calls, seconds):
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        call = calls[len(times) % len(calls)]
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


def serve(peer):
    name, make = PEERS[peer]()
    print(name, flush=True)
    for line in sys.stdin:
        *numbers, dtype, copies, seconds = line.split()
        calls = [make(*map(int, numbers), dtype) for _ in range(int(copies))]
        print(0 if calls[0] is None else median_time(calls, float(seconds)), flush=True)


# ---- the comparison -------------------------------------------------------------------------------------------------------

class Side:
    def __init__(self, words, env):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)

    def ask(self, line):
        time.sleep(0.3)                                    # the threads of the side before go on spinning for a while
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().split()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_peer(name, a):
    one = {v: str(a.threads) for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **one, **(AVX2 if a.isa == "avx2" else {})}
    side = Side([sys.executable, __file__, "--serve", name], env)
    side.name = side.process.stdout.readline().strip()
    if not side.name:
        print(f"{name}: not installed, left out")
    return side if side.name else None


def time_danlu(side, shape, dtype, a):
    _, m, n, k, ta, tb = shape
    prec = int(dtype == "bf16")
    line = f"{m} {n} {k} {ta} {tb} {dtype} {dtype} {dtype} {prec} 0 {a.threads} {a.copies} {a.seconds} {KERNEL.get((dtype, a.isa), 'best')}"
    kernel, _, median = side.ask(line)
    return kernel, float(median)


def time_peer(side, shape, dtype, a):
    return float(side.ask(" ".join(map(str, (*shape[1:], dtype, a.copies, a.seconds))))[0])


def compare(danlu, peers, shape, dtype, a):
    ratios, best, kernel = {p: [] for p in peers}, [], ""
    for r in range(a.rounds):
        kernel, mine = time_danlu(danlu, shape, dtype, a)
        theirs = {p: time_peer(s, shape, dtype, a) for p, s in peers.items()}
        if r % 2:
            mine = time_danlu(danlu, shape, dtype, a)[1]           # a turn after the peers, not before
        best.append(mine)
        for p, t in theirs.items():
            if t:
                ratios[p].append(t / mine)
    flops = 2e-9 * shape[1] * shape[2] * shape[3]
    text = "  ".join(f"{p} {statistics.median(x):5.2f} ({min(x):.2f} to {max(x):.2f})" for p, x in ratios.items() if x)
    print(f"{dtype:4} {shape[0]:28} {flops / (statistics.median(best) * 1e-9):7.0f} GFLOP/s  {text}   {kernel}", flush=True)
    return {p: statistics.median(x) for p, x in ratios.items() if x}


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--danlu", default="build/bench/matmul_danlu")
    p.add_argument("--dtype", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    p.add_argument("--shapes", nargs="+", default=["train", "thin"], choices=list(SHAPES))
    p.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--copies", type=int, default=4)
    p.add_argument("--seconds", type=float, default=0.05)
    p.add_argument("--isa", default="best", choices=["best", "avx2"])
    p.add_argument("--serve", help=argparse.SUPPRESS)
    return p.parse_args()


def main():
    a = options()
    if a.serve:
        try:
            serve(a.serve)
        except ImportError:
            sys.exit(1)
        return
    if a.isa == "avx2":
        a.dtype = ["f32"]
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {a.threads} threads, load {load:.2f}{' (not idle)' if load > 0.5 else ''}, isa {a.isa}")
    danlu = Side([a.danlu], {**os.environ})
    names = [p for p in a.peers if p != "blis" or a.threads == 1]
    peers = {p: s for p in names if (s := start_peer(p, a))}
    print("peers:", ", ".join(s.name for s in peers.values()) or "none")
    for dtype in a.dtype:
        for group in a.shapes:
            all_ratios = [compare(danlu, peers, s, dtype, a) for s in SHAPES[group]]
            for p in peers:
                x = [r[p] for r in all_ratios if p in r]
                if x:
                    print(f"{dtype:4} {group}: {p} / danlu, geometric mean {statistics.geometric_mean(x):.2f}, least {min(x):.2f}")
    for side in (danlu, *peers.values()):
        side.close()


if __name__ == "__main__":
    main()
