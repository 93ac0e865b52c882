#!/usr/bin/env python3
"""Writes lora/: an adapter as PEFT saves it for the model in llama/, and what PEFT computes with it.

    python3 tests/golden/make_lora_golden.py [OUT]        OUT defaults to the folder of this script
    python3 tests/golden/make_lora_golden.py --check DIR  loads an adapter that danlu saved (lora_test writes one to $DANLU_LORA_OUT)
                                                          and compares its logits with those of lora/

needs torch, transformers, peft and safetensors.  Everything is computed in float32 on one thread.
"""
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
T = 24


def base():
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "llama"), dtype=torch.float32, attn_implementation="eager")


def make(out):
    torch.manual_seed(3)
    model = get_peft_model(base(), LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
                                              task_type="CAUSAL_LM", lora_dropout=0.0))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    vocab = model.config.vocab_size
    tokens = torch.tensor([[(i * 37 + 5) % vocab for i in range(T)]])
    logits = model(tokens).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:])
    loss.backward()
    values = {"tokens": tokens[0].to(torch.int32), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            values["grad." + name.replace(".default", "")] = p.grad
    model.peft_config["default"].base_model_name_or_path = "llama"
    os.makedirs(os.path.join(out, "lora"), exist_ok=True)
    model.save_pretrained(os.path.join(out, "lora"), save_embedding_layers=False)
    readme = os.path.join(out, "lora", "README.md")
    if os.path.exists(readme):
        os.remove(readme)
    made_by = f"make_lora_golden.py: torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    save_file({k: v.contiguous().clone() for k, v in values.items()}, os.path.join(out, "lora", "golden.safetensors"), metadata={"made_by": made_by})


def check(folder):
    model = PeftModel.from_pretrained(base(), folder)
    want = load_file(os.path.join(HERE, "lora", "golden.safetensors"))
    with torch.no_grad():
        got = model(want["tokens"].long()[None]).logits[0]
    worst = (got - want["logits"]).abs().max().item()
    print(f"danlu's adapter in PEFT {peft.__version__}: largest difference {worst:.2e} of {want['logits'].abs().max().item():.3f}")
    sys.exit(0 if worst < 1e-5 else 1)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        check(sys.argv[2])
    make(sys.argv[1] if len(sys.argv) > 1 else HERE)
