#!/usr/bin/env python3
"""Histograms, and the number of bins that a search by Kullback-Leibler divergence keeps of them.

    python3 tests/golden/make_calibrator_golden.py [OUT]        OUT defaults to the folder of this script

writes OUT/calibrators.json: {"made_by": ..., "cases": [{"name", "levels", "start", "bins", "keep", "least"}]}.  The search is the entropy
calibrator of Migacz 2017, "8-bit inference with TensorRT", with what NVIDIA's programs made of it: bins[0] counts as bins[1], levels are made
of the bins before the clipped mass joins the last one, of equal candidates the last one wins.  Made with numpy 2.4.6, scipy 1.17.1.
"""
import json
import os
import sys

import numpy as np
import scipy
import scipy.stats

HERE = os.path.dirname(os.path.abspath(__file__))


def coarse(bins, levels):
    """The bins seen through `levels` levels of equal width; empty bins stay empty."""
    n = len(bins)
    out = np.zeros(n)
    level = np.searchsorted(np.linspace(0, n, levels + 1), np.arange(n), side="right") - 1
    full = bins > 0
    mass = np.bincount(level[full], bins[full], levels)
    share = np.bincount(level[full], minlength=levels)
    out[full] = (mass / np.maximum(share, 1))[level[full]]
    return out


def search(bins, levels, start):
    bins = bins.astype(float)
    bins[0] = bins[1]
    found = []
    for i in range(start, len(bins) + 1):
        p = bins[:i].copy()
        p[-1] += bins[i:].sum()
        found.append((scipy.stats.entropy(p, coarse(bins[:i], levels)), i))
    least = min(d for d, _ in found)
    return max(i for d, i in found if d == least), least


def histogram(x, n=2048, first=None):
    """Over |x|; with `first` values the width is theirs and later ones append bins."""
    x = np.abs(x)
    width = x[:first].max() / n
    n = max(n, int(np.ceil(x.max() / width)))
    return np.bincount(np.minimum((x / width).astype(int), n - 1), minlength=n)


def main(out):
    r = np.random.default_rng(7)
    normal = r.standard_normal(20000)
    cases = [
        ("laplace", 128, 128, histogram(r.laplace(size=20000))),
        ("laplace, one side", 256, 128, histogram(np.maximum(r.laplace(size=20000), 0))),
        ("many zeros", 128, 128, histogram(np.where(r.random(30000) < 0.7, 0, normal[r.integers(0, 20000, 30000)]))),
        ("one outlier", 128, 128, histogram(np.append(normal, 12.0))),
        ("grown", 128, 128, histogram(np.append(normal, [7.0, 5.5]), first=5000)),
        ("few values", 128, 128, histogram(r.standard_normal(300))),
        ("four bits", 8, 128, histogram(normal)),
        ("uniform", 128, 128, histogram(r.random(20000))),
    ]
    rows = []
    for name, levels, start, bins in cases:
        keep, least = search(bins, levels, start)
        rows.append({"name": name, "levels": levels, "start": start, "bins": bins.tolist(), "keep": keep, "least": float(least)})
        print(f"{name}: {keep} of {len(bins)} bins, {least:.6f}")
    made = f"make_calibrator_golden.py, numpy {np.__version__}, scipy {scipy.__version__}"
    with open(os.path.join(out, "calibrators.json"), "w") as f:
        json.dump({"made_by": made, "cases": rows}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
