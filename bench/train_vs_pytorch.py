#!/usr/bin/env python3
"""Training speed and memory of danlu and PyTorch, side by side on the CPU.

    python3 bench/train_vs_pytorch.py --danlu build/danlu --data text.txt [--config 0.8M,10M] [--dtype bf16|f32] [--isa avx2]

Both sides train the same GPT on the same text with the same batch, in turn: peer, danlu, peer, danlu, ... so that whatever else
the machine does hits both.  Each run reports loss and tokens per second for every step; the first steps are warm-up, of the rest
the median counts.  The answer is the median over rounds of danlu / peer, for speed and for peak resident memory.  The peer is the
fastest of PyTorch's variants (float32 or bfloat16 autocast, SDPA's flash kernel or written-out attention, with --compile also
torch.compile), found by a short probe first; with --same-dtype only variants of danlu's dtype are allowed.  The losses are compared
first: both begin at ln(vocabulary) and must learn alike.

The large configurations (30M, 124M, 124M-1024) train on a made text of 8,192 or 50,257 characters, most of which can be predicted,
so that both sides have a vocabulary of that size without a tokenizer.
"""
import argparse
import importlib.metadata
import itertools
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = {
    "0.8M": {"layers": 4, "heads": 4, "hidden": 128, "context": 64, "batch": 12},
    "10M": {"layers": 6, "heads": 6, "hidden": 384, "context": 256, "batch": 16},
    "30M": {"layers": 8, "heads": 8, "hidden": 512, "context": 512, "batch": 8},
    "124M": {"layers": 12, "heads": 12, "hidden": 768, "context": 256, "batch": 4},
    "124M-1024": {"layers": 12, "heads": 12, "hidden": 768, "context": 1024, "batch": 2},
}
STEPS = {"0.8M": (300, 60), "10M": (40, 8), "30M": (12, 5), "124M": (10, 5), "124M-1024": (6, 4)}   # per round, per probe
VOCAB = {"30M": 8192, "124M": 50257, "124M-1024": 50257}
RATE = {"124M": 6e-4, "124M-1024": 6e-4}                   # peak learning rate, else 1e-3
FIRST_CHAR = 0x4E00                                        # CJK ideographs upwards: no spaces, no controls


class Failed(Exception):
    pass


def character(i):
    """The i-th of the code points from FIRST_CHAR on, without the surrogates and the noncharacters."""
    code = FIRST_CHAR + i
    if code >= 0xD800:
        code += 0x10000 - 0xD800
    return chr(code)


def make_text(path, vocab):
    """Seven of eight characters walk a fixed random map over 256 common ones, the rest visits all in random order: every
    character occurs, and most follow from the one before."""
    r = random.Random(1)
    follow, rest = list(range(256)), list(range(vocab))
    r.shuffle(follow)
    r.shuffle(rest)
    ids, at = [], 0
    for x in rest:
        ids.append(x)
        for _ in range(7):
            at = r.randrange(256) if r.random() < 0.1 else follow[at]
            ids.append(at)
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write("".join(map(character, ids)))


def flags(config):
    return [word for k, v in config.items() for word in ("--" + k, str(v))]


def run(command, env=None):
    """Runs a trainer; returns {speed: median tokens/s after warm-up, first, last: losses, rss: peak bytes}."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env)
        text = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if child.returncode:
            raise Failed(f"{' '.join(command)}\nfailed with status {child.returncode}:\n{errors.read().decode(errors='replace')[-2000:]}")
    speeds, losses, rss = [], [], usage.ru_maxrss * 1024
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        rss = record.get("peak_rss_bytes", rss)
        if record.get("tokens_per_second") is not None and record.get("loss") is not None:
            speeds.append(record["tokens_per_second"])
            losses.append(record["loss"])
    if len(speeds) < 2:
        raise Failed(f"{' '.join(command)}\nprinted {len(speeds)} lines with loss and tokens_per_second, too few to judge")
    warm = max(len(speeds) // 5, 2 if len(speeds) >= 5 else 1)
    return {"speed": statistics.median(speeds[warm:]), "first": losses[0], "last": statistics.mean(losses[-max(1, len(losses) // 10):]), "rss": rss}


def peer_environment(a):
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), MKL_NUM_THREADS=str(a.threads))
    if a.isa == "avx2":
        env.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2")
    return env


def run_peer(a, work, variant, steps):
    dtype, attention, compiled = variant
    return run([a.python, os.path.join(HERE, "peer_gpt.py"), "--data", work["data"], "--steps", str(steps), "--threads", str(a.threads),
                "--lr", str(work["lr"]), "--dtype", dtype, "--attention", attention, *flags(work["shape"]), *["--compile"] * compiled],
               peer_environment(a))


def run_danlu(a, work, steps):
    out = tempfile.mkdtemp(prefix="danlu-bench-")
    try:
        return run([a.danlu, "train", "--model", "gpt", "--data", work["data"], "--tokenizer", "char", *flags(work["shape"]), "--steps", str(steps),
                    "--dtype", a.dtype, "--threads", str(a.threads), "--out", os.path.join(out, "run"), "--json", "--quiet", "--init-std", "0.02",
                    "--eval-every", "0", "--eval-batches", "1", "--save-every", "0", "--lr", str(work["lr"]), "--warmup", str(max(1, steps // 10)),
                    *["--isa", a.isa] * (a.isa != "all"), *a.danlu_args.split()])
    finally:
        shutil.rmtree(out, ignore_errors=True)


def describe(variant):
    return f"{variant[0]} {variant[1]}{' compiled' if variant[2] else ''}"


def probe_one(a, work, variant, steps, speeds):
    try:
        speeds[variant] = run_peer(a, work, variant, steps)["speed"]
        print(f"  probe  PyTorch {describe(variant):22} {speeds[variant]:10.0f} tokens/s", flush=True)
    except Failed as e:
        print(f"  probe  PyTorch {describe(variant):22} failed: {str(e).splitlines()[-1]}", flush=True)


def probe(a, work, steps):
    dtypes = [a.dtype] if a.same_dtype else ["f32", "bf16"]
    speeds = {}
    for dtype, attention in itertools.product(dtypes, ("sdpa", "manual")):
        probe_one(a, work, (dtype, attention, False), steps, speeds)
    eager = sorted(speeds, key=speeds.get, reverse=True)
    if a.compile == "best":
        eager = eager[:1]
    for variant in eager if a.compile != "no" else []:
        probe_one(a, work, (variant[0], variant[1], True), max(steps, 6), speeds)
    if not speeds:
        sys.exit("no variant of PyTorch ran")
    return max(speeds, key=speeds.get)


def mib(n):
    return n / 2**20


def check_losses(name, peer, ours, vocab):
    """Fresh weights predict all characters alike; later both have learned about as much."""
    begin, end = [r["first"] for r in peer + ours], (statistics.mean(r["last"] for r in peer), statistics.mean(r["last"] for r in ours))
    odd = [x for x in begin if abs(x - math.log(vocab)) > 0.25]
    print(f"  losses  begin {min(begin):.3f} to {max(begin):.3f} (ln {vocab} = {math.log(vocab):.3f}), end PyTorch {end[0]:.3f}, danlu {end[1]:.3f}")
    if odd or abs(end[0] - end[1]) > 0.2:
        print(f"  WARNING  the losses of {name} differ by more than chance explains: do not quote these speeds")


def compare(a, name, data):
    (steps, probe_steps) = STEPS[name]
    steps = a.steps or steps
    work = {"shape": SHAPES[name], "data": data, "lr": RATE.get(name, 1e-3)}
    with open(data, encoding="utf-8", newline="") as f:
        vocab = len(set(f.read()))
    print(f"\n{name}: {' '.join(f'{k} {v}' for k, v in work['shape'].items())}, vocabulary {vocab}, {steps} steps, {a.threads} threads, "
          f"danlu {a.dtype}{', both at most ' + a.isa if a.isa != 'all' else ''}", flush=True)
    best = probe(a, work, min(steps, probe_steps))
    peer, ours = [], []
    for i in range(a.rounds):
        peer.append(run_peer(a, work, best, max(steps, 6) if best[2] else steps))
        line = f"  round {i + 1}  PyTorch {describe(best)} {peer[-1]['speed']:10.0f} tokens/s, loss {peer[-1]['first']:.3f} -> {peer[-1]['last']:.3f}, {mib(peer[-1]['rss']):.0f} MiB"
        if not a.peer_only:
            ours.append(run_danlu(a, work, steps))
            line += (f"   danlu {ours[-1]['speed']:10.0f} tokens/s, loss {ours[-1]['first']:.3f} -> {ours[-1]['last']:.3f}, {mib(ours[-1]['rss']):.0f} MiB"
                     f"   ratio {ours[-1]['speed'] / peer[-1]['speed']:.2f}")
        print(line, flush=True)
    if not ours:
        return
    check_losses(name, peer, ours, vocab)
    ratios, memory = [o["speed"] / p["speed"] for o, p in zip(ours, peer)], [o["rss"] / p["rss"] for o, p in zip(ours, peer)]
    print(f"  median  PyTorch {statistics.median(p['speed'] for p in peer):.0f}, danlu {statistics.median(p['speed'] for p in ours):.0f} tokens/s; "
          f"danlu / PyTorch {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); peak memory {statistics.median(memory):.2f} "
          f"({mib(statistics.median(o['rss'] for o in ours)):.0f} of {mib(statistics.median(p['rss'] for p in peer)):.0f} MiB)")


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
    p.add_argument("--data", required=True, help="UTF-8 text, for the small configurations")
    p.add_argument("--config", default="0.8M,10M", help=f"some of {', '.join(SHAPES)}; all: every one (hours)")
    p.add_argument("--dtype", choices=("bf16", "f32"), help="danlu's; default bf16, with --isa avx2 f32")
    p.add_argument("--same-dtype", action="store_true", help="the peer must use danlu's dtype")
    p.add_argument("--isa", choices=("all", "avx2"), default="all", help="avx2: both sides may use no more than AVX2")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=0, help="per round; 0: depends on the config")
    p.add_argument("--compile", nargs="?", choices=("all", "best", "no"), const="all", default="no",
                   help="also try torch.compile: of all variants, or of the fastest (minutes each)")
    p.add_argument("--python", default=sys.executable, help="the Python that has torch")
    p.add_argument("--peer-only", action="store_true", help="measure PyTorch alone")
    p.add_argument("--danlu-args", default="", help="more options for danlu, in one string")
    a = p.parse_args()
    if not a.peer_only and not (a.danlu and os.access(a.danlu, os.X_OK)):
        p.error("--danlu must name the danlu program (or give --peer-only)")
    a.names = list(SHAPES) if a.config == "all" else a.config.split(",")
    unknown = [x for x in a.names if x not in SHAPES]
    if unknown:
        p.error(f"there is no configuration '{unknown[0]}'; take some of {', '.join(SHAPES)}, or all")
    if a.steps == 1:
        p.error("--steps must be 2 or more: the first is warm-up")
    a.dtype = a.dtype or ("f32" if a.isa == "avx2" else "bf16")
    return a


def torch_version(a):
    if a.python == sys.executable:
        return importlib.metadata.version("torch")         # not imported here: children would inherit its peak memory
    return subprocess.run([a.python, "-c", "import importlib.metadata as m; print(m.version('torch'))"], capture_output=True, text=True).stdout.strip()


def main():
    a = options()
    print(f"torch {torch_version(a)}, Python {sys.version.split()[0]}; {cpu_name()}; load {os.getloadavg()[0]:.1f}")
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy, which slows both sides and not equally; repeat this on an idle one")
    folder = tempfile.mkdtemp(prefix="danlu-bench-text-")
    try:
        for name in a.names:
            data, vocab = a.data, VOCAB.get(name)
            if vocab:
                data = os.path.join(folder, f"{vocab}.txt")
                if not os.path.exists(data):
                    make_text(data, vocab)
            compare(a, name, data)
    except Failed as e:
        sys.exit(str(e))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
