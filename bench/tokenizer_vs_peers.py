#!/usr/bin/env python3
"""Encoding speed of danlu and of tokenizers, tiktoken and sentencepiece: the same text, one thread, ids compared first.

    make bench-tools
    DATA=../shared/data PYTHON=... python3 bench/tokenizer_vs_peers.py [--runs 5] [--out FILE.json]

PYTHON is the one that has the peers (each is left out when it is not installed).  Protocol: each text is cut into documents at
newlines before a letter and after none (so that every library is given the same pieces); a library whose ids differ from danlu's in
any document is reported and not timed.  Then the libraries take turns, danlu in between with and without its cache, for --runs
rounds; CPU seconds of the process (user + system); the table has medians of MB/s (10^6 bytes of UTF-8) and the median over the rounds of
danlu / peer.  cold: danlu's cache is empty at the beginning of the text.  Offsets are off everywhere.  A line says how busy the
machine was.
"""
import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCH = pathlib.Path(os.environ.get("BUILD", ROOT / "build")) / "bench" / "tokenize_bench"
DATA = pathlib.Path(os.environ.get("DANLU_DATA", ROOT.parent / "shared/data"))


def corpus(limit):
    code = b"".join(p.read_bytes() for p in sorted((ROOT / "src").rglob("*.[ch]")))
    texts = {"english": (DATA / "text/en/enwiki.txt").read_bytes(), "chinese": (DATA / "text/zh/zhwiki.txt").read_bytes(), "code": code * 4}
    return {k: v[:limit].decode("utf-8", "ignore") for k, v in texts.items()}


def documents(text, size=100_000):
    out, at = [], 0
    while at < len(text):
        end = min(len(text), at + size)
        while end < len(text) and not (text[end - 1] == "\n" and not text[end - 2].isspace() and text[end].isalpha()):
            end += 1
        out.append(text[at:end])
        at = end
    return out


def hf(path):
    from tokenizers import Tokenizer

    t = Tokenizer.from_file(str(path))
    t.encode_special_tokens = True
    return lambda docs: [i for e in t.encode_batch_fast(docs, add_special_tokens=False) for i in e.ids]      # no offsets


def ranks(lines, style):
    import base64

    import tiktoken
    import tiktoken_ext.openai_public as public

    source = open(public.__file__, encoding="utf-8").read()
    pattern = source.split('"name": "cl100k_base"')[1].split('r"""')[1].split('"""')[0]
    if style == "qwen2":
        pattern = pattern.replace(r"\p{N}{1,3}+", r"\p{N}")
    t = tiktoken.Encoding(style, pat_str=pattern, special_tokens={},
                          mergeable_ranks={base64.b64decode(a): int(b) for a, b in (x.split() for x in lines if x.strip())})
    return lambda docs: [i for d in docs for i in t.encode_ordinary(d)]


def sp(path):
    import sentencepiece

    t = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda docs: [i for d in docs for i in t.encode(d)]


def vocabularies(work):
    tok = DATA / "tokenizer"
    cl100k = work / "cl100k_base.tiktoken"
    cl100k.write_bytes(gzip.decompress((tok / "tiktoken/cl100k_base.tiktoken.gz").read_bytes()))
    lines = cl100k.read_text().splitlines()
    bert = work / "bert.json"
    try:
        from tokenizers import BertWordPieceTokenizer

        BertWordPieceTokenizer(str(tok / "bert/bert-base-uncased.vocab.txt"), lowercase=True).save(str(bert))
    except ImportError:
        bert = tok / "bert/bert-base-uncased.vocab.txt"
    return {
        "gpt2": (tok / "gpt2/tokenizer.json", {"tokenizers": lambda: hf(tok / "gpt2/tokenizer.json")}),
        "cl100k": (cl100k, {"tiktoken": lambda: ranks(lines, "cl100k")}),
        "bert-base-uncased": (bert, {"tokenizers": lambda: hf(bert)}),
        "llama2": (tok / "llama2/tokenizer.model", {"sentencepiece": lambda: sp(tok / "llama2/tokenizer.model")}),
    }


def danlu(vocab, files):
    """CPU seconds of one pass over all documents, by kind of cache."""
    out = subprocess.run([BENCH, vocab, files, "1"], check=True, capture_output=True, text=True).stdout
    return {j["cache"]: j["seconds"] for j in map(json.loads, out.splitlines()) if "cache" in j}


def danlu_ids(vocab, docs, work):
    import array

    out = []
    for d in docs:
        (work / "doc").write_text(d, encoding="utf-8", newline="")
        a = array.array("i")
        a.frombytes(subprocess.run([BENCH, vocab, work / "doc", "--ids"], check=True, capture_output=True).stdout)
        out += a
    return out


def one(name, vocab, peers, text, runs, work):
    docs = documents(text)
    size = len(text.encode())
    (work / "text").write_text(text, encoding="utf-8", newline="")
    some = docs[:: max(1, len(docs) // 20)]            # ids of about 20 documents; all of them are timed
    want = danlu_ids(vocab, some, work)
    rows, sides = [], {}
    for peer, make in peers.items():
        try:
            encode = make()
        except ImportError:
            print(f"# {peer} is not installed: left out")
            continue
        if encode(some) != want:
            print(f"# {name}: {peer}'s ids differ: not timed")
            continue
        sides[peer] = encode
    times = {k: [] for k in ["none", "cold", "warm", *sides]}
    for _ in range(runs):
        for k, v in danlu(vocab, work / "text").items():
            times[k].append(v)
        for peer, encode in sides.items():
            at = time.process_time()
            encode(docs)
            times[peer].append(time.process_time() - at)
    for k, v in times.items():
        row = {"vocabulary": name, "who": k if k in sides else f"danlu, cache {k}", "mb_per_s": size / statistics.median(v) / 1e6}
        if k not in sides:
            row["times"] = {p: statistics.median(b / a for a, b in zip(v, times[p])) for p in sides}
        rows.append(row)
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--runs", type=int, default=5)
    ap.add_argument("--bytes", type=int, default=10_000_000, help="of each text, at most")
    ap.add_argument("--out")
    a = ap.parse_args()
    rows = []
    print(f"# load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" + ("; busy machine" if os.getloadavg()[0] > 1 else ""))
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        for text_name, text in corpus(a.bytes).items():
            for name, (vocab, peers) in vocabularies(work).items():
                for r in one(name, vocab, peers, text, a.runs, work):
                    rows.append({"text": text_name, **r})
                    ratios = "  ".join(f"{v:.1f}x {k}" for k, v in r.get("times", {}).items())
                    print(f"{text_name:8} {name:18} {r['who']:18} {r['mb_per_s']:8.1f} MB/s  {ratios}", flush=True)
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
