#!/usr/bin/env python3
"""Writes reward/golden.json: a reward model on the model in llama/ (and the adapter in lora/) with a given score head.

    python3 tests/golden/make_reward_golden.py [OUT]        OUT defaults to the folder of this script

needs torch, transformers, peft, trl, datasets, tokenizers and safetensors; float32, one thread.  Of TRL's RewardTrainer: losses, gradient norms and metrics, step by
step.  Of torch alone: values, loss and gradients of one batch of pairs with margins and centring, and of K ranked answers (InstructGPT: the mean over all pairs).
"""
import json
import math
import os
import sys
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from make_trl_golden import BATCH, EOS, HERE, STEPS, common, make_rows, tokenizer

PAD = 0          # stands in no row: with pad = eos transformers would read the value one token early


def score_weights(n):
    return [round(0.05 * math.sin(1 + 0.7 * i), 6) for i in range(n)]


def model(adapter=False):
    m = AutoModelForSequenceClassification.from_pretrained(os.path.join(HERE, "llama"), num_labels=1, dtype=torch.float32, attn_implementation="eager")
    m.config.pad_token_id = PAD
    with torch.no_grad():
        m.score.weight.copy_(torch.tensor([score_weights(m.config.hidden_size)]))
    if not adapter:
        return m
    with tempfile.TemporaryDirectory() as d:      # the score head learns beside the adapter (modules_to_save) and begins as the model's
        config = PeftConfig.from_pretrained(os.path.join(HERE, "lora"))
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
        config.save_pretrained(d)
        save_file({**load_file(os.path.join(HERE, "lora", "adapter_model.safetensors")), "base_model.model.score.weight": m.score.weight.detach().clone()},
                  os.path.join(d, "adapter_model.safetensors"))
        m = PeftModel.from_pretrained(m, d, is_trainable=True)
    assert any(p.requires_grad and "score" in name for name, p in m.named_parameters())
    return m


def ids_of(row, answer):
    return row["prompt"] + row[answer] + [EOS]


def run(name, adapter, rows, margin=False, center=None):
    data = [{"chosen_ids": ids_of(r, "chosen"), "rejected_ids": ids_of(r, "rejected")} for r in rows]
    if margin:
        for d, r in zip(data, rows):
            d["margin"] = r["margin"]
    tok = tokenizer()
    tok.pad_token = "<unk>"
    with tempfile.TemporaryDirectory() as out:
        made = trl.RewardConfig(**common(out, train_sampling_strategy="sequential", center_rewards_coefficient=center))
        t = trl.RewardTrainer(model=model(adapter), args=made, train_dataset=Dataset.from_list(data), processing_class=tok)
        t.train()
        log = [line for line in t.state.log_history if "loss" in line]
    assert len(log) == STEPS, log
    print(name, [round(line["loss"], 5) for line in log], [round(line["grad_norm"], 4) for line in log])
    keep = ("accuracy", "margin", "min_reward", "mean_reward", "max_reward")
    return {"name": name, "adapter": adapter, "margins": int(margin), "center": center or 0, "lr": [line["learning_rate"] for line in log], "losses": [line["loss"] for line in log],
            "grad_norms": [line["grad_norm"] for line in log], **{k: [line[k] for line in log] for k in keep}}


def values(m, batch):
    longest = max(map(len, batch))
    ids = torch.tensor([b + [PAD] * (longest - len(b)) for b in batch])
    return m(input_ids=ids, attention_mask=(ids != PAD).long()).logits[:, 0]


def gradients(m):
    names = {"score.weight": m.score.weight, "output_norm.weight": m.model.norm.weight, "blk.0.attn_q.weight": m.model.layers[0].self_attn.q_proj.weight,
             "token_embd.weight": m.model.embed_tokens.weight}
    out = {}
    for name, p in names.items():
        g = p.grad.double().flatten()
        out[name] = {"norm": g.norm().item(), "sum": g.sum().item(), "first": g[:8].tolist() if name != "token_embd.weight" else []}
    return out


def pairs_once(rows):
    m = model()
    v = values(m, [ids_of(r, k) for r in rows[:BATCH] for k in ("chosen", "rejected")])
    w, l = v[0::2], v[1::2]
    margin = torch.tensor([r["margin"] for r in rows[:BATCH]])
    loss = -torch.nn.functional.logsigmoid(w - l - margin).mean() + 0.05 * ((w + l) ** 2).mean()
    loss.backward()
    return {"center": 0.05, "values": v.tolist(), "loss": loss.item(), "gradients": gradients(m)}


def ranked_once(rows):
    """Two prompts with 4 and 3 answers; ties are no pairs."""
    m = model()
    ranks = [[2, 1, 4, 3], [1, 2, 2]]
    groups = [[rows[0]["prompt"] + rows[k]["chosen"] + [EOS] for k in range(4)], [rows[5]["prompt"] + rows[k]["rejected"] + [EOS] for k in range(3)]]
    v = values(m, groups[0] + groups[1])
    loss, at = 0, 0
    for g, rank in zip(groups, ranks):
        r = v[at : at + len(g)]
        terms = [-torch.nn.functional.logsigmoid(r[i] - r[j]) for i in range(len(g)) for j in range(len(g)) if rank[i] < rank[j]]
        loss = loss + sum(terms) / len(terms) / len(groups)
        at += len(g)
    loss.backward()
    return {"groups": groups, "ranks": ranks, "values": v.tolist(), "loss": loss.item(), "gradients": gradients(m)}


def make(out):
    torch.set_num_threads(1)
    rows, _ = make_rows()
    for i, r in enumerate(rows):
        r["margin"] = [0.0, 1 / 3, 2 / 3, 1.0][i * 7 % 4]
    golden = {"made_by": f"make_reward_golden.py: torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, trl {trl.__version__}",
              "steps": STEPS, "batch": BATCH, "eos": EOS, "score": score_weights(model().config.hidden_size), "pairs": pairs_once(rows), "ranked": ranked_once(rows)}
    runs = [run("pairs", False, rows), run("margins and centring", False, rows, margin=True, center=0.05), run("adapter", True, rows)]
    os.makedirs(os.path.join(out, "reward"), exist_ok=True)
    with open(os.path.join(out, "reward", "golden.json"), "w") as f:
        f.write(json.dumps(golden, indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join("  " + json.dumps(r) for r in rows) + '\n ],\n "runs": [\n')
        f.write(",\n".join("  " + json.dumps(r) for r in runs) + "\n ]\n}\n")


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else HERE)
