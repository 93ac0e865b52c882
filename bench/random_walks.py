#!/usr/bin/env python3
"""The random-walks task (rules of trlx' examples/randomwalks) by PPO: from a model that imitates random walks to one that takes the shortest way.

    python3 bench/random_walks.py [--danlu build/danlu] [--graph 6] [--seeds 1,2] [--steps 100] [--method ppo|grpo] [-- OPTIONS of that command]

A directed graph of 21 nodes; a walk begins anywhere, ends at node 0 or after 10 nodes, and is written as letters.  Its optimality is
(10 - nodes) / (10 - nodes of the shortest walk), 0 where it does not reach node 0 or takes an edge that is not there.  The table has, for each seed: what
a random walker gets (exact, by dynamic programming), the trained model before and after, and the share of walks that do not end in the 9 tokens they are given.
The model before is measured on 64 walks from every start; otherwise before and after are the means of the first update and of the last 10, 128 walks
each.  Standard library alone; a few seconds of CPU time a seed.
"""
import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile

N, MOST, EDGE = 21, 10, 0.1
LETTERS = "abcdefghijklmnopqrstu"


def graph(rng):
    while True:
        a = [[1 if i != j and rng.random() > 1 - EDGE else 0 for j in range(N)] for i in range(N)]
        if all(sum(r) for r in a):
            a[0] = [1] + [0] * (N - 1)
            return [[j for j in range(N) if r[j]] for r in a]


def shortest(edges):
    d, front = {0: 1}, [0]
    while front:
        new = []
        for j in front:
            for i in range(N):
                if j in edges[i] and i not in d:
                    d[i] = d[j] + 1
                    new.append(i)
        front = new
    return {i: d[i] for i in range(1, N) if d.get(i, MOST) < MOST}


def walker(edges, best):
    total = 0
    for s in best:
        p = {s: 1.0}
        for k in range(2, MOST + 1):
            q = {}
            for i, w in p.items():
                for j in edges[i]:
                    q[j] = q.get(j, 0) + w / len(edges[i])
            total += q.pop(0, 0.0) * (MOST - k) / (MOST - best[s])
            p = q
    return total / len(best)


def optimality(text, edges, best):
    path = [LETTERS.find(c) for c in text]
    if not path or path[0] not in best or path[-1] != 0 or len(path) > MOST:
        return 0.0
    if any(j not in edges[i] for i, j in zip(path, path[1:])):
        return 0.0
    return (MOST - len(path)) / (MOST - best[path[0]])


def reward(seed):
    edges = graph(random.Random(seed))
    best = shortest(edges)
    for line in sys.stdin:
        x = json.loads(line)
        print(optimality(x["prompt"] + x["completion"], edges, best), flush=True)


def write_data(work, edges, best):
    rng = random.Random(0)
    with open(os.path.join(work, "walks.jsonl"), "w") as f:
        for _ in range(12000):
            path = [rng.choice(list(best))]
            while path[-1] != 0 and len(path) < MOST:
                path.append(rng.choice(edges[path[-1]]))
            f.write(json.dumps({"text": "".join(LETTERS[i] for i in path)}) + "\n")
    with open(os.path.join(work, "starts.jsonl"), "w") as f:
        for s in best:
            f.write(json.dumps({"text": LETTERS[s]}) + "\n")


def command(args):
    return f"command:{sys.executable} {os.path.abspath(__file__)} --reward {args.graph}"


def run(args, work, seed, rest):
    out = os.path.join(work, f"run-{seed}")
    words = [args.danlu, args.method, os.path.join(work, "base"), "--data", os.path.join(work, "starts.jsonl"), "--reward", command(args),
             "--max-new", "9", "--val-fraction", "0", "--batch", "16", "--steps", str(args.steps), "--lr", "1e-3", "--missing-eos-penalty", "1", "--seed", str(seed), "--out", out, "--quiet"]
    words += ["--answers", "8", "--kl-beta", "0"] if args.method == "ppo" else ["--group", "8", "--beta", "0"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words + rest, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(x) for x in open(os.path.join(out, "log.jsonl"))]
    ends = [[sum(x[k] for x in part) / len(part) for k in ("rewards/command/mean", "completions/clipped_ratio", "completions/mean_length")] for part in (lines[:1], lines[-10:])]
    over = next((x["step"] for x in lines if x["rewards/command/mean"] >= 0.9), None)
    return ends, lines[-1].get("objective/kl", lines[-1].get("kl", 0)), over, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def baseline(args, work):
    out = subprocess.run([args.danlu, "best", os.path.join(work, "base"), "--data", os.path.join(work, "starts.jsonl"), "--reward", command(args), "--max-new", "9", "--n", "64",
                          "--out", os.path.join(work, "best.jsonl"), "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)["best_of"][0]["reward"]


def tell(args):
    version = subprocess.run([args.danlu, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    cpu = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "?")
    print(f"{version}; {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--danlu", default="build/danlu")
    p.add_argument("--graph", type=int, default=6)
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--method", default="ppo", choices=["ppo", "grpo"])
    p.add_argument("--reward", type=int, default=None, help="be the reward command for this graph")
    own, rest = (sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]) if "--" in sys.argv else (sys.argv[1:], [])
    args = p.parse_args(own)
    if args.reward is not None:
        return reward(args.reward)
    tell(args)
    edges = graph(random.Random(args.graph))
    best = shortest(edges)
    with tempfile.TemporaryDirectory(prefix="danlu-walks-") as work:
        os.environ["DANLU_HOME"] = os.path.join(work, "home")
        write_data(work, edges, best)
        # training cuts documents at windows, fine-tuning takes each walk whole, from its beginning
        cut, base = os.path.join(work, "cut"), os.path.join(work, "base")
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([args.danlu, "train", "--data", os.path.join(work, "walks.jsonl"), "--tokenizer", "bytes", "--model", "llama", "--layers", "2", "--hidden", "64",
                        "--heads", "4", "--context", "16", "--steps", "200", "--batch", "64", "--lr", "4e-3", "--eval-every", "0", "--save-every", "0", "--out", cut, "--quiet"], **quiet)
        subprocess.run([args.danlu, "finetune", cut, "--data", os.path.join(work, "walks.jsonl"), "--epochs", "4", "--batch", "64", "--lr", "2e-3", "--save-every", "0",
                        "--out", base, "--quiet"], **quiet)
        print(f"graph {args.graph}: {len(best)} starts, a random walker's optimality is {walker(edges, best):.3f}, the best 1")
        print(f"the model that imitates walks: {baseline(args, work):.3f} (64 walks from each start)")
        for seed in args.seeds.split(","):
            (a, b), kl, over, cpu = run(args, work, seed, rest)
            print(f"{args.method}, seed {seed}: optimality {a[0]:.3f} -> {b[0]:.3f} (over .9 first in update {over}), without end {100 * a[1]:.1f} % -> {100 * b[1]:.2f} %, "
                  f"tokens {a[2]:.2f} -> {b[2]:.2f}, KL {kl:.2f}, {cpu:.0f} s CPU", flush=True)


if __name__ == "__main__":
    main()
