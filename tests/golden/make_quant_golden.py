#!/usr/bin/env python3
"""Writes what other programs make of a few rows in danlu's storage formats.

    python3 tests/golden/make_quant_golden.py LIBGGML [OUT]        OUT defaults to quant/ beside this script

LIBGGML: ggml's own library, libggml-base.so of the PyPI package llama-cpp-python (site-packages/llama_cpp/lib). Needs numpy, safetensors and
torch; versions are stored in the file's metadata and in README.md.
blocks.safetensors: "x" [9,512] and "importance" [512]; for each format that ggml quantises, NAME: the bytes that ggml_quantize_chunk makes
of x, and NAME.weighted: with the importance (as I8, which danlu reads). "f8.codes": the values of all 256 codes of
torch.float8_e4m3fn, "f8.x" and "f8.of_x": floats and what torch makes of them after clamping to +-448.
"""
import ctypes
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
from importlib.metadata import version
from safetensors.numpy import save_file

# name: ggml's number, elements and bytes of a block, whether an importance changes anything
FORMATS = {"q4_0": (2, 32, 18, 1), "q4_1": (3, 32, 20, 1), "q5_0": (6, 32, 22, 1), "q5_1": (7, 32, 24, 1), "q8_0": (8, 32, 34, 0),
           "q2_k": (10, 256, 84, 1), "q3_k": (11, 256, 110, 1), "q4_k": (12, 256, 144, 1), "q5_k": (13, 256, 176, 1), "q6_k": (14, 256, 210, 1),
           "iq4_nl": (20, 32, 18, 1)}
N = 512


def source(rng):
    """Rows that quantisers get wrong: ties, zeros, one sign, outliers, groups that vanish, tiny and large values."""
    x = rng.standard_normal((9, N)).astype(np.float32)
    x[1, :256] = 0
    x[1, 256:] = np.float32(0.3)
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4] *= np.float32(1e-6)
    x[5] *= np.float32(300)
    x[6] = np.round(x[6] * 4) / 4
    x[7, ::100] *= np.float32(1000)
    x[8] = rng.standard_t(2, N).astype(np.float32)
    x[8, 32:64] = 0
    return x


def ggml(path):
    lib = ctypes.CDLL(path)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]
    lib.ggml_version.restype = ctypes.c_char_p
    return lib


def quantize(lib, x, number, block, size, importance):
    out = np.zeros((x.shape[0], N // block * size), np.uint8)
    lib.ggml_quantize_chunk(number, x.ctypes.data, out.ctypes.data, 0, x.shape[0], N, None if importance is None else importance.ctypes.data)
    return out.view(np.int8)


def floats(rng):
    """Every exponent that matters, ties and their neighbours, what saturates."""
    codes = torch.arange(0, 0x7f, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    middle = (codes[1:] + codes[:-1]) / 2
    edges = np.concatenate([codes, middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(1e9))])
    more = np.array([448, 463.9, 464, 479.9, 480, 1e6, 3e38, 1e-3, 1e-10, 1e-45], np.float32)
    x = np.concatenate([edges, -edges, more, -more, rng.standard_normal(200), rng.standard_normal(200) * 100])
    return x.astype(np.float32)


def main():
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "quant")
    os.makedirs(out, exist_ok=True)
    lib = ggml(sys.argv[1])
    rng = np.random.default_rng(5)
    x, importance = source(rng), (rng.standard_normal(N) ** 2).astype(np.float32)
    importance[40:60] = 0
    t = {"x": x, "importance": importance}
    for name, (number, block, size, weighted) in FORMATS.items():
        t[name] = quantize(lib, x, number, block, size, None)
        if weighted:
            t[name + ".weighted"] = quantize(lib, x, number, block, size, importance)
    t["f8.codes"] = torch.arange(0, 256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    t["f8.x"] = floats(rng)
    t["f8.of_x"] = torch.from_numpy(t["f8.x"]).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.int8).numpy()
    made_by = f"make_quant_golden.py; ggml {lib.ggml_version().decode()}; numpy {np.__version__}; torch {torch.__version__.split('+')[0]}; safetensors {version('safetensors')}"
    save_file(t, os.path.join(out, "blocks.safetensors"), {"made_by": made_by})
    print(made_by)


main()
