#!/usr/bin/env python3
"""Fine-tuning speed and memory of danlu and of TRL + PEFT, side by side on the CPU.

    python3 bench/make_llama.py MODELS/15M --shape 15M               (also 110M)
    python3 bench/finetune_vs_trl.py --danlu build/danlu MODELS/15M MODELS/110M [--tasks lora,full,dpo,rollout] [--dtype f32,bf16] [--rounds 3]

Both sides train the same random LLaMA on the same rows through the same chat template, a step being all of them, with AdamW, a constant learning rate and clipping at 1;
adapters have rank 8 on all linear layers.  Tokens are those of the rows, padding is not counted: --lengths equal needs none, mixed (16 to 256 tokens) needs much, which
danlu always packs.  The peer is the fastest of its variants, found by a short probe: written-out attention or SDPA, and a padded batch or one flat sequence (padding_free).
First the losses of a float32 run are compared, and the numbers of tokens, which tells that template and mask are the same; adapters begin with B = 0, so that their first
losses are equal and the later ones alike.  Then every round measures the peer and danlu in turn.  The answers are medians over rounds: tokens per second of danlu / peer,
by the clock and by CPU time, and peak resident memory; --checkpointing measures the peer's memory with gradient checkpointing as well.
danlu's times are differences of a long and a short run, so that loading and measuring before and after are left out on both sides; memory is that of the whole process.
rollout: 8 prompts of 16 tokens have 2 answers each of exactly 64 tokens, all 16 at the same time, sampled at temperature 1 from the whole vocabulary: transformers' generate,
which TRL samples with where there is no server, and the rollouts of `danlu grpo` from weights that learn (all rewards are equal, so that no step is made).  By the clock alone,
for danlu's process does more than that; memory, too, is that of generate and of the whole of grpo.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATE = ("{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{{ eos_token }}{% endgeneration %}"
            "{% else %}{{ 'ask ' + m['content'] + ' say ' }}{% endif %}{% endfor %}")
SHORT = 2
PROMPTS, GROUP, PROMPT_TOKENS, NEW_TOKENS = 8, 2, 16, 64


class Failed(Exception):
    pass


def copy_model(folder, out, ends=True):
    """The model beside a tokenizer_config.json with the template; its large files are links.  Without `ends` nothing ends a text."""
    os.makedirs(out)
    for name in ("model.safetensors", "tokenizer.json"):
        os.symlink(os.path.abspath(os.path.join(folder, name)), os.path.join(out, name))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    if not ends:
        config.pop("eos_token_id")
        tokens.pop("eos_token")
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    with open(os.path.join(out, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False}, f)
    return out


def text(rnd, words):
    return " ".join("".join(rnd.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(4)) for _ in range(words))


def make_data(path, task, batch, lengths):
    rnd = random.Random(3)
    if task == "rollout":                      # the tokenizer has no merges of digits: 16 tokens
        with open(path, "w", encoding="utf-8") as f:
            for _ in range(PROMPTS):
                f.write(json.dumps({"text": "".join(rnd.choice("0123456789") for _ in range(PROMPT_TOKENS))}) + "\n")
        return
    user = lambda n: [{"role": "user", "content": text(rnd, n)}]
    answer = lambda n: [{"role": "assistant", "content": text(rnd, n)}]
    with open(path, "w", encoding="utf-8") as f:
        for i in range(batch):
            n = 64 if lengths == "equal" else (4, 8, 16, 32, 64, 24, 12, 6)[i % 8]
            row = {"messages": user(n // 4) + answer(n - n // 4)} if task != "dpo" else {"prompt": user(n // 4), "chosen": answer(n - n // 4), "rejected": answer(n - n // 4)}
            f.write(json.dumps(row) + "\n")


def child(command):
    """Runs; returns output, CPU seconds, peak bytes, what it said to people."""
    with tempfile.TemporaryFile() as errors:
        p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        out = p.stdout.read().decode()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
        if p.returncode:
            raise Failed(f"{' '.join(command)}\nfailed with status {p.returncode}:\n{said[-1500:]}")
    return out, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said


def peer(a, job, variant, steps):
    """{loss: of every step, tokens: of a step, wall, cpu: tokens per second, memory}."""
    attention, flatten, checkpointing = variant
    task = "generate" if job["task"] == "rollout" else "dpo" if job["task"] == "dpo" else "sft"
    out, _, _, _ = child([a.python, os.path.join(HERE, "peer_trl.py"), "--model", job["model"], "--data", job["data"], "--task", task, "--lora", str(job["rank"]), "--dtype",
                       job["dtype"], "--attention", attention, "--steps", str(steps), "--batch", str(a.batch), "--lr", str(job["lr"]), "--threads", str(a.threads), "--group", str(GROUP), "--tokens", str(NEW_TOKENS),
                       *["--flatten"] * flatten, *["--checkpointing"] * checkpointing])
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{\"")]
    run, warm = lines[:-1], 1 if steps < 4 else 2
    if task == "generate" and any(r["tokens"] != PROMPTS * GROUP * NEW_TOKENS or r["prompt_tokens"] != PROMPTS * PROMPT_TOKENS for r in run):
        raise Failed(f"the peer wrote {run[0]['tokens']} tokens after {run[0]['prompt_tokens']} of prompts")
    return {"loss": [r.get("loss") for r in run], "tokens": run[0]["tokens"], "memory": lines[-1]["peak"],
            "wall": run[0]["tokens"] / statistics.median(r["wall"] for r in run[warm:]), "cpu": run[0]["tokens"] / statistics.median(r["cpu"] for r in run[warm:])}


def danlu_once(a, job, steps):
    out = tempfile.mkdtemp(prefix="danlu-bench-")
    try:
        command = [a.danlu, "dpo" if job["task"] == "dpo" else "finetune", job["model"], "--data", job["data"], "--steps", str(steps), "--batch", str(a.batch), "--lr", str(job["lr"]),
                   "--schedule", "constant", "--warmup", "0", "--val-fraction", "0", "--dtype", job["dtype"], "--threads", str(a.threads), "--quiet", "--save-every", "0", "--out",
                   os.path.join(out, "run"), *["--lora-rank", str(job["rank"])] * (job["rank"] > 0), *["--rows", str(a.rows)] * (a.rows > 0)]
        at = time.perf_counter()
        _, cpu, memory, _ = child(command)
        wall = time.perf_counter() - at
        with open(os.path.join(out, "run", "log.jsonl"), encoding="utf-8") as f:
            log = [json.loads(line) for line in f]
        return wall, cpu, memory, [line["loss"] for line in log]
    finally:
        shutil.rmtree(out, ignore_errors=True)


def danlu(a, job, steps, tokens):
    more = 3 * steps                           # it is a difference: of more steps, for less noise
    short, long = danlu_once(a, job, SHORT), danlu_once(a, job, SHORT + more)
    return {"loss": long[3], "memory": long[2], "wall": tokens * more / max(long[0] - short[0], 1e-9), "cpu": tokens * more / max(long[1] - short[1], 1e-9)}


def danlu_rollout(a, job, steps):
    out = tempfile.mkdtemp(prefix="danlu-bench-")
    try:
        command = [a.danlu, "grpo", job["model"], "--data", job["data"], "--raw", "--reward", "length:1-2", "--variant", "dapo", "--dynamic-sampling", "0", "--batch", str(PROMPTS),
                   "--group", str(GROUP), "--streams", str(PROMPTS * GROUP), "--max-new", str(NEW_TOKENS), "--temperature", "1", "--steps", str(steps), "--val-fraction", "0",
                   "--eval-prompts", "0", "--dtype", job["dtype"], "--threads", str(a.threads), "--save-every", "0", "--out", os.path.join(out, "run")]
        _, _, memory, said = child(command)
        with open(os.path.join(out, "run", "log.jsonl"), encoding="utf-8") as f:
            log = [json.loads(line) for line in f]
        if any(x["completions/min_length"] != NEW_TOKENS or x["completions/max_length"] != NEW_TOKENS or x["grad_norm"] != 0 for x in log):
            raise Failed(f"danlu's answers are not of {NEW_TOKENS} tokens each, or it learns: {log[0]}")
        if f"prompts  {PROMPTS}, {PROMPTS * PROMPT_TOKENS} tokens" not in said:
            raise Failed(f"danlu's prompts are not of {PROMPT_TOKENS} tokens each:\n{said}")
        warm = 1 if steps < 4 else 2
        return {"memory": memory, "wall": statistics.median(x["rollout_tokens_per_second"] for x in log[warm:])}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def probe(a, job):
    speeds = {}
    for attention in ("sdpa", "eager"):
        for flatten in (False, True) if job["task"] in ("lora", "full") and a.lengths == "mixed" else (False,):
            try:
                speeds[attention, flatten, False] = peer(a, job, (attention, flatten, False), 3)["cpu"]
            except Failed as e:
                print(f"  probe  {attention}{' flat' if flatten else ''} failed: {str(e).splitlines()[-1]}")
    if not speeds:
        raise Failed("no variant of the peer ran")
    print("  probe  " + ", ".join(f"{k[0]}{' flat' if k[1] else ''} {v:.0f}" for k, v in speeds.items()) + " tokens per CPU second")
    return max(speeds, key=speeds.get)


def check_losses(a, job):
    """In float32, whatever is measured."""
    plain = dict(job, dtype="f32")
    want = peer(a, plain, ("sdpa", False, False), 4)
    got = danlu_once(a, plain, 4)
    worst = max(abs(x - y) / max(1, abs(y)) for x, y in zip(got[3], want["loss"]))
    first = abs(got[3][0] - want["loss"][0])
    print(f"  losses (f32)  TRL {' '.join(f'{x:.6f}' for x in want['loss'])}   danlu {' '.join(f'{x:.6f}' for x in got[3])}   largest difference {worst:.1e}, of the first {first:.1e}")
    if first > 1e-4 or worst > (0.05 if job["rank"] else 1e-3):
        print("  WARNING  the losses differ: do not quote these speeds")


def mib(n):
    return n / 2**20


def cpu(x):
    return f" ({x['cpu']:.0f} per CPU second)" if "cpu" in x else ""


def compare(a, job, name):
    rollout = job["task"] == "rollout"
    print(f"\n{name} {job['task']} {job['dtype']}, {a.threads} threads" + (f", {PROMPTS} x {GROUP} answers of {NEW_TOKENS} tokens after {PROMPT_TOKENS}" if rollout
                                                                         else f", {a.batch} rows a step, {a.lengths} lengths"), flush=True)
    if not rollout:
        check_losses(a, job)
    best = probe(a, job)
    ours, theirs = [], []
    for i in range(a.rounds):
        theirs.append(peer(a, job, best, a.steps))
        ours.append(danlu_rollout(a, job, a.steps) if rollout else danlu(a, job, a.steps, theirs[0]["tokens"]))
        p, d = theirs[-1], ours[-1]
        print(f"  round {i + 1}  TRL {p['wall']:8.0f} tokens/s{cpu(p)}, {mib(p['memory']):.0f} MiB   danlu {d['wall']:8.0f}{cpu(d)}, {mib(d['memory']):.0f} MiB   "
              f"ratio {d['wall'] / p['wall']:.2f}" + ("" if rollout else f" ({d['cpu'] / p['cpu']:.2f})"), flush=True)
    ratio = lambda key: statistics.median(d[key] / p[key] for d, p in zip(ours, theirs))
    spread = [d["wall"] / p["wall"] for d, p in zip(ours, theirs)]
    print(f"  median  danlu / TRL ({best[0]}{', flat' if best[1] else ''}): speed {ratio('wall'):.2f} ({min(spread):.2f} to {max(spread):.2f})" + ("" if rollout else f", by CPU time {ratio('cpu'):.2f}")
          + f"; peak memory {ratio('memory'):.2f} ({mib(statistics.median(d['memory'] for d in ours)):.0f} of {mib(statistics.median(p['memory'] for p in theirs)):.0f} MiB)", flush=True)
    if a.checkpointing and not rollout:
        least = peer(a, job, (best[0], best[1], True), 3)
        print(f"  with gradient checkpointing  TRL {least['wall']:.0f} tokens/s, {mib(least['memory']):.0f} MiB", flush=True)


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", help="folders that make_llama.py wrote")
    p.add_argument("--danlu", required=True)
    p.add_argument("--tasks", default="lora,full,dpo,rollout")
    p.add_argument("--dtype", default="f32,bf16")
    p.add_argument("--lengths", choices=("equal", "mixed"), default="mixed")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=8, help="measured steps of a round")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--rows", type=int, default=0, help="danlu's --rows")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--checkpointing", action="store_true")
    p.add_argument("--python", default=sys.executable, help="the Python that has trl")
    return p.parse_args()


def main():
    a = options()
    versions = subprocess.run([a.python, "-c", "import importlib.metadata as m; print(', '.join(f'{x} {m.version(x)}' for x in ('torch', 'transformers', 'peft', 'trl')))"],
                              capture_output=True, text=True, check=True).stdout.strip()
    print(f"{versions}; load {os.getloadavg()[0]:.1f}")
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy: look at the ratios by CPU time, and repeat this on an idle one")
    work = tempfile.mkdtemp(prefix="danlu-bench-trl-")
    try:
        for folder in a.models:
            name = os.path.basename(os.path.normpath(folder))
            models = copy_model(folder, os.path.join(work, name)), copy_model(folder, os.path.join(work, name + "-endless"), ends=False)
            for task in a.tasks.split(","):
                data = os.path.join(work, f"{task}.jsonl")
                make_data(data, task, a.batch, a.lengths)
                for dtype in a.dtype.split(","):
                    job = {"model": models[task == "rollout"], "data": data, "task": task, "dtype": dtype, "rank": 8 if task in ("lora", "dpo") else 0, "lr": 1e-5 if task == "full" else 1e-4}
                    compare(a, job, name)
    except Failed as e:
        sys.exit(str(e))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
