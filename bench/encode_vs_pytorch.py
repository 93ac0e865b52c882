#!/usr/bin/env python3
"""Sentences per second through an encoder of BERT-base's shape: danlu, PyTorch and ONNX Runtime, side by side on the CPU.

    python3 bench/encode_vs_pytorch.py --danlu build/danlu [--data FOLDER] [--dtype bf16|f32] [--shape base|small|tiny]

needs torch, transformers and, for that peer, onnx and onnxruntime.  The sentences are real and of mixed length: both
columns of FOLDER/pairs/{sts,rte,sick}_train.tsv, mixed (FOLDER defaults to $DANLU_DATA).  The weights are random; all sides get
the same ids.  Token ids are made beforehand on both sides: only the model is timed, from ids to mean-pooled vectors.

The peers pad: their batches are sorted by length first, so that padding is as small as it can be, and the batch size is probed.
PyTorch runs in float32 and in bfloat16 (all weights and activations), with SDPA and with written-out attention, and the fastest
counts, whatever danlu's dtype is; ONNX Runtime runs its own optimised BERT graph in float32.  Outputs are compared first.  Then
peer, danlu, peer, danlu, ...; the answer is the median over rounds of danlu / peer.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

from train_vs_pytorch import cpu_name

SHAPES = {"base": (768, 12, 12, 3072), "small": (384, 6, 12, 1536), "tiny": (128, 2, 2, 512)}


def sentences(folder, n):
    out = []
    for name in ("sts_train", "rte_train", "sick_train"):
        with open(os.path.join(folder, "pairs", name + ".tsv"), encoding="utf-8") as f:
            head, *rows = [line.rstrip("\n").split("\t") for line in f]
        for column in (i for i, h in enumerate(head) if h in ("s1", "s2", "sentence1", "sentence2")):
            out += [r[column].strip() for r in rows if column < len(r) and r[column].strip()]
    random.Random(1).shuffle(out)
    return out[:n]


def make_model(folder, vocab, shape):
    import torch
    from transformers import BertConfig, BertModel
    hidden, layers, heads, ffn = SHAPES[shape]
    torch.manual_seed(1)
    lines = sum(1 for _ in open(vocab, encoding="utf-8"))
    model = BertModel(BertConfig(vocab_size=lines, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                                 intermediate_size=ffn)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():           # biases too, and weights large enough that words matter
            if p.dim() == 1 and not name.endswith("LayerNorm.weight"):
                p.normal_(0, 0.02)
    model.save_pretrained(folder)
    with open(vocab, "rb") as src, open(os.path.join(folder, "vocab.txt"), "wb") as dst:
        dst.write(src.read())
    return model


def tokenize(folder, texts):
    from tokenizers import BertWordPieceTokenizer
    t = BertWordPieceTokenizer(os.path.join(folder, "vocab.txt"), lowercase=True)
    t.enable_truncation(512)
    return [e.ids for e in t.encode_batch(texts)]


def batches(ids, size):
    """Sorted by length, so that a batch pads little: (indices, ids [B,T], mask [B,T])."""
    import torch
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    for at in range(0, len(order), size):
        part = order[at:at + size]
        width = max(len(ids[i]) for i in part)
        x = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), width, dtype=torch.long)
        for r, i in enumerate(part):
            x[r, :len(ids[i])] = torch.tensor(ids[i])
            mask[r, :len(ids[i])] = 1
        yield part, x, mask


class Peer:
    """encode(batches) -> vectors; name says which variant."""
    def __init__(self, name, size, step):
        self.name, self.size, self.step = name, size, step

    def run(self, ids):
        import torch
        made = list(batches(ids, self.size))               # padding is not timed
        out = [None] * len(ids)
        start = time.perf_counter()
        with torch.inference_mode():
            for part, x, mask in made:
                h = self.step(x, mask).float()
                m = mask[:, :, None].float()
                v = (h * m).sum(1) / m.sum(1)
                for r, i in enumerate(part):
                    out[i] = v[r]
        return time.perf_counter() - start, torch.stack(out)


def torch_peers(folder, sizes):
    import torch
    from transformers import BertModel
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        for attention in ("sdpa", "eager"):
            model = BertModel.from_pretrained(folder, attn_implementation=attention, dtype=dtype).eval()
            for size in sizes:
                yield Peer(f"PyTorch {name} {attention} batch {size}", size,
                           lambda x, mask, m=model: m(input_ids=x, attention_mask=mask).last_hidden_state)


def onnx_peers(folder, sizes, threads, heads, hidden):
    import onnxruntime as ort
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import BertModel

    class Body(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.m = BertModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            return self.m(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    plain, fast = os.path.join(folder, "model.onnx"), os.path.join(folder, "fast.onnx")
    x = torch.randint(5, 100, (2, 7))
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["hidden"], "opset_version": 17}
    axes = {k: {0: "batch", 1: "time"} for k in ("input_ids", "attention_mask")}
    # the older exporter: ONNX Runtime's optimiser finds embedding, attention, skip + norm and bias + GELU in its graphs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Body().eval(), (x, torch.ones_like(x)), plain, dynamic_axes=axes, dynamo=False, **names)
    best = optimizer.optimize_model(plain, model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=1)
    best.save_model_to_file(fast)
    print("  ONNX Runtime fused: " + ", ".join(f"{k} {v}" for k, v in best.get_fused_operator_statistics().items() if v))
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(fast, o, providers=["CPUExecutionProvider"])
    types = {i.name: i.type for i in session.get_inputs()}

    def step(x, mask):
        feeds = {k: (v.int() if types[k] == "tensor(int32)" else v).numpy() for k, v in (("input_ids", x), ("attention_mask", mask)) if k in types}
        return torch.from_numpy(session.run(None, feeds)[0])
    for size in sizes:
        yield Peer(f"ONNX Runtime f32 batch {size}", size, step)


def run_danlu(a, folder, texts):
    import torch
    path = os.path.join(folder, "sentences.txt")
    out = os.path.join(folder, "vectors.f32")
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(t + "\n" for t in texts)
    command = [a.danlu, "embed", folder, path, "--out", out, "--pool", "mean", "--normalize=no", "--dtype", a.dtype, "--threads", str(a.threads),
               "--json", "--quiet", *a.danlu_args.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    made = json.loads(done.stdout)
    v = torch.frombuffer(bytearray(open(out, "rb").read()), dtype=torch.float32).reshape(len(texts), made["width"])
    return made["seconds"], v, made["tokens"]


def best_of(peers, ids, repeat):
    """The fastest on a sample, after one run of the same work to warm up."""
    found = []
    for p in peers:
        times = [p.run(ids)[0] for _ in range(repeat + 1)][1:]
        found.append((min(times), p))
        print(f"  probe  {p.name:34} {len(ids) / min(times):9.1f} sentences/s", flush=True)
    return min(found, key=lambda t: t[0])[1] if found else None


def agree(name, a, b):
    import torch
    c = torch.nn.functional.cosine_similarity(a.double(), b.double()).min().item()
    print(f"  vectors of danlu and {name}: smallest cosine {c:.6f}")
    if not c > 0.999:
        sys.exit("the outputs do not agree; a comparison of speed would mean nothing")


def compare(a, folder):
    import torch
    hidden, layers, heads, ffn = SHAPES[a.shape]
    texts = sentences(a.data, a.sentences)
    make_model(folder, os.path.join(a.data, "tokenizer", "bert", "bert-base-uncased.vocab.txt"), a.shape)
    ids = tokenize(folder, texts)
    lengths = sorted(len(x) for x in ids)
    probe = ids[:a.probe]
    print(f"\n{a.shape}: {layers} layers, hidden {hidden}, {heads} heads, ffn {ffn}; {len(ids)} sentences, {sum(lengths)} tokens, lengths "
          f"{lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}; {a.threads} threads, danlu {a.dtype}")
    peers = [best_of(torch_peers(folder, a.batch), probe, 1)]
    if not a.no_onnx:
        peers.append(best_of(onnx_peers(folder, a.batch, a.threads, heads, hidden), probe, 1))
    _, ours, tokens = run_danlu(a, folder, texts)
    if tokens != sum(lengths):
        sys.exit(f"danlu made {tokens} tokens, the peer's tokenizer {sum(lengths)}")
    for p in peers:
        agree(p.name, ours, p.run(ids)[1])
    for p in peers:
        rounds(a, folder, texts, ids, p)


def rounds(a, folder, texts, ids, peer):
    ratios, theirs, ours = [], [], []
    for i in range(a.rounds):
        theirs.append(len(ids) / peer.run(ids)[0])
        time.sleep(0.5)                                    # the peer's threads go to sleep
        ours.append(len(ids) / run_danlu(a, folder, texts)[0])
        ratios.append(ours[-1] / theirs[-1])
        print(f"  round {i + 1}  {peer.name} {theirs[-1]:9.1f} sentences/s   danlu {ours[-1]:9.1f}   ratio {ratios[-1]:.2f}", flush=True)
    print(f"  median  {peer.name} {statistics.median(theirs):.1f}, danlu {statistics.median(ours):.1f} sentences/s; danlu / peer "
          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--danlu", required=True, help="the program to measure")
    p.add_argument("--data", default=os.environ.get("DANLU_DATA", "../shared/data"), help="folder with pairs/ and tokenizer/bert/")
    p.add_argument("--shape", choices=SHAPES, default="base")
    p.add_argument("--dtype", choices=("bf16", "f32"), default="bf16", help="danlu's")
    p.add_argument("--sentences", type=int, default=1024)
    p.add_argument("--probe", type=int, default=192, help="sentences to find the best variant with")
    p.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32, 64], help="batch sizes of the peers to try")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    p.add_argument("--danlu-args", default="", help="more options for danlu, in one string")
    return p.parse_args()


def main():
    a = options()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(a.threads)
    import torch
    import transformers
    torch.set_num_threads(a.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, Python {sys.version.split()[0]}; {cpu_name()}; load "
          f"{os.getloadavg()[0]:.1f}")
    if os.getloadavg()[0] > 0.5:
        print("note: the machine is busy, which slows both sides and not equally; repeat this on an idle one")
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as folder:
        compare(a, folder)


if __name__ == "__main__":
    main()
