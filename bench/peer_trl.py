#!/usr/bin/env python3
"""The TRL + PEFT side of finetune_vs_trl.py: one JSON line per step, the peak of resident memory last.

    python3 bench/peer_trl.py --model FOLDER --data rows.jsonl --task sft|dpo|generate [--lora 8] [--dtype f32|bf16] [--attention sdpa|eager]
                              [--checkpointing] [--flatten] --steps 10 --batch 8 --lr 1e-4 --threads 1

--flatten: a batch is one sequence without padding (TRL's padding_free), its rows told apart by their positions.  With bf16 products are bfloat16 by
autocast, and under an adapter the base is kept in bfloat16, too.  generate: the texts of --data, each --group times, are continued by --tokens new tokens, sampled at
temperature 1 from all of the vocabulary, whatever they are; --steps times.
"""
import argparse
import json
import os
import tempfile
import time

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--data")
    p.add_argument("--task", choices=("sft", "dpo", "generate"), required=True)
    p.add_argument("--lora", type=int, default=0)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    p.add_argument("--attention", default="sdpa")
    p.add_argument("--checkpointing", action="store_true")
    p.add_argument("--flatten", action="store_true")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--group", type=int, default=2)
    p.add_argument("--tokens", type=int, default=64)
    return p.parse_args()


def peak():
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def say(**record):
    print(json.dumps(record), flush=True)


def load(a):
    import torch
    from transformers import AutoModelForCausalLM
    small = a.dtype == "bf16" and (a.lora or a.task == "generate")
    return AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.bfloat16 if small else torch.float32, attn_implementation=a.attention)


def trainer_of(a, out, clock):
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerFast
    with open(a.data, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f] * a.steps
    tokenizer = PreTrainedTokenizerFast.from_pretrained(a.model)
    tokenizer.pad_token = tokenizer.eos_token
    common = dict(output_dir=out, per_device_train_batch_size=a.batch, max_steps=a.steps, learning_rate=a.lr, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
                  logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, seed=1, bf16=a.dtype == "bf16", disable_tqdm=True, max_length=None,
                  gradient_checkpointing=a.checkpointing, train_sampling_strategy="sequential", padding_free=a.flatten, dataloader_num_workers=0)
    peft = LoraConfig(r=a.lora, lora_alpha=2 * a.lora, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM") if a.lora else None
    kind, config = (trl.SFTTrainer, trl.SFTConfig(assistant_only_loss=True, **common)) if a.task == "sft" else (
        trl.DPOTrainer, trl.DPOConfig(beta=0.1, precompute_ref_log_probs=True, **common))
    return kind(model=load(a), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=peft, callbacks=[clock])


def train(a):
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        spent = []

        def on_step_begin(self, *args, **kwargs):
            self.at = time.perf_counter(), time.process_time()

        def on_step_end(self, *args, **kwargs):
            self.spent.append((time.perf_counter() - self.at[0], time.process_time() - self.at[1]))

    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        trainer = trainer_of(a, out, clock)
        trainer.train()
        log = [line for line in trainer.state.log_history if "loss" in line]
    before = 0
    for line, (wall, cpu) in zip(log, clock.spent):
        say(step=line["step"] if "step" in line else 0, loss=line["loss"], grad_norm=line["grad_norm"], tokens=line["num_tokens"] - before, wall=wall, cpu=cpu)
        before = line["num_tokens"]


def generate(a):
    import torch
    from transformers import PreTrainedTokenizerFast
    model = load(a)
    model.generation_config.eos_token_id = None                      # no answer ends before the limit
    tokenizer = PreTrainedTokenizerFast.from_pretrained(a.model)
    with open(a.data, encoding="utf-8") as f:
        prompts = [tokenizer(json.loads(line)["text"])["input_ids"] for line in f]
    ids = torch.tensor([p for p in prompts for _ in range(a.group)])
    for step in range(a.steps):
        torch.manual_seed(step)
        at = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0, temperature=1.0, max_new_tokens=a.tokens, pad_token_id=0)
        spent = time.perf_counter() - at[0], time.process_time() - at[1]
        say(tokens=out.numel() - ids.numel(), prompt_tokens=sum(map(len, prompts)), wall=spent[0], cpu=spent[1])


def main():
    a = options()
    import torch
    torch.set_num_threads(a.threads)
    generate(a) if a.task == "generate" else train(a)
    say(peak=peak())


if __name__ == "__main__":
    main()
