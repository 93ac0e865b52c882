#!/usr/bin/env python3
"""Writes lora/ and dora/: adapters as PEFT saves them for the model in llama/, and what PEFT computes with them; dora/ has use_dora, unequal ranks and alphas.

    python3 tests/golden/make_lora_golden.py [OUT]        OUT defaults to the folder of this script
    python3 tests/golden/make_lora_golden.py --check DIR [lora|dora]
                                                          loads an adapter that danlu saved (lora_test writes them to $DANLU_LORA_OUT/lora, /dora)
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


KINDS = {
    "lora": dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]),
    "dora": dict(r=2, lora_alpha=3, use_dora=True, target_modules=["k_proj", "down_proj"], rank_pattern={"layers.1.mlp.down_proj": 3}, alpha_pattern={"k_proj": 5}),
}


def make(out, kind):
    torch.manual_seed(3)
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **KINDS[kind]))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
        if "magnitude" in name:
            with torch.no_grad():
                p *= 1 + 0.1 * torch.randn_like(p)
    vocab = model.config.vocab_size
    tokens = torch.tensor([[(i * 37 + 5) % vocab for i in range(T)]])
    logits = model(tokens).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:])
    loss.backward()
    values = {"tokens": tokens[0].to(torch.int32), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            values["grad." + name.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")] = p.grad
    model.peft_config["default"].base_model_name_or_path = "llama"
    os.makedirs(os.path.join(out, kind), exist_ok=True)
    model.save_pretrained(os.path.join(out, kind), save_embedding_layers=False)
    readme = os.path.join(out, kind, "README.md")
    if os.path.exists(readme):
        os.remove(readme)
    made_by = f"make_lora_golden.py: torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    save_file({k: v.contiguous().clone() for k, v in values.items()}, os.path.join(out, kind, "golden.safetensors"), metadata={"made_by": made_by})


def check(folder, kind):
    model = PeftModel.from_pretrained(base(), folder)
    want = load_file(os.path.join(HERE, kind, "golden.safetensors"))
    with torch.no_grad():
        got = model(want["tokens"].long()[None]).logits[0]
    worst = (got - want["logits"]).abs().max().item()
    print(f"danlu's adapter in PEFT {peft.__version__}: largest difference {worst:.2e} of {want['logits'].abs().max().item():.3f}")
    sys.exit(0 if worst < 1e-5 else 1)


if __name__ == "__main__":
    if len(sys.argv) >= 3 and sys.argv[1] == "--check":
        check(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "lora")
    for what in KINDS:
        make(sys.argv[1] if len(sys.argv) > 1 else HERE, what)
