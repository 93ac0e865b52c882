#!/usr/bin/env python3
"""Three small tasks that a policy gradient has to move, on models that danlu trains itself in seconds: sums of one and of two digits, and ending an answer.

    python3 bench/small_rewards.py [--danlu build/danlu] [--tasks one,two,end] [--seeds 1,2,3] [--method grpo|ppo] [--variant grpo] [-- OPTIONS of that command]

one   a + b of one digit; the base imitates a teacher who is right in 6 of 10 sums; reward: the verifier `exact`
two   a + b of two digits, two numbers of the answer least digit first; the base learnt from a teacher who is right in 1 of 2 sums; reward: the same
end   sentences; the base has seen texts of many sentences, so most answers do not end; reward: `length:8-40`, -1 for an answer without an end

Sums are asked that were held out of the policy gradient's prompts as well as those in it ("held-out reward").  Beside the reward: KL divergence from the base
(nats an answer), answers that did not end, and the loss on held-out general text (nats per token; the base was trained on such text, too), before and after.  The
mean over seeds has its standard error.  Standard library alone.
"""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import tempfile

ANIMALS, VERBS, PLACES = "cat dog bird fish horse cow".split(), "sees likes hears finds wants".split(), "here there today again now".split()


def sentence(rng):
    return f"the {rng.choice(ANIMALS)} {rng.choice(VERBS)} the {rng.choice(ANIMALS)} {rng.choice(PLACES)}."


def write(path, rows):
    with open(path, "w") as f:
        for r in rows:
            f.write(json.dumps(r) + "\n")


def sums(rng, digits, right, teacher_rows):
    """Teacher's rows, prompts with answers."""
    top = 10 ** digits
    width = 2 if digits == 1 else 3

    def text(c):
        return str(c) if digits == 1 else str(c).zfill(width)[::-1]

    teacher = []
    for _ in range(teacher_rows):
        a, b = rng.randrange(top), rng.randrange(top)
        c = a + b
        if rng.random() >= right:
            c = max(0, c + rng.choice([-10, -2, -1, 1, 2, 10]))
        teacher.append({"text": f"{a}+{b}={text(c)}"})
    pairs = [(a, b) for a in range(top) for b in range(top)]
    rng.shuffle(pairs)
    return teacher, [{"text": f"{a}+{b}=", "answer": text(a + b)} for a, b in pairs[:1000]]


TASKS = {
    "one": dict(what="sums of one digit", digits=1, right=0.6, rows=6000, layers=2, hidden=64, steps=700, reward="exact", new=4, update=80, batch=16, lr=1e-3),
    "two": dict(what="sums of two digits", digits=2, right=0.5, rows=60000, layers=2, hidden=96, steps=2500, reward="exact", new=6, update=150, batch=32, lr=7e-4),
    "end": dict(what="ending an answer", rows=3000, layers=2, hidden=64, steps=400, reward="length:8-40", new=60, update=80, batch=16, lr=1e-3),
}


def make_data(work, name, task):
    rng = random.Random(7)
    general = [{"text": sentence(rng)} for _ in range(2000)]
    if name == "end":
        rows = [{"text": " ".join(sentence(rng) for _ in range(rng.randrange(1, 12)))} for _ in range(task["rows"])]
        prompts = [{"text": f"the {a} {v} the {b}"} for a in ANIMALS for v in VERBS for b in ANIMALS]
        rng.shuffle(prompts)
    else:
        rows, prompts = sums(rng, task["digits"], task["right"], task["rows"])
    train = rows + general * max(1, len(rows) // 8000)
    rng.shuffle(train)
    write(os.path.join(work, "train.jsonl"), train)
    write(os.path.join(work, "prompts.jsonl"), prompts)
    write(os.path.join(work, "general.jsonl"), [{"text": sentence(rng)} for _ in range(200)])


def danlu(args, *words):
    out = subprocess.run(["nice", "-n", "5", args.danlu, *map(str, words), "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if out.returncode:
        raise SystemExit(out.stderr.decode())
    return out.stdout


def make_base(args, work, name, task):
    cut, base = os.path.join(work, "cut"), os.path.join(work, "base")
    context = task["new"] + 24
    danlu(args, "train", "--data", os.path.join(work, "train.jsonl"), "--tokenizer", "char", "--model", "llama", "--layers", task["layers"], "--hidden", task["hidden"], "--heads", 4,
          "--context", max(48, context), "--steps", task["steps"], "--batch", 32, "--lr", 3e-3, "--eval-every", 0, "--save-every", 0, "--out", cut)
    if name == "end":
        return cut
    # training cuts documents at windows; fine-tuning takes each whole, from its beginning
    danlu(args, "finetune", cut, "--data", os.path.join(work, "train.jsonl"), "--steps", task["steps"] // 3, "--batch", 64, "--context", max(48, context), "--lr", 1e-3, "--save-every", 0,
          "--out", base)
    return base


def learn(args, work, base, task, seed, rest):
    out = os.path.join(work, f"run-{seed}")
    words = [args.method, base, "--data", os.path.join(work, "prompts.jsonl"), "--reward", task["reward"], "--max-new", task["new"], "--val-fraction", 0.2, "--eval-prompts", 500,
             "--forget-eval", os.path.join(work, "general.jsonl"), "--batch", task["batch"], "--steps", task["update"], "--lr", task["lr"], "--min-lr", task["lr"] / 5, "--seed", seed,
             "--save-every", 0, "--out", out]
    words += ["--variant", args.variant, "--group", 8] if args.method == "grpo" else ["--answers", 8]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(danlu(args, *words, *rest))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(x) for x in open(os.path.join(out, "log.jsonl"))][-5:]
    held, forget = report["eval_reward"], report["forgetting"]
    return dict(before=held["before"]["reward"], after=held["after"]["reward"], kl=statistics.mean(x["objective/kl"] for x in lines),
                train=statistics.mean(x["reward"] for x in lines), open_before=1 - held["before"]["ended"], open_after=1 - held["after"]["ended"],
                loss_before=forget["before"], loss_after=forget["after"], cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def show(label, r):
    print(f"  {label:<8} held-out reward {r['before']:.3f} -> {r['after']:.3f} (prompts learnt from: {r['train']:.3f})  KL {r['kl']:.2f}  no end {100 * r['open_before']:.1f} % -> "
          f"{100 * r['open_after']:.1f} %  LM loss {r['loss_before']:.3f} -> {r['loss_after']:.3f}  {r['cpu']:.0f} s CPU", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--danlu", default="build/danlu")
    p.add_argument("--tasks", default="one,two,end")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--method", default="grpo", choices=["grpo", "ppo"])
    p.add_argument("--variant", default="grpo")
    p.add_argument("rest", nargs="*", help="options of the command, behind --")
    args = p.parse_args()
    for name in args.tasks.split(","):
        task = TASKS[name]
        with tempfile.TemporaryDirectory() as work:
            os.environ["DANLU_HOME"] = os.path.join(work, "home")
            make_data(work, name, task)
            base = make_base(args, work, name, task)
            print(f"{task['what']} ({args.variant if args.method == 'grpo' else 'ppo'})", flush=True)
            runs = []
            for seed in args.seeds.split(","):
                runs.append(learn(args, work, base, task, int(seed), args.rest))
                show(f"seed {seed}", runs[-1])
            if len(runs) > 1:
                mean = {k: statistics.mean(r[k] for r in runs) for k in runs[0]}
                show("mean", mean)
                gain = [r["after"] - r["before"] for r in runs]
                print(f"  gain     {statistics.mean(gain):+.3f} (standard error {statistics.stdev(gain) / len(gain) ** 0.5:.3f})", flush=True)


if __name__ == "__main__":
    main()
