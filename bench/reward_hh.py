#!/usr/bin/env python3
"""Reward model on real preferences: held-out accuracy in four folds, and the control with shuffled labels.

    python3 bench/reward_hh.py [BUILD] [--steps N]

Data: preference/hh_harmless_dev.jsonl of DANLU_DATA (1600 pairs of Anthropic's harmless-base).  A small base (llama, 2 layers, hidden 128, 2048 tokens of BPE, context
320) is trained on the text of three quarters of the pairs, both answers, without labels.  Then for each quarter of the prompts a reward model learns from the
other three (all weights, 2 epochs, lr 5e-4, batches of 16 pairs) and is judged on that quarter; no prompt is on both sides.  Minutes on two cores.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

p = argparse.ArgumentParser()
p.add_argument("build", nargs="?", default="build")
p.add_argument("--steps", type=int, default=220, help="of the base")
args = p.parse_args()
danlu = os.path.abspath(os.path.join(args.build, "danlu"))
data = os.path.join(os.environ.get("DANLU_DATA", "../shared/data"), "preference", "hh_harmless_dev.jsonl")
if not os.path.exists(data):
    sys.exit(f"there is no '{data}': set DANLU_DATA")
rows = [json.loads(line) for line in open(data)]
number = {}


def fold(row):
    c = row["chosen"]
    return number.setdefault(c[: c.rfind("\n\nAssistant:")], len(number)) % 4


def plain(text):
    return text.replace("\n\nHuman: ", "\nUser: ").replace("\n\nAssistant: ", "\nAssistant:").strip()


def write(name, lines):
    with open(name, "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in lines)


def run(*a):
    r = subprocess.run([danlu, *a, "--json", "--quiet"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"danlu {' '.join(a)}: {r.stderr}")
    return r.stdout


def wilson(x, n, z=1.959964):
    p, d = x / n, 1 + z * z / n
    c, h = (p + z * z / 2 / n) / d, z / d * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return f"{p:.3f} ({c - h:.3f} to {c + h:.3f})"


def learn(k, *more):
    out = "rm" + str(k) + "".join(more)
    run("reward", "base", "--data", f"train{k}.jsonl", "--eval-data", f"eval{k}.jsonl", "--lr", "5e-4", "--batch", "16", "--epochs", "2", "--out", out, *more)
    return json.load(open(os.path.join(out, "report.json")))["eval"]


with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    os.environ["DANLU_HOME"] = work
    folds = [fold(r) for r in rows]
    for k in range(4):
        write(f"train{k}.jsonl", [r for r, f in zip(rows, folds) if f != k])
        write(f"eval{k}.jsonl", [r for r, f in zip(rows, folds) if f == k])
    write("text.jsonl", [{"text": plain(r[side])} for r, f in zip(rows, folds) if f != 3 for side in ("chosen", "rejected")])
    run("train", "--data", "text.jsonl", "--layers", "2", "--hidden", "128", "--heads", "2", "--context", "320", "--vocab", "2048", "--steps", str(args.steps), "--batch", "8",
        "--lr", "3e-3", "--warmup", "20", "--out", "base")
    right = pairs = 0
    for k in range(4):
        e = learn(k)
        right, pairs = right + e["accuracy"] * e["pairs"], pairs + e["pairs"]
        print(f"fold {k}: {wilson(e['accuracy'] * e['pairs'], e['pairs'])}, {e['pairs']} pairs, loss {e['loss']:.4f}, correlation with length {e['length']['correlation']:+.2f}", flush=True)
    print(f"all four: {wilson(right, pairs)}, {pairs} pairs")
    e = learn(3, "--shuffle-labels")
    print(f"shuffled labels: {wilson(e['accuracy'] * e['pairs'], e['pairs'])}, {e['pairs']} pairs")
