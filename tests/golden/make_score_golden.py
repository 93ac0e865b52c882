#!/usr/bin/env python3
"""Writes score/: models with a score head (...ForSequenceClassification, num_labels 1), an adapter with one, and what transformers and PEFT compute with them.

    python3 tests/golden/make_score_golden.py [OUT]       OUT defaults to the folder of this script
    python3 tests/golden/make_score_golden.py --check DIR
                                                          loads the models and the adapter that danlu saved (score_test writes them to $DANLU_SCORE_OUT) and
                                                          compares their scores with those of score/

llama/ and gpt2/ each have config.json, model.safetensors and golden.safetensors; adapter/ is of the model in llama/, which PEFT sees as one that classifies.
golden.safetensors: `tokens` i32 [3,T] and `length` i32 [3] (rows are filled with the pad token at the end), `logits` f32 [3] (what the model returns: the score
at the last token), `values` f32 [3,T] (score.weight times the final hidden state, at every token), `weights` f32 [3,T] (0 at padding), `grad.NAME`: of
sum of weights * values, without those of layer 1.  Needs torch, transformers, peft and safetensors.  Everything is computed in float32 on one thread.
"""
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, GPT2Config, LlamaConfig

HERE = os.path.dirname(os.path.abspath(__file__))
T, LENGTH, VOCAB = 12, [12, 5, 9], 40
KINDS = {
    "llama": LlamaConfig(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=32, num_labels=1, pad_token_id=0, tie_word_embeddings=False),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=32, num_labels=1, pad_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
}


def inputs():
    tokens = torch.zeros(len(LENGTH), T, dtype=torch.long)
    for i, n in enumerate(LENGTH):
        tokens[i, :n] = torch.tensor([(k * 7 + i * 5) % (VOCAB - 1) + 1 for k in range(n)])
    return tokens


def values_of(model, tokens):
    kept = {}
    score = model.base_model.model.score if isinstance(model, PeftModel) else model.score
    hook = score.register_forward_hook(lambda m, i, o: kept.update(v=o))
    logits = model(tokens, attention_mask=(tokens != 0).long()).logits
    hook.remove()
    return logits[:, 0], kept["v"][:, :, 0]


def golden(model, out):
    torch.manual_seed(11)
    tokens = inputs()
    logits, values = values_of(model, tokens)
    weights = torch.randn(values.shape) * (tokens != 0)
    (weights * values).sum().backward()
    want = {"tokens": tokens.to(torch.int32), "length": torch.tensor(LENGTH, dtype=torch.int32), "logits": logits.detach(), "values": values.detach() * (tokens != 0), "weights": weights}
    for name, p in model.named_parameters():
        if p.requires_grad and not any(x in name for x in ("layers.1.", ".h.1.")):
            want["grad." + name.replace(".default", "").replace("modules_to_save.", "")] = p.grad
    made_by = f"make_score_golden.py: torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    save_file({k: v.contiguous().clone() for k, v in want.items()}, os.path.join(out, "golden.safetensors"), metadata={"made_by": made_by})


def random_weights(model, std):
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            torch.nn.init.normal_(p, std=std)
        elif "ln" in name or "norm" in name:
            with torch.no_grad():
                p += 0.1 * torch.randn_like(p)


def load(path):
    return AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


def make(out):
    torch.set_num_threads(1)
    for kind, config in KINDS.items():
        torch.manual_seed(5)
        folder = os.path.join(out, "score", kind)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        random_weights(model, 0.2)
        model.save_pretrained(folder)
        golden(load(folder).eval(), folder)
    folder = os.path.join(out, "score", "adapter")
    torch.manual_seed(6)
    model = get_peft_model(load(os.path.join(out, "score", "llama")), LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=5, lora_dropout=0.0, target_modules=["q_proj", "down_proj"]))
    for name, p in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(p, std=0.2)
    os.makedirs(folder, exist_ok=True)
    golden(model, folder)
    model.peft_config["default"].base_model_name_or_path = "llama"
    model.save_pretrained(folder, save_embedding_layers=False)
    readme = os.path.join(folder, "README.md")
    if os.path.exists(readme):
        os.remove(readme)


def check(folder):
    failed = False
    for kind in ("llama", "gpt2", "adapter"):
        base = os.path.join(HERE, "score", "llama")
        path = os.path.join(folder, kind)
        model = PeftModel.from_pretrained(load(base), path) if kind == "adapter" else load(path)
        want = load_file(os.path.join(HERE, "score", kind, "golden.safetensors"))
        with torch.no_grad():
            logits, _ = values_of(model.eval(), want["tokens"].long())
        worst = (logits - want["logits"]).abs().max().item()
        print(f"{kind}: danlu's file in transformers {transformers.__version__}: largest difference {worst:.2e} of {want['logits'].abs().max().item():.3f}")
        failed |= not worst < 1e-5
    sys.exit(failed)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        check(sys.argv[2])
    make(sys.argv[1] if len(sys.argv) > 1 else HERE)
