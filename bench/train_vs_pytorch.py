#!/usr/bin/env python3
"""Training speed of danlu and PyTorch, side by side on the CPU.

    python3 bench/train_vs_pytorch.py --danlu build/danlu --data text.txt [--config 0.8M|10M] [--dtype bf16|f32]

Both sides train the same GPT on the same text with the same batch, in turn: peer, danlu, peer, danlu, ... so that whatever else
the machine does hits both.  Each run reports tokens per second for every step; the first fifth is warm-up, of the rest the median
counts.  The answer is the median over rounds of danlu / peer.  The peer is the fastest of PyTorch's variants (float32 or
bfloat16 autocast, SDPA or written-out attention, with --compile also torch.compile), found by a short probe first; with
--same-dtype only variants of danlu's dtype are allowed.  The final losses show that both learn.
"""
import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIGS = {
    "0.8M": {"layers": 4, "heads": 4, "hidden": 128, "context": 64, "batch": 12},
    "10M": {"layers": 6, "heads": 6, "hidden": 384, "context": 256, "batch": 16},
}
STEPS = {"0.8M": (300, 60), "10M": (40, 8)}                # per round, per probe


def flags(config):
    return [word for k, v in config.items() for word in ("--" + k, str(v))]


def run(command, env=None):
    """Runs a trainer; returns (median tokens/s after warm-up, first loss, mean loss of the last tenth)."""
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    speeds, losses = [], []
    for line in done.stdout.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("tokens_per_second") is not None and record.get("loss") is not None:
            speeds.append(record["tokens_per_second"])
            losses.append(record["loss"])
    if len(speeds) < 5:
        sys.exit(f"{' '.join(command)}\nprinted {len(speeds)} lines with loss and tokens_per_second, too few to judge")
    return statistics.median(speeds[len(speeds) // 5:]), losses[0], statistics.mean(losses[-max(1, len(losses) // 10):])


def run_peer(a, config, variant, steps):
    dtype, attention, compiled = variant
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), MKL_NUM_THREADS=str(a.threads))
    return run([sys.executable, os.path.join(HERE, "peer_gpt.py"), "--data", a.data, "--steps", str(steps), "--threads",
                str(a.threads), "--dtype", dtype, "--attention", attention, *flags(config), *["--compile"] * compiled], env)


def run_danlu(a, config, steps):
    out = tempfile.mkdtemp(prefix="danlu-bench-")
    try:
        return run([a.danlu, "train", "--model", "gpt", "--data", a.data, "--tokenizer", "char", *flags(config), "--steps", str(steps),
                    "--dtype", a.dtype, "--threads", str(a.threads), "--out", os.path.join(out, "run"), "--json", "--quiet",
                    "--eval-every", "0", "--save-every", "0", "--lr", "1e-3", "--warmup", str(max(1, steps // 10)), *a.danlu_args.split()])
    finally:
        shutil.rmtree(out, ignore_errors=True)


def describe(variant):
    return f"{variant[0]} {variant[1]}{' compiled' if variant[2] else ''}"


def probe(a, config, steps):
    dtypes = [a.dtype] if a.same_dtype else ["f32", "bf16"]
    speeds = {}
    for variant in itertools.product(dtypes, ("sdpa", "manual"), (False, True) if a.compile else (False,)):
        speeds[variant] = run_peer(a, config, variant, steps)[0]
        print(f"  probe  PyTorch {describe(variant):22} {speeds[variant]:10.0f} tokens/s", flush=True)
    return max(speeds, key=speeds.get)


def compare(a, name):
    config, (steps, probe_steps) = CONFIGS[name], STEPS[name]
    steps = a.steps or steps
    print(f"\n{name}: {' '.join(f'{k} {v}' for k, v in config.items())}, {steps} steps, {a.threads} threads, danlu {a.dtype}")
    best = probe(a, config, min(steps, probe_steps))
    ratios, peer, ours = [], [], []
    for i in range(a.rounds):
        peer.append(run_peer(a, config, best, steps))
        line = f"  round {i + 1}  PyTorch {describe(best)} {peer[-1][0]:10.0f} tokens/s, loss {peer[-1][1]:.3f} -> {peer[-1][2]:.3f}"
        if not a.peer_only:
            ours.append(run_danlu(a, config, steps))
            ratios.append(ours[-1][0] / peer[-1][0])
            line += f"   danlu {ours[-1][0]:10.0f} tokens/s, loss {ours[-1][1]:.3f} -> {ours[-1][2]:.3f}   ratio {ratios[-1]:.2f}"
        print(line, flush=True)
    if ratios:
        print(f"  median  PyTorch {statistics.median(p[0] for p in peer):.0f}, danlu {statistics.median(p[0] for p in ours):.0f} tokens/s; "
              f"danlu / PyTorch {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            info = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return "unknown CPU"
    info = {k.strip(): v.strip() for k, v in info.items()}
    known = [x for x in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if x in info.get("flags", "").split()]
    return (f"{info.get('model name', 'unknown CPU')} (family {info.get('cpu family', '?')} model {info.get('model', '?')}), "
            f"{os.cpu_count()} cores, {' '.join(known)}")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--danlu", help="the program to measure")
    p.add_argument("--data", required=True, help="UTF-8 text")
    p.add_argument("--config", choices=(*CONFIGS, "all"), default="all")
    p.add_argument("--dtype", choices=("bf16", "f32"), default="bf16", help="danlu's")
    p.add_argument("--same-dtype", action="store_true", help="the peer must use danlu's dtype")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=0, help="per round; 0: depends on the config")
    p.add_argument("--compile", action="store_true", help="also try torch.compile")
    p.add_argument("--peer-only", action="store_true", help="measure PyTorch alone")
    p.add_argument("--danlu-args", default="", help="more options for danlu, in one string")
    a = p.parse_args()
    if not a.peer_only and not (a.danlu and os.access(a.danlu, os.X_OK)):
        p.error("--danlu must name the danlu program (or give --peer-only)")
    return a


def main():
    a = options()
    import torch
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}; {cpu_name()}; load {os.getloadavg()[0]:.1f}")
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy, which slows both sides and not equally; repeat this on an idle one")
    for name in CONFIGS if a.config == "all" else [a.config]:
        compare(a, name)


if __name__ == "__main__":
    main()
