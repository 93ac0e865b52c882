#!/usr/bin/env python3
"""How the cost of training grows: with context, batch, threads, depth and width, beside the law that it should follow.

    python3 bench/scaling.py --danlu build/danlu --data text.txt --out scaling.svg [--dtype bf16] [--quick | --long]

Every point is a short `danlu train --model gpt --tokenizer char`; of its steps the fastest counts, after the first ones.  The law is
the arithmetic of a step (the products of the layers and of the head, causal attention), drawn through the largest point of each panel:
where work dominates both meet; small points lie above it by what a step costs apart from arithmetic.  Default about three minutes on
two cores; --long goes to wider and deeper models.  Writes the drawing as SVG and the numbers as a table on stdout.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

BASE = {"layers": 4, "heads": 4, "hidden": 128, "context": 128, "batch": 16}
ROWS = 8192                                                # of a step, where context varies
PANELS = ("context", "batch", "threads", "depth", "width")
SIZES = {
    "quick": {"context": (128, 512, 2048), "batch": (1, 4, 16), "depth": (1, 2, 4), "width": (64, 128, 256)},
    "default": {"context": (128, 256, 512, 1024, 2048, 4096, 8192), "batch": (1, 2, 4, 8, 16, 32, 64), "depth": (1, 2, 4, 8, 16),
                "width": (64, 128, 256, 512, 1024)},
    "long": {"context": (128, 256, 512, 1024, 2048, 4096, 8192), "batch": (1, 2, 4, 8, 16, 32, 64), "depth": (1, 2, 4, 8, 16, 32),
             "width": (64, 128, 256, 512, 1024, 2048)},
}


def flops(c, vocab):
    """Of a step: 2 per weight and token forward, 4 backward; attention 4 D per seen key, head and token forward, 10 backward."""
    tokens, width, layers = c["batch"] * c["context"], c["hidden"], c["layers"]
    return tokens * (6 * (12 * layers * width * width + vocab * width) + 14 * layers * width * (c["context"] + 1) / 2)


def points(a, panel):
    """(x, config, threads) of a panel."""
    sizes = SIZES["quick" if a.quick else "long" if a.long else "default"]
    if panel == "threads":
        n, list_of = a.threads, []
        while n >= 1:
            list_of.insert(0, n)
            n //= 2
        return [(n, dict(BASE, hidden=256), n) for n in list_of]
    key = {"context": "context", "batch": "batch", "depth": "layers", "width": "hidden"}[panel]
    made = []
    for x in sizes[panel]:
        c = dict(BASE, **{key: x})
        if panel == "context":
            c["batch"] = ROWS // x
        made.append((x, c, a.threads))
    return made


def step_seconds(a, config, threads):
    """The fastest of a few steps, the first two left out."""
    out = tempfile.mkdtemp(prefix="danlu-scaling-")
    flags = [word for k, v in config.items() for word in ("--" + k, str(v))]
    command = [a.danlu, "train", "--model", "gpt", "--data", a.data, "--tokenizer", "char", *flags, "--steps", str(a.steps), "--dtype", a.dtype,
               "--threads", str(threads), "--out", os.path.join(out, "run"), "--json", "--quiet", "--eval-every", "0", "--eval-batches", "1",
               "--save-every", "0", *a.danlu_args.split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    speeds = []
    for line in done.stdout.splitlines():
        record = json.loads(line)
        if record.get("tokens_per_second") and record.get("loss") is not None:
            speeds.append(record["tokens_per_second"])
    if len(speeds) < 3:
        sys.exit(f"{' '.join(command)}\nprinted {len(speeds)} lines with tokens_per_second, too few to judge")
    return config["batch"] * config["context"] / max(speeds[2:])


def measure(a, vocab):
    panels = []
    for panel in a.panels.split(","):
        rows = []
        for x, config, threads in points(a, panel):
            seconds = step_seconds(a, config, threads)
            tokens = config["batch"] * config["context"]
            rows.append({"x": x, "threads": threads, "seconds": seconds, "tokens_per_second": tokens / seconds, "flops": flops(config, vocab)})
            print(f"  {panel:8} {x:6}  {1e3 * seconds:9.1f} ms a step  {tokens / seconds:10.0f} tokens/s  "
                  f"{rows[-1]['flops'] / seconds / 1e9:8.1f} GFLOP/s", flush=True)
        if panel == "threads":                             # time = arithmetic / threads, through one thread
            first = rows[0]
            for r in rows:
                r["law"] = first["seconds"] * first["threads"] / r["threads"]
        else:
            last = rows[-1]
            for r in rows:
                r["law"] = last["seconds"] * r["flops"] / last["flops"]
        panels.append((panel, rows))
    return panels


# --- drawing: log-log panels, one row

W, H, LEFT, TOP, GAP = 250, 210, 62, 58, 78
TITLES = {"context": f"context, {ROWS} rows a step", "batch": f"batch, context {BASE['context']}", "threads": "threads, width 256",
          "depth": "layers", "width": "width"}


def ticks(lo, hi):
    """Powers of ten within [lo, hi]; with fewer than two, also 2 and 5 times them."""
    for steps in ((1,), (1, 2, 5)):
        found = [m * 10.0 ** k for k in range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1) for m in steps]
        found = [t for t in found if lo * 0.999 <= t <= hi * 1.001]
        if len(found) >= 2:
            return found
    return found


def short(ms):
    return f"{ms:g}" if ms < 1000 else f"{ms / 1000:g} s"


def draw_panel(name, rows, x0):
    xs, ys = [r["x"] for r in rows], [1e3 * r["seconds"] for r in rows]
    laws = [1e3 * r["law"] for r in rows]
    lo, hi = min(ys + laws) / 1.3, max(ys + laws) * 1.3

    def at(x, y):
        span = math.log(xs[-1] / xs[0]) or 1
        return x0 + W * math.log(x / xs[0]) / span, TOP + H - H * math.log(y / lo) / math.log(hi / lo)

    out = [f'<text x="{x0}" y="{TOP - 12}" class="title">{TITLES[name]}</text>',
           f'<rect x="{x0}" y="{TOP}" width="{W}" height="{H}" class="frame"/>']
    for t in ticks(lo, hi):
        y = at(xs[0], t)[1]
        out.append(f'<line x1="{x0}" x2="{x0 + W}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                   f'<text x="{x0 - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">{short(t)}</text>')
    for x in xs:
        out.append(f'<text x="{at(x, lo)[0]:.1f}" y="{TOP + H + 16}" class="tick" text-anchor="middle">{x}</text>')
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in zip(xs, laws)))
    out.append(f'<polyline points="{line}" class="law"/>')
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in zip(xs, ys)))
    out.append(f'<polyline points="{line}" class="real"/>')
    for x, y, r in zip(xs, ys, rows):
        px, py = at(x, y)
        out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" class="dot"><title>{x}: {y:.1f} ms a step, {r["tokens_per_second"]:.0f} tokens/s, '
                   f'{r["seconds"] / r["law"]:.2f} of the law</title></circle>')
    return out


def draw(panels, caption):
    width, height = LEFT + len(panels) * (W + GAP) - GAP + 24, TOP + H + 62
    style = ("text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.tick{font-size:11px;fill:#57606a}"
             ".frame{fill:none;stroke:#d0d7de}.grid{stroke:#eaeef2}.law{fill:none;stroke:#8c959f;stroke-width:1.5;stroke-dasharray:5 4}"
             ".real{fill:none;stroke:#b3261e;stroke-width:2}.dot{fill:#b3261e}")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
           f"<title>{caption}</title><style>{style}</style>", f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{LEFT}" y="22" class="tick">milliseconds of a training step; red: measured; dashed: the arithmetic of the step</text>']
    for i, (name, rows) in enumerate(panels):
        out += draw_panel(name, rows, LEFT + i * (W + GAP))
    out += [f'<text x="{LEFT}" y="{height - 12}" class="tick">{caption}</text>', "</svg>", ""]
    return "\n".join(out)


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown CPU"


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--danlu", required=True, help="the program to measure")
    p.add_argument("--data", required=True, help="UTF-8 text, 100 KB or more")
    p.add_argument("--out", default="scaling.svg")
    p.add_argument("--json", help="also write the numbers to this file")
    p.add_argument("--dtype", choices=("auto", "bf16", "f32"), default="auto")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="the most; halved down to 1 in the panel `threads`")
    p.add_argument("--steps", type=int, default=6, help="of each point")
    p.add_argument("--panels", default=",".join(PANELS), help="some of " + ", ".join(PANELS))
    p.add_argument("--danlu-args", default="", help="more options for danlu, in one string")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="three points a panel, a minute")
    size.add_argument("--long", action="store_true", help="also large models")
    a = p.parse_args()
    if not os.access(a.danlu, os.X_OK):
        p.error("--danlu must name the danlu program")
    if a.steps < 3:
        p.error("--steps must be 3 or more: the first two are not counted")
    unknown = [x for x in a.panels.split(",") if x not in PANELS]
    if unknown:
        p.error(f"there is no panel '{unknown[0]}'; take some of {', '.join(PANELS)}")
    return a


def main():
    a = options()
    with open(a.data, encoding="utf-8", newline="") as f:
        vocab = len(set(f.read()))
    caption = f"danlu, gpt {BASE['layers']} x {BASE['hidden']} where not varied, {a.dtype}, {a.threads} threads, {cpu_name()}"
    print(f"{caption}; load {os.getloadavg()[0]:.1f}")
    panels = measure(a, vocab)
    print("\npanel         x   measured    law  ratio")
    for name, rows in panels:
        for r in rows:
            print(f"{name:8} {r['x']:6} {1e3 * r['seconds']:9.1f} {1e3 * r['law']:7.1f}  {r['seconds'] / r['law']:5.2f}")
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(draw(panels, caption))
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({"caption": caption, "panels": dict(panels)}, f, indent=1)
    print(f"\ndrawn in {a.out}")


if __name__ == "__main__":
    main()
