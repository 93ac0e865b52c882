#!/usr/bin/env python3
"""Training tokenizers: danlu against Hugging Face `tokenizers` and `sentencepiece`, on the same text, in turn.

    bench/tokenizer_train_vs_peers.py --danlu build/danlu --text FILE [FILE...] [--kinds bpe,unigram,sp-bpe,wordpiece] [--vocab 32000]
                                      [--runs 3] [--threads 2] [--mb N]

Each run of either side is a process of its own and its time is wall clock of the training alone for the peers (the text is in memory) and of the
whole process for danlu (it reads the files, too); CPU time of the process stands beside it, which a busy machine disturbs less.  The results are
compared first: bpe and wordpiece by their merges or vocabulary, unigram and sp-bpe by tokens per byte of the text and by the pieces
both have.  Needs: pip install tokenizers sentencepiece.
"""
import argparse, json, os, resource, statistics, subprocess, sys, tempfile, time


def peer(kind, text, out, vocab, threads):
    """Trains one peer in this process; prints seconds and CPU seconds."""
    if kind in ("unigram", "sp-bpe"):
        import sentencepiece as spm
        start = time.perf_counter()
        spm.SentencePieceTrainer.train(input=text, model_prefix=out, vocab_size=vocab, model_type="bpe" if kind == "sp-bpe" else "unigram",
                                       character_coverage=0.9995, byte_fallback=True, normalization_rule_name="nmt_nfkc", num_threads=threads,
                                       max_sentence_length=1 << 24, input_sentence_size=0, hard_vocab_limit=False, minloglevel=2)
    else:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
        if kind == "bpe":
            t = Tokenizer(models.BPE())
            t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            t.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(vocab_size=vocab - 1, min_frequency=2, show_progress=False,
                                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        else:
            t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
            trainer = trainers.WordPieceTrainer(vocab_size=vocab, min_frequency=2, show_progress=False, limit_alphabet=1 << 20,
                                                special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
        docs = [open(text, encoding="utf-8", newline="").read()]
        start = time.perf_counter()
        t.train_from_iterator(docs, trainer=trainer)
        t.save(out + ".json")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}))


def run(command, env=None):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr[-800:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu, done.stdout


def pieces_of(file):
    import sentencepiece as spm
    p = spm.SentencePieceProcessor(model_file=file)
    return {p.id_to_piece(i) for i in range(p.get_piece_size())}, p


def compare(kind, ours, theirs, text):
    if kind in ("unigram", "sp-bpe"):
        (a, p), (b, q) = pieces_of(ours + "/tokenizer.model"), pieces_of(theirs + ".model")
        lines = open(text, encoding="utf-8").read().split("\n")[:200000]
        n, size = [sum(len(x) for x in m.encode(lines)) for m in (p, q)], sum(len(x.encode()) for x in lines)
        print(f"  result: {len(a & b)} of {len(b)} pieces in both; tokens per byte {n[0] / size:.5f} against {n[1] / size:.5f} "
              f"({100 * (n[0] / n[1] - 1):+.2f} %)")
        return
    a, b = (json.load(open(f))["model"] for f in (ours + "/tokenizer.json", theirs + ".json"))
    if kind == "bpe":
        x, y = ([tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in t["merges"]] for t in (a, b))
        same = next((i for i, (m, n) in enumerate(zip(x, y)) if m != n), min(len(x), len(y)))
        print(f"  result: {len(x)} and {len(y)} merges, the first {same} equal")
    else:
        print(f"  result: {len(set(a['vocab']) & set(b['vocab']))} of {len(b['vocab'])} pieces in both "
              "(the peer's ids of equal counts differ from run to run)")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--danlu", default="build/danlu")
    ap.add_argument("--text", nargs="+", required=True)
    ap.add_argument("--kinds", default="bpe,unigram,sp-bpe,wordpiece")
    ap.add_argument("--vocab", type=int, default=32000)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--mb", type=int, default=0, help="only so many million bytes of the text")
    ap.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    o = ap.parse_args()
    if o.peer:
        peer(o.peer[0], o.text[0], o.peer[1], int(o.peer[2]), int(o.peer[3]))
        return
    with tempfile.TemporaryDirectory() as work:
        text = work + "/text.txt"
        data = b"".join(open(f, "rb").read() for f in o.text)
        data = data[:o.mb * 1000000] if o.mb else data
        open(text, "wb").write(data.decode("utf-8", "ignore").encode())
        print(f"{len(data) / 1e6:.1f} MB, vocabulary {o.vocab}, {o.threads} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        env = dict(os.environ, RAYON_NUM_THREADS=str(o.threads), TOKENIZERS_PARALLELISM="true")
        for kind in o.kinds.split(","):
            ours, theirs = [], []
            mine, other = f"{work}/ours-{kind}", f"{work}/theirs-{kind}"
            for _ in range(o.runs):
                command = [o.danlu, "tokenizer", "train", "--data", text, "--kind", kind, "--vocab", str(o.vocab), "--out", mine, "--quiet",
                           "--threads", str(o.threads)]
                if kind in ("unigram", "sp-bpe"):
                    command += ["--byte-fallback", "--format", "sentencepiece"]
                ours.append(run(command)[:2])
                out = run([sys.executable, __file__, "--text", text, "--peer", kind, other, str(o.vocab), str(o.threads)], env)[2]
                theirs.append((json.loads(out.splitlines()[-1])["seconds"], json.loads(out.splitlines()[-1])["cpu"]))
            m, t = ([statistics.median(x) for x in zip(*side)] for side in (ours, theirs))
            name = "sentencepiece" if kind in ("unigram", "sp-bpe") else "tokenizers"
            print(f"{kind}: danlu {m[0]:.1f} s (CPU {m[1]:.1f}), {name} {t[0]:.1f} s (CPU {t[1]:.1f}); {t[0] / m[0]:.2f} times as fast, "
                  f"{t[1] / m[1]:.2f} in CPU time; medians of {o.runs}")
            compare(kind, mine, other, text)


if __name__ == "__main__":
    main()
