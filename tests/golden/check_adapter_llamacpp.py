#!/usr/bin/env python3
"""What llama.cpp computes with an adapter that danlu wrote as GGUF, against danlu's logits' greedy continuation and log-probabilities.

    python3 tests/golden/check_adapter_llamacpp.py DANLU MODEL.gguf ADAPTER_FOLDER ADAPTER.gguf

needs llama-cpp-python (0.3.36).  ADAPTER.gguf comes from: danlu convert ADAPTER_FOLDER ADAPTER.gguf
"""
import json
import subprocess
import sys

import llama_cpp
import numpy as np

danlu, model, folder, adapter = sys.argv[1:5]
PROMPT = "Once upon a time there was a"


def run(lora):
    m = llama_cpp.Llama(model, lora_path=lora, n_ctx=128, logits_all=True, verbose=False, type_k=0, type_v=0)
    ids = m.tokenize(PROMPT.encode())
    m.eval(ids)
    return ids, np.array(m.scores[: len(ids)], dtype=np.float64)


def greedy(args):
    out = subprocess.run([danlu, "generate", *args, "--prompt", PROMPT, "--temperature", "0", "--max-tokens", "12", "--json", "--quiet"], capture_output=True, check=True)
    return json.loads(out.stdout)


ids, plain = run(None)
_, with_it = run(adapter)
print(f"llama.cpp: the adapter changes logits by at most {np.abs(with_it - plain).max():.3f}")
bad = np.abs(with_it - plain).max() < 1e-3     # an adapter that changes nothing shows nothing
for what, lora, args in (("base", None, [model]), ("adapter folder", adapter, [folder]), ("--adapter X.gguf", adapter, [model, "--adapter", adapter])):
    m = llama_cpp.Llama(model, lora_path=lora, n_ctx=128, verbose=False)
    text = m(PROMPT, max_tokens=12, temperature=0)["choices"][0]["text"]
    mine = greedy(args)["text"]
    bad |= text.lstrip() != mine
    print(f"{what}: {'the same text' if text.lstrip() == mine else 'DIFFERS'}: {mine!r} {text!r}")
sys.exit(int(bad))
