#!/usr/bin/env python3
"""PPO with and without the pre-training mix: what is forgotten, over three seeds.

    python3 bench/ppo_ptx.py [--danlu build/danlu] [--data ../shared/data] [--seeds 1,2,3] [--coef 1] [--steps 15]

stories260K continues beginnings of TinyStories; the reward counts cheerful words, so the policy drifts from the stories it was trained on.  Forgetting is
the change of the loss on stories that neither the prompts nor the mix come from.  The table has, for each seed, the held-out reward and that change without and
with the mix, then the mean difference and its standard error over the seeds.  Standard library alone; about 20 s of CPU time a run.
"""
import argparse
import json
import math
import os
import resource
import subprocess
import tempfile

HAPPY = "happy smile smiled fun love loved friend friends play played nice kind happily joy hug hugged laughed".split()


def split_stories(path, work):
    text = open(path, encoding="utf-8").read()
    parts = [p.strip() for p in text.replace("<|endoftext|>", "\n\n\n").split("\n\n\n") if len(p.strip()) > 200]
    if len(parts) < 50:                        # no marks between stories: cut at beginnings
        parts = [("Once upon a time" + p).strip() for p in text.split("Once upon a time")[1:]]
    held, mix, beginnings = parts[::5], [p for i, p in enumerate(parts) if i % 5 > 1], parts[1::5]
    for name, some in (("held.txt", held), ("mix.txt", mix)):
        with open(os.path.join(work, name), "w", encoding="utf-8") as f:
            f.write("\n\n".join(some))
    with open(os.path.join(work, "prompts.jsonl"), "w", encoding="utf-8") as f:
        for p in beginnings[:300]:
            f.write(json.dumps({"text": " ".join(p.split()[:5])}) + "\n")
    with open(os.path.join(work, "happy.txt"), "w") as f:
        f.write("\n".join(HAPPY) + "\n")


def run(args, work, seed, coef):
    out = os.path.join(work, f"run-{seed}-{coef}")
    mix = ["--ptx", os.path.join(work, "mix.txt"), "--ptx-coef", str(coef)] if coef else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["nice", "-n", "5", args.danlu, "ppo", os.path.join(args.data, "ckpt/stories260K/stories260K.bin"), "--data", os.path.join(work, "prompts.jsonl"), "--reward",
                    "lexicon:" + os.path.join(work, "happy.txt") + ":10", "--raw", "--max-new", "32", "--context", "256", "--steps", str(args.steps), "--batch", "16", "--answers", "4",
                    "--lr", "3e-4", "--kl-beta", "0.02", "--forget-eval", os.path.join(work, "held.txt"), "--val-fraction", "0.2", "--seed", str(seed), "--out", out, "--quiet"] + mix,
                   check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.load(open(os.path.join(out, "report.json")))
    lines = [json.loads(x) for x in open(os.path.join(out, "log.jsonl"))]
    assert all(x["val/first_ratio"] == 1 and x["val/first_approxkl"] == 0 for x in lines)
    return {"forgot": report["forgetting"]["change"], "error": report["forgetting"]["standard_error"], "first": lines[0]["objective/scores"], "score": lines[-1]["objective/scores"],
            "kl": lines[-1]["objective/kl"], "norms": [(x["ppo_grad_norm"], x["ptx_grad_norm"]) for x in lines if "ptx_grad_norm" in x],
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def mean_and_error(x):
    m = sum(x) / len(x)
    return m, math.sqrt(sum((v - m) ** 2 for v in x) / (len(x) - 1) / len(x)) if len(x) > 1 else float("nan")


def tell(args):
    version = subprocess.run([args.danlu, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    cpu = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "?")
    print(f"{version}; {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--danlu", default="build/danlu")
    p.add_argument("--data", default=os.environ.get("DANLU_DATA", "../shared/data"))
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--coef", type=float, default=1)
    p.add_argument("--steps", type=int, default=15)
    args = p.parse_args()
    tell(args)
    with tempfile.TemporaryDirectory(prefix="danlu-ppo-ptx-") as work:
        os.environ["DANLU_HOME"] = os.path.join(work, "home")
        split_stories(os.path.join(args.data, "text/en/tinystories_train.txt"), work)
        rows = []
        print("seed   mix   score of answers      KL   held-out loss (nats per token)   CPU s")
        for seed in args.seeds.split(","):
            rows.append([run(args, work, seed, c) for c in (0, args.coef)])
            for c, r in zip((0, args.coef), rows[-1]):
                print(f"{seed:>4}  {c:>4g}   {r['first']:6.3f} -> {r['score']:6.3f}  {r['kl']:6.2f}   {r['forgot']:+.4f} +- {r['error']:.4f}                {r['cpu']:5.1f}", flush=True)
        change, error = mean_and_error([b["forgot"] - a["forgot"] for a, b in rows])
        reward, reward_error = mean_and_error([b["score"] - a["score"] for a, b in rows])
        print(f"the mix changes the held-out loss by {change:+.4f} (standard error {error:.4f}, {abs(change) / error:.1f} of them), the score by {reward:+.3f} ({reward_error:.3f})")
        norms = [n for r in rows for n in r[1]["norms"]]
        print(f"gradient norms, mean over updates: policy {sum(n[0] for n in norms) / len(norms):.3f}, mix {sum(n[1] for n in norms) / len(norms):.3f}")


if __name__ == "__main__":
    main()
