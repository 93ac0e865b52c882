#!/usr/bin/env python3
"""What fine-tuning gains and what it forgets, over rank x layers x replay, on a small base that danlu trains; and answers before and after.

    python3 bench/forgetting.py --danlu build/danlu --data DATA --work DIR [--base MODEL] [--answers 6]

DATA has text/en/gutenberg/*.txt and instruct/alpaca_en.jsonl.  The base is a small LLaMA (2,048 tokens) trained on eleven of the novels, unless --base names one that was.
Every cell fine-tunes it on the same rows of instructions.  Gain: change of the loss on held-out rows; forgetting: change of the loss on a twelfth novel, which neither has seen, both
in nats per token with 95 % intervals (paired, row by row or window by window).  Replay is text of the novels of training.  A cell that DIR has already is not run again: the script
may be stopped.  --answers: greedy answers to instructions that no run has seen, of the base and of all weights fine-tuned without replay.
"""
import argparse
import itertools
import json
import os
import subprocess
import sys

HELD = "bleak_house.txt"
TEMPLATE = "alpaca"                                        # ends turns with eos, which a base knows as the end of a document


def run(a, *words):
    p = subprocess.run([a.danlu, *map(str, words), "--threads", str(a.threads), "--seed", "1"], capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{p.stderr[-2000:]}")
    return p.stdout


def novels(a, held):
    folder = os.path.join(a.data, "text", "en", "gutenberg")
    return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if (n == HELD) == held]


def base_of(a):
    if a.base:
        return a.base
    out = os.path.join(a.work, "base")
    if not os.path.exists(os.path.join(out, "model.safetensors")):
        run(a, "train", "--data", *novels(a, False), "--model", "llama", "--layers", a.layers, "--hidden", a.hidden, "--heads", 4, "--vocab", 2048, "--context", 256, "--batch", 16, "--steps", a.base_steps,
            "--lr", 2e-3, "--warmup", 50, "--val-fraction", 0.01, "--eval-every", 0, "--eval-batches", 20, "--out", out, "--quiet", *["--resume"] * os.path.exists(os.path.join(out, "checkpoints")))
    return out


def rows(a):
    """The rows of training, and prompts from behind them."""
    path = os.path.join(a.work, "rows.jsonl")
    with open(os.path.join(a.data, "instruct", "alpaca_en.jsonl"), encoding="utf-8") as f:
        lines = [line for line in itertools.islice(f, a.rows + 400) if len(line) < 500]
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines[:-100])
    return path, [json.loads(line) for line in lines[-100:]]


def cell(a, base, data, rank, layers, replay):
    name = f"rank-{rank}-layers-{layers}-replay-{replay}"
    out = os.path.join(a.work, name)
    if not os.path.exists(os.path.join(out, "report.json")):
        more = ["--lora-rank", rank, "--lr", a.adapter_lr] if rank != "all" else ["--lr", a.lr]
        if layers == "upper":
            n = json.load(open(os.path.join(base, "config.json"), encoding="utf-8"))["num_hidden_layers"]
            more += ["--lora-layers", f"{n // 2}-{n - 1}"]
        if replay:
            joined = os.path.join(a.work, "replay.txt")
            if not os.path.exists(joined):
                with open(joined, "wb") as f:
                    f.writelines(open(n, "rb").read()[100_000:400_000] for n in novels(a, False))
            more += ["--replay", f"{joined}:{replay}"]
        run(a, "finetune", base, "--data", data, "--template", TEMPLATE, "--steps", a.steps, "--batch", a.batch, "--context", a.context, "--rows", max(a.context, 1024), "--val-fraction", 0.1,
            "--forget-eval", *novels(a, True), *more, "--out", out, "--quiet", "--save-every", 0)
    return json.load(open(os.path.join(out, "report.json"), encoding="utf-8"))


def interval(c):
    return f"{c['change']:+.3f} ± {1.96 * c['standard_error']:.3f}"


def grid(a, base, data):
    print(f"{'rank':>5} {'layers':>6} {'replay':>6}   {'held-out rows':>18}   {'forgetting':>18}")
    table = []
    for rank, layers, replay in itertools.product(a.ranks, ("all", "upper"), a.replay):
        if rank == "all" and layers == "upper":
            continue
        r = cell(a, base, data, rank, layers, replay)
        table.append((rank, layers, replay, r))
        print(f"{rank:>5} {layers:>6} {replay:>6}   {interval(r['eval_loss']):>18}   {interval(r['forgetting']):>18}", flush=True)
    first = table[0][3]
    print(f"before: {first['eval_loss']['before']:.3f} on {first['eval_loss']['sequences']} held-out rows, {first['forgetting']['before']:.3f} on {first['forgetting']['sequences']} windows of {HELD}; "
          f"{a.steps} steps of {a.batch} rows")


def answer(a, model, row):
    prompt = f"{row['instruction']}\n{row['input']}" if row.get("input") else row["instruction"]
    text = f"### Instruction:\n{prompt}\n\n### Response:\n"
    out = run(a, "generate", model, "--prompt", text, "--max-tokens", 48, "--temperature", 0, "--quiet")
    return " ".join(out.replace(text, "", 1).split())[:220]


def answers(a, base, prompts):
    tuned = os.path.join(a.work, "rank-all-layers-all-replay-0")
    for row in prompts[:: max(1, len(prompts) // a.answers)][: a.answers]:
        print(f"\n{row['instruction']} {row.get('input', '')}\n  before  {answer(a, base, row)}\n  after   {answer(a, tuned, row)}", flush=True)


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--danlu", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True, help="folder for base, cells and reports")
    p.add_argument("--base", help="a model that saw the novels but not the held-out one")
    p.add_argument("--base-steps", type=int, default=500)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--hidden", type=int, default=160)
    p.add_argument("--ranks", nargs="+", default=["4", "32", "all"], help="all: all weights")
    p.add_argument("--replay", nargs="+", type=float, default=[0, 0.1, 0.3])
    p.add_argument("--rows", type=int, default=4000)
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--adapter-lr", type=float, default=2e-3)
    p.add_argument("--answers", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    a.replay = [int(x) if x == 0 else x for x in a.replay]
    return a


def main():
    a = options()
    os.makedirs(a.work, exist_ok=True)
    base = base_of(a)
    data, prompts = rows(a)
    grid(a, base, data)
    if a.answers:
        answers(a, base, prompts)


if __name__ == "__main__":
    main()
