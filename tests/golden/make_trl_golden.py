#!/usr/bin/env python3
"""Writes trl/golden.json: losses and gradient norms of TRL's trainers, step by step, on the model in llama/ and the adapter in lora/.

    python3 tests/golden/make_trl_golden.py [OUT]        OUT defaults to the folder of this script

needs torch, transformers, peft, trl, datasets, tokenizers and safetensors.  Everything is computed in float32 on one thread.  The file has the data
(ids), the learning rate of each step and what the trainer logged.
"""
import json
import os
import random
import sys
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, BATCH, EOS = 10, 4, 95


def words(ids):
    return "".join(f" {i}" for i in ids)


def make_rows():
    rnd = random.Random(11)
    ids = lambda least, most: [rnd.randrange(1, EOS) for _ in range(rnd.randint(least, most))]
    rows = [{"prompt": ids(3, 8), "chosen": ids(2, 9), "rejected": ids(2, 9)} for _ in range(STEPS * BATCH)]
    return rows, [{"prompt": ids(1, 1), "chosen": ids(5, 5), "rejected": ids(2, 9)} for _ in range(STEPS * BATCH)]


def tokenizer():
    vocab = {str(i): i for i in range(1, EOS)}
    t = Tokenizer(models.WordLevel({"<unk>": 0, **vocab, "<eos>": EOS}, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=t, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")


def model(adapter):
    m = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "llama"), dtype=torch.float32, attn_implementation="eager")
    return PeftModel.from_pretrained(m, os.path.join(HERE, "lora"), is_trainable=True) if adapter else m


def common(out, accumulate=1, **more):
    return dict(output_dir=out, per_device_train_batch_size=BATCH // accumulate, gradient_accumulation_steps=accumulate, max_steps=STEPS, learning_rate=2e-3,
                lr_scheduler_type="cosine", weight_decay=0.1, max_grad_norm=1.0, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, logging_steps=1, save_strategy="no",
                report_to=[], use_cpu=True, seed=1, bf16=False, disable_tqdm=True, gradient_checkpointing=False, max_length=64, warmup_steps=2, **more)


def run(name, kind, adapter, rows, trainer, config, accumulate=1, **more):
    with tempfile.TemporaryDirectory() as out:
        made = config(**common(out, accumulate, train_sampling_strategy="sequential", **more))
        t = trainer(model=model(adapter), args=made, train_dataset=Dataset.from_list(rows), processing_class=tokenizer())
        t.train()
        log = [line for line in t.state.log_history if "loss" in line]
    assert len(log) == STEPS, log
    first = {k: v for k, v in log[0].items() if k.startswith("rewards/") or k.startswith("logps/") or k in ("kl", "log_odds_chosen", "nll_loss")}
    print(name, [round(line["loss"], 5) for line in log])
    opts = {k: more[k] for k in ("beta", "label_smoothing", "simpo_gamma", "desirable_weight", "undesirable_weight") if k in more}
    loss = more.get("loss_type", name)
    return {"name": name, "kind": kind, "adapter": adapter, "loss": loss[0] if isinstance(loss, list) else loss, "options": opts, "lr": [line["learning_rate"] for line in log],
            "losses": [line["loss"] for line in log], "grad_norms": [line["grad_norm"] for line in log], "first": first}


def make(out):
    torch.set_num_threads(1)
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    rows, short = make_rows()
    sft = [{"prompt": words(r["prompt"]), "completion": words(r["chosen"])} for r in rows]
    pairs = [{k: words(v) for k, v in r.items()} for r in rows]
    # TRL draws the mismatched answers of KTO inside a batch: the same four rows at every step
    kto = [{"prompt": words(r["prompt"]), "completion": words(r["chosen"]), "label": i % 2 == 0} for i, r in enumerate(rows[:BATCH])] * STEPS
    runs = []
    for adapter in (False, True):
        kind = "adapter" if adapter else "all weights"
        runs.append(run(f"sft, {kind}", "sft", adapter, sft, trl.SFTTrainer, trl.SFTConfig, completion_only_loss=True))
        runs.append(run(f"dpo, {kind}", "pairs", adapter, pairs, trl.DPOTrainer, trl.DPOConfig, beta=0.1, loss_type=["sigmoid"]))
        runs.append(run(f"kto, {kind}", "kto", adapter, kto, trl.KTOTrainer, trl.KTOConfig, beta=0.1, loss_type="kto", desirable_weight=1.0, undesirable_weight=1.2))
    runs.append(run("sft, batches of 2 accumulated", "sft", False, sft, trl.SFTTrainer, trl.SFTConfig, accumulate=2, completion_only_loss=True))
    for loss, beta, more in (("ipo", 0.1, {}), ("hinge", 0.5, {}), ("robust", 0.1, {"label_smoothing": 0.1}), ("sigmoid_norm", 5.0, {})):
        runs.append(run(loss, "pairs", False, pairs, trl.DPOTrainer, trl.DPOConfig, beta=beta, loss_type=[loss], **more))
    runs.append(run("simpo", "pairs", False, pairs, CPOTrainer, CPOConfig, beta=2.0, loss_type="simpo", cpo_alpha=0.0, simpo_gamma=0.5))
    # TRL's ORPO learns the prompt as well and averages over the tokens of the batch: prompts of one token and answers of one length leave no difference
    alike = [{k: words(v) for k, v in r.items()} for r in short]
    runs.append(run("orpo", "short", False, alike, ORPOTrainer, ORPOConfig, beta=0.1))
    made_by = (f"make_trl_golden.py: torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, trl {trl.__version__}")
    os.makedirs(os.path.join(out, "trl"), exist_ok=True)
    with open(os.path.join(out, "trl", "golden.json"), "w") as f:
        f.write(json.dumps({"made_by": made_by, "steps": STEPS, "batch": BATCH, "eos": EOS}, indent=1)[:-2] + ',\n "rows": [\n')
        f.write(",\n".join("  " + json.dumps(r) for r in rows) + '\n ],\n "short": [\n')
        f.write(",\n".join("  " + json.dumps(r) for r in short) + '\n ],\n "runs": [\n')
        f.write(",\n".join("  " + json.dumps(r) for r in runs) + "\n ]\n}\n")


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else HERE)
