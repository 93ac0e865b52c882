#!/usr/bin/env python3
"""Writes encoders/: tiny random encoders with heads, and what `danlu fill` and `danlu classify` must say of a few texts.

    python3 tests/golden/make_encoder_golden.py [OUT]        OUT defaults to the folder of this script

needs torch, transformers, tokenizers and safetensors.  Weights are f16.  The tokenizers are those of bert/ and roberta/, which
encoders_test puts beside the weights.  expected.jsonl: what the command prints with --json, from transformers in float32.
"""
import json
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer, Tokenizer
from transformers import (BertConfig, BertForSequenceClassification, BertForTokenClassification, DistilBertConfig, DistilBertForMaskedLM,
                          DistilBertForSequenceClassification, RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification,
                          RobertaForTokenClassification, XLMRobertaConfig, XLMRobertaForMaskedLM)

from make_golden import randn

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["the old furnace", "A red elixir, seven small stones!", "monk", "the the the the"]
PAIRS = ["the old furnace\tred elixir", "monk\tA red monk, the old stones.", "the\t!"]
MASKED = ["the old [MASK]", "A [MASK] elixir, [MASK] small stones!", "[MASK]"]
SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, attn_implementation="eager")


def bert(**more):
    return BertConfig(vocab_size=96, max_position_embeddings=32, type_vocab_size=2, **SMALL, **more)


def distil(**more):
    return DistilBertConfig(vocab_size=96, max_position_embeddings=32, dim=16, n_layers=2, n_heads=2, hidden_dim=24,
                            attn_implementation="eager", **more)


def roberta(kind=RobertaConfig, **more):
    return kind(vocab_size=300, max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
                eos_token_id=2, **SMALL, **more)


def named(*labels):
    return dict(id2label=dict(enumerate(labels)), label2id={l: i for i, l in enumerate(labels)})


CASES = {
    "distilbert_classes": (DistilBertForSequenceClassification, lambda: distil(**named("NEGATIVE", "POSITIVE")), TEXTS, []),
    "distilbert_words": (DistilBertForMaskedLM, distil, MASKED, []),
    "bert_pair": (BertForSequenceClassification, lambda: bert(**named("yes", "maybe", "no")), PAIRS, ["--pair"]),
    "bert_many": (BertForSequenceClassification, lambda: bert(problem_type="multi_label_classification", **named("a", "b", "c")), TEXTS, []),
    "bert_number": (BertForSequenceClassification, lambda: bert(problem_type="regression", num_labels=1), TEXTS, []),
    "bert_tokens": (BertForTokenClassification, lambda: bert(**named("O", "B-X", "I-X")), TEXTS, []),
    "roberta_pair": (RobertaForSequenceClassification, lambda: roberta(**named("yes", "maybe", "no")), PAIRS, ["--pair"]),
    "roberta_tokens": (RobertaForTokenClassification, lambda: roberta(**named("O", "B-X")), TEXTS, []),
    "roberta_words": (RobertaForMaskedLM, roberta, MASKED, []),
    "xlm_roberta_words": (XLMRobertaForMaskedLM, lambda: roberta(XLMRobertaConfig), MASKED, []),
}


def randomise(model, seed):
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            norm = p.dim() == 1 and name.lower().endswith("norm.weight")
            p.copy_((0.3 * randn(1000 * seed + i, *p.shape) + (1.0 if norm else 0.0)).half().float())


def tokenizer(name):
    if name.startswith(("bert", "distil")):
        return BertWordPieceTokenizer(os.path.join(HERE, "bert", "vocab.txt")), "[MASK]"
    return Tokenizer.from_file(os.path.join(HERE, "roberta", "tokenizer.json")), "<mask>"


def encode(tok, mask, text, pair):
    parts = text.replace("[MASK]", mask).split("\t") if pair else [text.replace("[MASK]", mask)]
    return tok.encode(*parts)


def scores_of(config, logits):
    if config.problem_type == "regression":
        p = logits
    elif config.problem_type == "multi_label_classification":
        p = logits.sigmoid()
    else:
        p = logits.softmax(-1)
    order = sorted(range(len(p)), key=lambda k: -p[k])
    return [{"label": config.id2label[k], "score": p[k].item()} for k in order]


def answer(model, tok, mask, index, text, pair):
    e = encode(tok, mask, text, pair)
    a = {"input_ids": torch.tensor([e.ids])}
    if isinstance(model, BertForSequenceClassification):
        a["token_type_ids"] = torch.tensor([e.type_ids])
    with torch.no_grad():
        logits = model(**a).logits[0]
    if logits.dim() == 1:
        scores = scores_of(model.config, logits)
        return [{"index": index, **scores[0], **({"scores": scores} if len(scores) > 1 else {})}]
    if "ForTokenClassification" in type(model).__name__:
        rows = [i for i, special in enumerate(e.special_tokens_mask) if not special]
        tokens = [{"token": tok.decode([e.ids[i]]), **scores_of(model.config, logits[i])[0], "scores": scores_of(model.config, logits[i])}
                  for i in rows]
        return [{"index": index, "tokens": tokens}]
    out, mask_id = [], tok.token_to_id(mask)
    for n, i in enumerate(i for i, t in enumerate(e.ids) if t == mask_id):
        p = logits[i].softmax(-1)
        top = p.topk(3)
        lead = (top.values[:-1] - top.values[1:]).min().item()
        if lead < 1e-5:
            sys.exit("near tie, choose another seed")
        out.append({"index": index, "mask": n, "tokens": [{"id": t, "token": tok.decode([t]), "p": v}
                                                         for t, v in zip(top.indices.tolist(), top.values.tolist())]})
    return out


def main():
    torch.set_num_threads(1)
    out = os.path.join(sys.argv[1] if len(sys.argv) > 1 else HERE, "encoders")
    made = f"make_encoder_golden.py; torch {torch.__version__.split('+')[0]}; transformers {transformers.__version__}"
    for seed, (name, (kind, config, texts, flags)) in enumerate(CASES.items(), 40):
        model = kind(config()).eval()
        randomise(model, seed)
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        model.config.architectures = [kind.__name__]
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(model.config.to_dict(), f, indent=1, sort_keys=True)
            f.write("\n")
        kept = {k: v.half().contiguous().clone() for k, v in model.state_dict().items() if not k.endswith("position_ids")}
        tied = [k for k in kept if k.endswith(("decoder.weight", "decoder.bias", "vocab_projector.weight"))]
        save_file({k: v for k, v in kept.items() if k not in tied}, os.path.join(folder, "model.safetensors"), metadata={"made_by": made})
        os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
        tok, mask = tokenizer(name)
        with open(os.path.join(folder, "texts.txt"), "w") as f:
            f.writelines(t + "\n" for t in texts)
        with open(os.path.join(folder, "expected.jsonl"), "w") as f:
            for i, t in enumerate(texts):
                f.writelines(json.dumps(a, ensure_ascii=False) + "\n" for a in answer(model, tok, mask, i, t, bool(flags)))
    print(made)


if __name__ == "__main__":
    main()
