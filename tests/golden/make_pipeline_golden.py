#!/usr/bin/env python3
"""Small random tokenizers for every part of the schema of Hugging Face `tokenizers`, with ids, offsets and decodes.

    python3 make_pipeline_golden.py [OUT [SEED [CASES]]]        needs tokenizers 0.23.3; default: pipeline/ here, seed 1, 4 cases each

OUT/NAME.json is a tokenizer; OUT/cases.jsonl has a line for each tokenizer and text: {"tokenizer", "text", "ids", "offsets" (in bytes), "decode",
"plain" (without special tokens), "pair", "types" (the text twice, as a pair, with special tokens)}.  Everything was written for these
files.  With another seed and more cases the same script is a fuzzer.
"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = """The furnace stood in the middle of the yard, and the waiting was the work. It's lit; they're waiting, we'll see in 1987 or 2026.
Naïve café façade, Straße, ŁÓDŹ, ÅNGSTRÖM. Ещё раз: печь горит! Η φωτιά καίει. 老师傅说，炼丹要看火候。炼丹要看火候。ひらがなとカタカナ。 한국어 텍스트.
for (int i = 0; i < n; i++) { sum += a[i] * 0x1F; }  // 100% of 3,000,000 rows\n\n\tif not ok:\n        return None  # done
ﬁne ½ ① ２０２６ ㎏ 🙂🙂 👨‍👩‍👧 ไทย עברית العربية हिन्दी
"""
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "<pad>"]
N, P, D = normalizers, pre_tokenizers, decoders
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def split(pattern, behavior="isolated", invert=False):
    return P.Split(Regex(pattern), behavior, invert)


def bytes_after(*steps):
    return P.Sequence([*steps, P.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(t, kind, size=150, **more):
    """The corpus, cut down at random so that each seed sees another vocabulary."""
    r = random.Random(SEED)
    lines = [l for l in CORPUS.split("\n") for _ in range(r.randint(1, 3))]
    trainer = kind(vocab_size=size, special_tokens=SPECIAL, show_progress=False, **more)
    t.train_from_iterator(lines, trainer)
    return t


def build(model, trainer, norm=None, pre=None, dec=None, post=None, added=(), size=150, **more):
    t = Tokenizer(model)
    if norm:
        t.normalizer = norm
    if pre:
        t.pre_tokenizer = pre
    if dec:
        t.decoder = dec
    train(t, trainer, size, **more)
    if added:
        t.add_tokens(list(added))
    if post:
        t.post_processor = post(t)
    return t


def byte_bpe(pre, norm=None, post=None, added=(), **more):
    return build(models.BPE(), trainers.BpeTrainer, norm, pre, D.ByteLevel(), post, added,
                 initial_alphabet=P.ByteLevel.alphabet(), size=300, **more)


def bert_post(t):
    return processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))


def roberta_post(prefix, trim):
    return lambda t: processors.RobertaProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")), trim, prefix)


def template_post(t):
    return processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
        single="[CLS] $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1 <pad>:2",
        special_tokens=[(s, t.token_to_id(s)) for s in ("[CLS]", "[SEP]", "<pad>")])])


def metaspace_bpe(scheme, do_split, **more):
    return build(models.BPE(unk_token="[UNK]", **more), trainers.BpeTrainer, None, P.Metaspace(prepend_scheme=scheme, split=do_split),
                 D.Metaspace(prepend_scheme=scheme))


def llama2():
    """Llama 2's tokenizer.json: no pre-tokenizer, byte fallback."""
    t = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True, byte_fallback=True))
    t.normalizer = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    t.decoder = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
    r = random.Random(SEED)
    lines = ["▁" + w for l in CORPUS.split("\n") for w in l.split() for _ in range(r.randint(1, 2))]
    t.normalizer, norm = None, t.normalizer
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL + [f"<0x{b:02X}>" for b in range(256)], limit_alphabet=40,
                                                     show_progress=False))
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(j))
    t.normalizer = norm
    return t


def words(pre, norm=None, dec=None, **more):
    return build(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer, norm, pre, dec, **more)


def wordpiece(norm, pre, dec=None, **more):
    return build(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer, norm, pre, dec or D.WordPiece(), **more)


def unigram(norm, pre, dec=None, **more):
    return build(models.Unigram(), trainers.UnigramTrainer, norm, pre, dec or D.Metaspace(), unk_token="[UNK]", size=220, **more)


FLAGS = [AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
         AddedToken("<b>", lstrip=True, rstrip=True, normalized=True), AddedToken("work", single_word=True, normalized=True),
         AddedToken("<|x|>", special=True, normalized=False), AddedToken("wai", normalized=False)]

NORMAL = [*FLAGS, AddedToken("ÉT", normalized=True)]
# Without an unknown token BPE drops characters, and the library's offsets behind one are wrong: they count what is left.
NO_OFFSETS = {"bytes-few", "bpe-plain"}

TOKENIZERS = {
    "gpt2": lambda: byte_bpe(P.ByteLevel(add_prefix_space=False), added=FLAGS),
    "gpt2-prefix": lambda: byte_bpe(P.ByteLevel(add_prefix_space=True), post=roberta_post(True, True)),
    "roberta": lambda: byte_bpe(P.ByteLevel(add_prefix_space=False), post=roberta_post(False, True)),
    "roberta-untrimmed": lambda: byte_bpe(P.ByteLevel(add_prefix_space=False), post=roberta_post(False, False)),
    "gpt2-template": lambda: byte_bpe(P.ByteLevel(add_prefix_space=False), post=template_post),
    "llama3": lambda: byte_bpe(bytes_after(split(LLAMA3)), added=FLAGS),
    "qwen2": lambda: byte_bpe(bytes_after(split(QWEN2)), N.NFC(), added=[AddedToken("<|x|>", special=True, normalized=False)]),
    "qwen2-normalized": lambda: byte_bpe(bytes_after(split(QWEN2)), N.NFC(), added=FLAGS),
    "qwen35": lambda: byte_bpe(bytes_after(split(QWEN35)), N.NFC()),
    "cl100k": lambda: byte_bpe(bytes_after(split(CL100K))),
    "o200k": lambda: byte_bpe(bytes_after(split(O200K, "removed", True))),
    "deepseek": lambda: byte_bpe(bytes_after(*[split(p) for p in DEEPSEEK])),
    "starcoder": lambda: byte_bpe(P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)])),
    "falcon": lambda: byte_bpe(P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
                                           split("[0-9][0-9][0-9]")])),
    "clip": lambda: build(models.BPE(end_of_word_suffix="</w>", unk_token="[UNK]"), trainers.BpeTrainer,
                          N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]),
                          P.Sequence([split(CLIP, "removed", True), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
                          D.Sequence([D.ByteLevel(), D.Replace("</w>", " ")]), end_of_word_suffix="</w>",
                          initial_alphabet=P.ByteLevel.alphabet(), size=560),
    "bytes-normalizer": lambda: build(models.BPE(unk_token="[UNK]"), trainers.BpeTrainer, N.ByteLevel(), split(r"Ġ?[A-Za-z]+|[^A-Za-z]"),
                                      D.ByteLevel()),
    "bytes-few": lambda: build(models.BPE(), trainers.BpeTrainer, None, P.ByteLevel(add_prefix_space=False), D.ByteLevel()),
    "ignore-merges": lambda: byte_bpe_ignoring(),
    "metaspace-always": lambda: metaspace_bpe("always", True),
    "metaspace-first": lambda: metaspace_bpe("first", True),
    "metaspace-never": lambda: metaspace_bpe("never", False),
    "metaspace-fuse": lambda: metaspace_bpe("first", False, fuse_unk=True),
    "llama2": llama2,
    "gemma": lambda: build(models.BPE(unk_token="[UNK]", fuse_unk=True), trainers.BpeTrainer, N.Replace(" ", "▁"),
                           P.Split(" ", "merged_with_previous"), D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()])),
    "prefix-suffix": lambda: build(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##", end_of_word_suffix="</w>"), trainers.BpeTrainer,
                                   N.NFKC(), P.Whitespace(), D.BPEDecoder(), continuing_subword_prefix="##", end_of_word_suffix="</w>"),
    "bpe-plain": lambda: build(models.BPE(), trainers.BpeTrainer, None, P.WhitespaceSplit()),
    "bert": lambda: wordpiece(N.BertNormalizer(), P.BertPreTokenizer(), post=bert_post),
    "bert-cased": lambda: wordpiece(N.BertNormalizer(lowercase=False), P.BertPreTokenizer(), D.WordPiece(cleanup=False), post=bert_post),
    "bert-flags": lambda: wordpiece(N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False),
                                    P.BertPreTokenizer(), added=NORMAL, post=template_post),
    "wordpiece-nfd": lambda: wordpiece(N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase()]), P.Whitespace(), added=NORMAL),
    "unigram": lambda: unigram(None, P.Metaspace()),
    "unigram-nmt": lambda: unigram(N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), P.Metaspace()),
    "unigram-strip": lambda: unigram(N.Sequence([N.Strip(), N.NFKD(), N.StripAccents(), N.Lowercase(), N.Prepend("▁"), N.Replace(" ", "▁")]), None),
    "unigram-first": lambda: unigram(N.Strip(left=True, right=False), P.Metaspace(prepend_scheme="first", split=False)),
    "words-whitespace": lambda: words(P.Whitespace()),
    "words-delimiter": lambda: words(P.CharDelimiterSplit("e"), dec=D.Fuse()),
    "words-scripts": lambda: words(P.UnicodeScripts(), N.NFKC(), D.Fuse()),
    "words-length": lambda: words(P.FixedLength(3), dec=D.Fuse()),
    "words-chars": lambda: words(P.FixedLength(1), dec=D.Fuse()),
    "words-ctc": lambda: words(split("."), dec=D.CTC("<pad>", " ", True)),
    "words-digits": lambda: words(P.Sequence([P.WhitespaceSplit(), P.Digits(False), P.Punctuation("merged_with_previous")])),
    "words-punct-next": lambda: words(P.Punctuation("merged_with_next")),
    "words-punct-removed": lambda: words(P.Punctuation("removed"), N.Lowercase()),
    "split-previous": lambda: words(split(r"\s+", "merged_with_previous"), dec=D.Fuse()),
    "split-next": lambda: words(split(r"\s", "merged_with_next"), dec=D.Fuse()),
    "split-contiguous": lambda: words(split(r"\s", "contiguous"), dec=D.Fuse()),
    "split-removed": lambda: words(split(r"[\s,.]", "removed"), dec=D.Sequence([D.Replace(Regex("[aeiou]"), "*"), D.Fuse(), D.Strip("*", 1, 2)])),
    "split-inverted": lambda: words(split(r"\w+", "removed", True)),
    "split-string": lambda: words(P.Split("the", "isolated"), dec=D.Fuse()),
    "split-empty": lambda: words(split(r"x*|\b", "isolated"), dec=D.Fuse()),
    "split-syntax": lambda: words(split(r"[[:alpha:]&&[^aeiou]]+|\h{2,3}+|(?m:..)|(?i:TH|é)(?=\s)|[^\s\W\d]|\d++|[\W&&\S]{,2}", "isolated"), dec=D.Fuse()),
    "replace-empty": lambda: words(P.WhitespaceSplit(), N.Sequence([N.Replace(Regex(r"x*"), "-"), N.Replace("--", "ab")])),
    "replace-grow": lambda: words(P.WhitespaceSplit(), N.Sequence([N.Replace(Regex(r"(?<=e)"), "! "), N.Replace("!", "")])),
}


def byte_bpe_ignoring():
    t = byte_bpe(P.ByteLevel(add_prefix_space=False))
    j = json.loads(t.to_str())
    j["model"]["ignore_merges"] = True
    j["model"]["merges"] = j["model"]["merges"][::3]
    merged = {"".join(m) for m in j["model"]["merges"]}
    while True:                                # only merges whose parts can still be made
        keep = [m for m in j["model"]["merges"] if all(len(h) == 1 or h in merged for h in m)]
        merged = {"".join(m) for m in keep}
        if len(keep) == len(j["model"]["merges"]):
            break
        j["model"]["merges"] = keep
    return Tokenizer.from_str(json.dumps(j))


HARD = ["", " ", "  \n\n  x\n", "\t\r\n \u00a0\u3000a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "It's THEY'RE we'LL ſ'ſ 'S", "1234567890 ٣٤٥ ⅷ ½ 12a",
        "e\u0301E\u0301T \u0041\u030a\u0323 ẛ̣ ﬃ ｶﾞ Å", "한국어 \u1112\u1161\u11ab\u1100", "👨‍👩‍👧‍👦🏳️‍🌈🇩🇪 \u200d\ufe0f", "שלום עולם العربية ١٢٣", "\u0000\u0001\u007f\u009f\ufeff\ufffd\u200b",
        "老师傅说，炼丹。Latin混合ひらがなカタカナー", "if (x == 0x1F) { return a[i]; }\n\n\n\tdone  ", "<l> a <l>b <r>  c<b>  d work worker WORK wai ét", " ▁▁ a▁ b ",
        "hello[SEP] [CLS]<|x|><pad> [UNK]", "a\u0308\u0308\u0323\u0308b", "…—–\u2028\u2029''\"\"", "\U0001d400\U00020000\U000e0001x", "naïve CAFÉ İstanbul ǅ ŒUVRE ΑΣ ß"]


def pieces(r):
    pick = r.random()
    if pick < .3:
        return r.choice(CORPUS.split(" "))
    if pick < .5:
        return r.choice([" ", "  ", "\n", "\t", "'s", "'RE", "▁", "<l>", "<r>", "<b>", "<|x|>", "work", "ÉT", "e\u0301", "[SEP]", "12", "-", "\u200d", "\u00a0"])
    if pick < .7:
        return r.choice(HARD)
    top = r.choice([0x80, 0x250, 0x3100, 0x11000, 0x20000, 0x110000])
    out = [c for c in (r.randrange(0, top) for _ in range(r.randint(1, 6))) if not 0xD800 <= c < 0xE000]
    return "".join(map(chr, out))


def to_bytes(text, offsets):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[min(a, len(text))], at[min(b, len(text))]] for a, b in offsets]


def one_case(name, t, text, r):
    e = t.encode(text, add_special_tokens=False)
    p = t.encode(text, text, add_special_tokens=True)
    case = {"tokenizer": name, "text": text, "ids": e.ids, "offsets": None if name in NO_OFFSETS else to_bytes(text, e.offsets)}
    if t.post_processor:
        case["pair"], case["types"] = p.ids, p.type_ids
    ids = e.ids if r.random() < .6 else [r.randrange(t.get_vocab_size()) for _ in range(r.randint(1, 8))]
    if ids != e.ids:
        case["decode_ids"] = ids
    if ids or name not in ("prefix-suffix",):
        case["decode"] = t.decode(ids, skip_special_tokens=False)
        if any(i > 3 for i in ids):            # the library panics when a decoder gets nothing
            case["plain"] = t.decode(ids, skip_special_tokens=True)
            if case["plain"] == case["decode"]:
                del case["plain"]
    return case


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "pipeline")
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    os.makedirs(out, exist_ok=True)
    r = random.Random(SEED)
    with open(os.path.join(out, "cases.jsonl"), "w") as f:
        for name, make in TOKENIZERS.items():
            t = make()
            with open(os.path.join(out, name + ".json"), "w") as g:
                g.write(json.dumps(json.loads(t.to_str()), ensure_ascii=False, separators=(",", ":")))
            texts = (HARD if count > 20 else r.sample(HARD, count // 2)) + ["".join(pieces(r) for _ in range(r.randint(1, 12 if count > 20 else 5)))
                                                                            for _ in range(count - count // 2)]
            for text in texts:
                try:
                    case = one_case(name, t, text, r)
                except BaseException as e:     # the library panics on some; what it cannot do is no reference
                    print(name, repr(text), type(e).__name__, str(e)[:80], file=sys.stderr)
                    continue
                f.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
    print("tokenizers", tokenizers.__version__, len(TOKENIZERS), "tokenizers")


main()
