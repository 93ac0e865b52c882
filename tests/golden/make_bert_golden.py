#!/usr/bin/env python3
"""Writes bert/ and roberta/: tiny random encoders with all their heads, and what transformers computes with them.

    python3 tests/golden/make_bert_golden.py [OUT]        OUT defaults to the folder of this script

needs torch, transformers and safetensors.  Sentences are run one by one, without padding, in float32 on one thread, and
compared with float64 before anything is written (see make_golden.py).  bert/ has the prefix "bert." on its tensors and the
"gamma"/"beta" names of files that come from TensorFlow on one norm, roberta/ is written without a prefix, as sentence encoders are.
Each has a small tokenizer (vocab.txt; byte-level BPE in tokenizer.json), texts.txt, and for these the ids and the mean-pooled vectors.
"""
import json
import os
import sys

import torch
import transformers
from transformers import (BertConfig, BertForPreTraining, BertForSequenceClassification, RobertaConfig, RobertaForMaskedLM,
                          RobertaForSequenceClassification, RobertaModel)

import make_golden
from make_golden import MADE_BY, STD, check_noise, randn, save

make_golden.MADE_BY = MADE_BY.replace("make_golden", "make_bert_golden")
V, VR, K, LENGTHS = 96, 300, 3, [5, 1, 17, 2, 30, 9]       # VR: 256 bytes, special tokens and a few merges
TEXTS = ["the old furnace", "A red elixir, seven small stones!", "", "naïve café", "the the the the the the the the the the", "monk"]


def randomise(model, seed):
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            is_norm = p.dim() == 1 and name.endswith("LayerNorm.weight") or name.endswith("layer_norm.weight")
            p.copy_(STD * randn(1000 * seed + i, *p.shape) + (1.0 if is_norm else 0.0))


def share(model, body, prefix):
    """The same encoder under another head."""
    own = getattr(model, prefix)
    own.load_state_dict({k: v for k, v in body.state_dict().items() if k in own.state_dict()})


def bert():
    config = BertConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                        max_position_embeddings=32, type_vocab_size=2, num_labels=K, attn_implementation="eager")
    full, classes = BertForPreTraining(config), BertForSequenceClassification(config)
    randomise(full, 1)
    randomise(classes, 2)
    share(classes, full.bert, "bert")
    return config, full.bert, full, classes


def roberta():
    config = RobertaConfig(vocab_size=VR, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                           max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, num_labels=K,
                           pad_token_id=1, bos_token_id=0, eos_token_id=2, attn_implementation="eager")
    body, full, classes = RobertaModel(config), RobertaForMaskedLM(config), RobertaForSequenceClassification(config)
    randomise(body, 3)
    randomise(full, 4)
    randomise(classes, 5)
    share(full, body, "roberta")
    share(classes, body, "roberta")
    return config, body, full, classes


def wordpiece(folder):
    from tokenizers import BertWordPieceTokenizer
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", ",", ".", "the", "old", "furnace", "red", "elixir", "stone", "##s", "mon"]
    words += [c for c in letters] + ["##" + c for c in letters if c != "s"]
    words += [f"[unused{i}]" for i in range(V - len(words))]
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.writelines(w + "\n" for w in words)
    return BertWordPieceTokenizer(os.path.join(folder, "vocab.txt"))


def byte_level(folder):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tok.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=VR, special_tokens=["<s>", "<pad>", "</s>", "<unk>", mask], show_progress=False,
                                                       initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tok.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    return tok


def of_texts(body, tok, folder):
    with open(os.path.join(folder, "texts.txt"), "w", encoding="utf-8") as f:
        f.writelines(t + "\n" for t in TEXTS)
    ids = [torch.tensor(tok.encode(t).ids, dtype=torch.int32) for t in TEXTS]
    with torch.no_grad():
        mean = torch.stack([body(input_ids=s.long()[None]).last_hidden_state[0].mean(0) for s in ids])
    return {"text.ids": torch.cat(ids), "text.start": torch.tensor([0] + [len(s) for s in ids]).cumsum(0), "text.mean": mean}


def run(body, full, classes, ids, types):
    """Every output of every sentence, rows one after the other."""
    rows = {"hidden": [], "pooled": [], "classes": [], "words": []}
    with torch.no_grad():
        for s, t in zip(ids, types):
            a = {"input_ids": s.long()[None], "token_type_ids": t.long()[None]}
            y = body(**a)
            rows["hidden"].append(y.last_hidden_state[0])
            rows["pooled"].append(y.pooler_output)
            rows["classes"].append(classes(**a).logits)
            m = full(**a)
            rows["words"].append((m.prediction_logits if hasattr(m, "prediction_logits") else m.logits)[0])
    return {k: torch.cat(v) for k, v in rows.items()}


def weights(name, body, full, classes):
    if name == "bert":
        w = dict(full.state_dict())
        norm = "bert.encoder.layer.1.output.LayerNorm."
        for new, old in (("weight", "gamma"), ("bias", "beta")):
            w[norm + old] = w.pop(norm + new)
    else:
        w = dict(body.state_dict())
        w.update({k: v for k, v in full.state_dict().items() if k.startswith("lm_head.")})
    w.update({k: v for k, v in classes.state_dict().items() if k.startswith("classifier.")})
    tied = [k for k in w if k.endswith("decoder.weight") or k.endswith("decoder.bias")]
    return {k: v for k, v in w.items() if k not in tied}


def family(out, name, make, seed):
    config, body, full, classes = make()
    for m in (body, full, classes):
        m.eval()
    g = torch.Generator().manual_seed(seed)
    ids = [torch.randint(3, config.vocab_size, (n,), generator=g, dtype=torch.int32) for n in LENGTHS]
    types = [torch.randint(0, config.type_vocab_size, (n,), generator=g, dtype=torch.int32) for n in LENGTHS]
    single = run(body, full, classes, ids, types)
    double = run(body.double(), full.double(), classes.double(), ids, types)
    check_noise(name, single, double)
    for m in (body, full, classes):
        m.float()
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    config.architectures = ["BertModel" if name == "bert" else "RobertaModel"]
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config.to_dict(), f, indent=2, sort_keys=True)
        f.write("\n")
    save(os.path.join(folder, "model.safetensors"), weights(name, body, full, classes))
    starts = torch.tensor([0] + LENGTHS).cumsum(0)
    texts = of_texts(body, (wordpiece if name == "bert" else byte_level)(folder), folder)
    save(os.path.join(folder, "golden.safetensors"), {"ids": torch.cat(ids), "types": torch.cat(types), "start": starts, **single, **texts})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    print(MADE_BY, transformers.__version__)
    family(out, "bert", bert, 11)
    family(out, "roberta", roberta, 12)


if __name__ == "__main__":
    main()
