#!/usr/bin/env python3
"""Prefill, decode and start of danlu and llama.cpp, side by side on the CPU, with the same weights.

    python3 bench/make_llama.py MODELS/15M --shape 15M               (also 110M, 1.1B; 0.5B is about 1 GB, for --start)
    python3 bench/infer_vs_llamacpp.py --danlu build/danlu MODELS/15M MODELS/110M [--threads 1 2] [--rounds 5] [--start]
    python3 bench/infer_vs_llamacpp.py --danlu build/danlu MODELS/110M --types q8_0 q4_0 q4_k_m [--own]
    python3 bench/infer_vs_llamacpp.py --danlu build/danlu MODELS/110M --streams 4 16 [--depths 16 512] [--kv-type q8]

A model folder holds danlu's files and model-bf16.gguf.  With --types llama.cpp quantises that file (MODEL/model-TYPE.gguf, kept) and
both sides read the result; for each type danlu's own f32 and bf16 speeds are there with --own.  The peer is llama-cpp-python's low-level interface (build it from source, so
that it uses this CPU's instructions) or, with --llama-bench PATH, that program; both with llama.cpp's defaults: mmap, flash attention
where it helps, f16 cache, batches of 2048 in pieces of 512.  danlu is `danlu bench infer`.  Neither side samples.

First the logits of a 32-token prompt are compared.  Then every round measures the peer and danlu in turn: prompts of 128 and 512
tokens, 64 tokens after a prompt of 16 and after 1,536.  The answer is the median over rounds of danlu / peer.
--streams B: instead, B sequences write 64 tokens each after prompts of their own; tokens/s of all together.  llama.cpp gets one batch
of B tokens a step, with a sequence id each.
--start: seconds from nothing to the first token of a short prompt, files in the page cache.  danlu from starting the program to its
end; the peer from after its imports to its first token, which leaves out starting the interpreter and loading libraries.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

PREFILL, DECODE, DEPTHS, LOGITS_OF = (128, 512), 64, (16, 1536), 32
PROMPT = "abcdefgh ijkl mnop " * 4


def ids(n, vocab):
    return [(i * 7919 + 13) % vocab for i in range(n)]


def hush(lib):
    """No log of the peer's; the callback has to live as long as the library."""
    import ctypes
    lib.silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(lib.silent, ctypes.c_void_p(0))


class Peer:
    """One GGUF file in llama.cpp; the thread count is that of each call."""

    def __init__(self, path, context=2048, streams=1):
        import llama_cpp
        self.lib, self.floats = llama_cpp, path.endswith(("bf16.gguf", "f16.gguf", "f32.gguf"))
        hush(llama_cpp)
        llama_cpp.llama_backend_init()
        p = llama_cpp.llama_model_default_params()
        p.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), p)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        c = llama_cpp.llama_context_default_params()
        c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max = context * streams, 2048, 512, streams
        c.n_threads = c.n_threads_batch = int(os.environ.get("PEER_THREADS", "1"))
        self.ctx = llama_cpp.llama_init_from_model(self.model, c)
        self.memory = llama_cpp.llama_get_memory(self.ctx)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.tokens = ids(context, self.vocab)

    def close(self):
        self.lib.llama_free(self.ctx)
        self.lib.llama_model_free(self.model)

    def threads(self, n):
        self.lib.llama_set_n_threads(self.ctx, n, n)

    def reset(self):
        self.lib.llama_memory_clear(self.memory, False)

    def forget(self, length):
        self.lib.llama_memory_seq_rm(self.memory, 0, length, -1)

    def feed(self, tokens):
        array = (self.lib.llama_token * len(tokens))(*tokens)   # the batch points into it
        if self.lib.llama_decode(self.ctx, self.lib.llama_batch_get_one(array, len(tokens))):
            sys.exit("llama_decode failed")
        self.lib.llama_synchronize(self.ctx)
        return self.lib.llama_get_logits_ith(self.ctx, -1)

    def logits(self, n):
        self.reset()
        return np.ctypeslib.as_array(self.feed(self.tokens[:n]), (self.vocab,)).copy()

    def prefill(self, n):
        self.reset()
        start = time.perf_counter()
        self.feed(self.tokens[:n])
        return n / (time.perf_counter() - start)

    def decode(self, depth):
        self.reset()
        self.feed(self.tokens[:depth])
        self.feed(self.tokens[depth:depth + 1])
        self.forget(depth)
        start = time.perf_counter()
        for i in range(DECODE):
            self.feed(self.tokens[depth + i:depth + i + 1])
        return DECODE / (time.perf_counter() - start)

    def feed_streams(self, tokens, pos, streams):
        """tokens to the end, at position pos, of every stream in `streams`; the logits of each one's last."""
        n = len(tokens)
        batch = self.lib.llama_batch_init(n * len(streams), 0, 1)
        for i, s in enumerate(streams):
            for k, token in enumerate(tokens):
                at = i * n + k
                batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = token, pos + k, 1, s, k == n - 1
        batch.n_tokens = n * len(streams)
        failed = self.lib.llama_decode(self.ctx, batch)
        self.lib.llama_synchronize(self.ctx)
        self.lib.llama_batch_free(batch)
        if failed:
            sys.exit("llama_decode failed")

    def decode_streams(self, depth, streams):
        """Tokens/s of all streams together."""
        self.reset()
        for s in range(streams):
            self.feed_streams(self.tokens[:depth], 0, [s])
        self.feed_streams(self.tokens[depth:depth + 1], depth, range(streams))
        start = time.perf_counter()
        for i in range(1, DECODE + 1):
            self.feed_streams(self.tokens[depth + i:depth + i + 1], depth + i, range(streams))
        return streams * DECODE / (time.perf_counter() - start)

    def measure(self, n_threads):
        self.threads(n_threads)
        self.feed(self.tokens[:1])
        return {**{f"pp{n}": self.prefill(n) for n in PREFILL}, **{f"tg{DECODE}@{d}": self.decode(d) for d in DEPTHS}}


def llama_bench(program, path, n_threads):
    got = {}
    for depth in (0, *DEPTHS):
        tests = ["-p", ",".join(map(str, PREFILL)), "-n", "0"] if depth == 0 else ["-p", "0", "-n", str(DECODE)]
        done = subprocess.run([program, "-m", path, "-t", str(n_threads), "-r", "1", "-d", str(depth), "-o", "json", *tests],
                              capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{program} failed:\n{done.stderr[-2000:]}")
        for t in json.loads(done.stdout):
            got[f"pp{t['n_prompt']}" if t["n_prompt"] else f"tg{DECODE}@{depth}"] = t["avg_ts"]
    return got


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def danlu(a, model, n_threads, *more):
    out = json.loads(run([a.danlu, "bench", "infer", model, "--threads", str(n_threads), "--repeat", "1", "--decode", str(DECODE),
                          "--json", "--quiet", *more]))
    return {(f"pp{r['tokens']}" if r["what"] == "prefill" else f"tg{DECODE}@{r['depth']}"): r["tokens_per_second"] for r in out["results"]}


FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_m": 12, "q4_k_s": 14, "q4_k_m": 15, "q5_k_m": 17,
          "q6_k": 18, "iq4_nl": 25}                             # enum llama_ftype


def quantised(folder, kind):
    """The file of that type, made by llama.cpp from the bf16 one."""
    import ctypes
    import llama_cpp
    path = os.path.join(folder, f"model-{kind}.gguf")
    if kind not in FTYPES and kind != "bf16":
        sys.exit(f"unknown type '{kind}'; one of: bf16 {' '.join(FTYPES)}")
    if os.path.exists(path):
        return path
    hush(llama_cpp)
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.nthread = FTYPES[kind], os.cpu_count()
    if llama_cpp.llama_model_quantize(os.path.join(folder, "model-bf16.gguf").encode(), (path + ".part").encode(), ctypes.byref(p)):
        sys.exit(f"llama.cpp cannot quantise {folder} to {kind}")
    os.rename(path + ".part", path)
    return path


def wide(a, folder):
    """The same weights in f32, for danlu."""
    path = os.path.join(folder, "f32")
    if not os.path.exists(os.path.join(path, "model.safetensors")):
        run([a.danlu, "convert", folder, path, "--dtype", "f32", "--quiet"])
    return path


def compare_logits(a, folder, peer):
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "logits")
        danlu(a, folder, 1, "--prefill", "0", "--depth", "0", "--logits", path)
        x = np.fromfile(path, dtype="<f4").astype(np.float64)
    y = peer.logits(LOGITS_OF).astype(np.float64)
    cosine = x @ y / np.sqrt((x @ x) * (y @ y))
    print(f"  logits of {LOGITS_OF} tokens: cosine {cosine:.6f}, largest difference {np.abs(x - y).max():.2g} of {np.abs(y).max():.3g}, "
          f"same top token: {'yes' if x.argmax() == y.argmax() else 'no'}")
    if cosine < (0.999 if peer.floats else 0.995):              # with quantised weights both sides round activations, each in its way
        sys.exit("the two sides do not compute the same: nothing to compare")


def compare_speed(a, model, gguf, peer, own=()):
    """own: name -> another form of the model, by danlu alone, measured in the same rounds."""
    for n in a.threads:
        rounds, others = [], {name: [] for name in own}
        danlu(a, model, n)                                      # both sides once: page cache, clocks
        for _ in range(a.rounds):
            theirs = llama_bench(a.llama_bench, gguf, n) if a.llama_bench else peer.measure(n)
            rounds.append((theirs, danlu(a, model, n)))
            for name in own:
                others[name].append(danlu(a, own[name], n))
        for key in rounds[0][0]:
            ratios = [ours[key] / theirs[key] for theirs, ours in rounds]
            print(f"  {n} threads  {key:9}  llama.cpp {statistics.median(t[key] for t, _ in rounds):9.1f}   "
                  f"danlu {statistics.median(o[key] for _, o in rounds):9.1f} tokens/s   "
                  f"ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                  + "".join(f"   own {name} {statistics.median(o[key] / x[key] for (_, o), x in zip(rounds, others[name])):.2f}"
                            for name in own), flush=True)


def compare_streams(a, model, gguf):
    for streams in a.streams:
        for depth in a.depths:
            peer = Peer(gguf, -(-(depth + DECODE + 1) // 256) * 256, streams)
            for n in a.threads:
                peer.threads(n)
                rounds = []
                for i in range(a.rounds + 1):                   # the first warms up
                    theirs = peer.decode_streams(depth, streams)
                    out = json.loads(run([a.danlu, "bench", "infer", model, "--threads", str(n), "--repeat", "1", "--decode", str(DECODE), "--prefill",
                                          "0", "--depth", str(depth), "--streams", str(streams), "--kv-type", a.kv_type, "--json", "--quiet"]))
                    rounds.append((theirs, out["results"][0]["tokens_per_second"]))
                ratios = [ours / theirs for theirs, ours in rounds[1:]]
                print(f"  {n} threads  {streams} x tg{DECODE}@{depth:<5} llama.cpp {statistics.median(t for t, _ in rounds[1:]):9.1f}   "
                      f"danlu {statistics.median(o for _, o in rounds[1:]):9.1f} tokens/s   "
                      f"ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
            peer.close()


def start_peer(path):
    """In a process of its own: seconds to the first token."""
    import llama_cpp                                            # not counted
    start = time.perf_counter()
    peer = Peer(path)
    text = PROMPT.encode()
    tokens = (llama_cpp.llama_token * 256)()
    n = llama_cpp.llama_tokenize(llama_cpp.llama_model_get_vocab(peer.model), text, len(text), tokens, 256, True, False)
    np.ctypeslib.as_array(peer.feed(list(tokens[:n])), (peer.vocab,)).argmax()
    print(time.perf_counter() - start)


def compare_start(a, model, gguf):
    for n in a.threads:
        rows = []
        for i in range(a.rounds + 1):
            done = subprocess.run([sys.executable, __file__, "--start-peer", gguf], capture_output=True, text=True,
                                  env=dict(os.environ, PEER_THREADS=str(n)))
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            begin = time.perf_counter()
            run([a.danlu, "generate", model, "--prompt", PROMPT, "--max-tokens", "1", "--temperature", "0", "--ignore-eos",
                 "--threads", str(n)])
            rows.append((float(done.stdout.split()[-1]), time.perf_counter() - begin))
        ratios = [ours / theirs for theirs, ours in rows[1:]]
        print(f"  {n} threads  start      llama.cpp {1e3 * statistics.median(t for t, _ in rows[1:]):7.0f} ms  "
              f"danlu {1e3 * statistics.median(o for _, o in rows[1:]):7.0f} ms to the first token   "
              f"ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", metavar="MODEL", help="folder that make_llama.py wrote")
    p.add_argument("--danlu", help="the program to measure")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--llama-bench", metavar="PATH", help="measure this program instead of llama-cpp-python")
    p.add_argument("--types", nargs="+", default=["bf16"], metavar="TYPE", help="storage types: bf16, or " + ", ".join(FTYPES))
    p.add_argument("--own", action="store_true", help="also danlu's speed over its own in f32 and bf16")
    p.add_argument("--streams", type=int, nargs="+", metavar="B", help="measure so many sequences at the same time, nothing else")
    p.add_argument("--depths", type=int, nargs="+", default=[512], metavar="N", help="with --streams: tokens of each prompt")
    p.add_argument("--kv-type", default="auto", choices=["auto", "f32", "bf16", "q8"], help="with --streams: danlu's cache")
    p.add_argument("--start", action="store_true", help="measure the time to the first token, nothing else")
    p.add_argument("--start-peer", metavar="GGUF", help=argparse.SUPPRESS)
    a = p.parse_args()
    if not a.start_peer and not (a.models and a.danlu and os.access(a.danlu, os.X_OK)):
        p.error("give a model folder, and --danlu must name the danlu program")
    return a


def main():
    a = options()
    if a.start_peer:
        return start_peer(a.start_peer)
    import llama_cpp
    print(f"llama-cpp-python {llama_cpp.__version__}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    print("llama.cpp:", " ".join(llama_cpp.llama_print_system_info().decode().split()))
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy, which slows both sides and not equally; repeat this on an idle one")
    for folder in a.models:
        own = {"f32": wide(a, folder), "bf16": folder} if a.own else {}
        for kind in a.types:
            gguf = quantised(folder, kind)
            model = folder if kind == "bf16" else gguf
            print(f"\n{folder} {kind}", flush=True)
            if a.start:
                compare_start(a, model, gguf)
                continue
            if a.streams:
                compare_streams(a, model, gguf)
                continue
            peer = Peer(gguf)
            compare_logits(a, model, peer)
            compare_speed(a, model, gguf, peer, own)
            peer.close()
    return None


if __name__ == "__main__":
    main()
