#!/usr/bin/env python3
"""Writes the golden values that danlu's models, recurrent layers and optimisers are compared with.

    python3 tests/golden/make_golden.py [OUT]        OUT defaults to the folder of this script

needs torch, transformers and safetensors; the versions used are stored in every file's metadata and in README.md.
The same versions on the same CPU family write the same bytes. Everything is computed in float32 on one CPU thread and,
before it is written, compared with the same computation in float64: a golden value is never noisier than NOISE.
"""
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import safetensors
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

NOISE = 1e-5                       # largest |f32 - f64| that a stored value may have
STD = 0.15                         # large enough that no layer's gradient is lost in rounding
V, B, T, STEPS = 96, 2, 16, 10
MADE_BY = (f"make_golden.py; torch {torch.__version__.split('+')[0]}; transformers {transformers.__version__}; "
           f"safetensors {safetensors.__version__}")


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(path, tensors):
    """One metadata key only: safetensors writes several keys in an order that changes from run to run."""
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata={"made_by": MADE_BY})
    os.chmod(path, 0o644)


def check_noise(what, single, double):
    worst = max((single[k].double() - double[k]).abs().max().item() for k in double)
    print(f"{what}: largest difference between float32 and float64 {worst:.2e}")
    if not worst < NOISE:
        sys.exit(f"{what}: float32 noise {worst:.2e} is above {NOISE}")


# ---- language models ------------------------------------------------------------------------------------------------

def gpt2():
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_positions=32, n_embd=32, n_layer=2, n_head=4, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
        attn_implementation="eager"))


def llama():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=32, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, attn_implementation="eager"))


def randomise(model, seed):
    """Biases and norm weights are random too: an implementation that forgets one must not pass."""
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            is_norm = p.dim() == 1 and name.endswith("weight")
            p.copy_(STD * randn(1000 * seed + i, *p.shape) + (1.0 if is_norm else 0.0))


def loss_of(model, tokens, targets):
    logits = model(input_ids=tokens.long(), use_cache=False).logits
    return logits, F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1).long())


def first_pass(model, tokens, targets):
    """Logits [B,T,V], loss [1] and the gradient of every parameter, before any update."""
    model.zero_grad()
    logits, loss = loss_of(model, tokens, targets)
    loss.backward()
    out = {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out.update({"grad." + n: p.grad.clone() for n, p in model.named_parameters()})
    return out


def adamw_losses(model, tokens, targets):
    """STEPS steps on one batch; returns the loss before each and after the last, [STEPS + 1]."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(model, tokens, targets)[1]
        loss.backward()
        losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    losses.append(loss_of(model, tokens, targets)[1].detach())
    return {"adamw.losses": torch.stack(losses)}


def greedy(model, prompt, count):
    """The `count` most likely next ids, one at a time without a cache, and the smallest lead of a winner."""
    ids, lead = prompt.reshape(1, -1).long(), float("inf")
    with torch.no_grad():
        for _ in range(count):
            top = model(input_ids=ids, use_cache=False).logits[0, -1].topk(2)
            lead = min(lead, (top.values[0] - top.values[1]).item())
            ids = torch.cat([ids, top.indices[:1].reshape(1, 1)], 1)
    return ids[0, prompt.numel():].int(), lead


def language_model(out, name, make, seed):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    model = make()
    randomise(model, seed)
    model.eval()
    model.save_pretrained(folder)
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)                 # says nothing that config.json does not
    ids = torch.randint(0, V, (2, B, T), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    tokens, targets = ids[0], ids[1]
    prompt = tokens[0, :6]
    continuation, lead = greedy(model, prompt, 12)
    print(f"{name}: greedy winners lead by at least {lead:.3f}")
    if lead < 1e-3:
        sys.exit(f"{name}: a greedy choice is a near tie, choose another seed")

    twin = make().double()
    twin.load_state_dict(model.state_dict())
    twin.eval()
    single = {**first_pass(model, tokens, targets), **adamw_losses(model, tokens, targets)}
    double = {**first_pass(twin, tokens, targets), **adamw_losses(twin, tokens, targets)}
    check_noise(name, single, double)
    save(os.path.join(folder, "golden.safetensors"),
         {"tokens": tokens, "targets": targets, "greedy.prompt": prompt, "greedy.ids": continuation, **single})


# ---- recurrent layers -----------------------------------------------------------------------------------------------

def recurrent_case(kind, dtype, with_state):
    """One layer, time major: x [7,3,5] -> y [7,3,6]; the gradients are those of sum(y * dy) (+ the final states')."""
    t, b, i, h, seed = 7, 3, 5, 6, 50 if kind == "lstm" else 70
    layer = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(i, h).to(dtype)
    with torch.no_grad():
        for k, p in enumerate(layer.parameters()):
            p.copy_(0.5 * randn(seed + k, *p.shape))
    x = randn(seed + 10, t, b, i).to(dtype).requires_grad_()
    dy = randn(seed + 11, t, b, h).to(dtype)
    states = ["h", "c"] if kind == "lstm" else ["h"]
    first = [randn(seed + 12 + k, 1, b, h).to(dtype).requires_grad_() for k in range(len(states))]
    given = (tuple(first) if kind == "lstm" else first[0]) if with_state else None
    y, last = layer(x, given)
    last = last if kind == "lstm" else (last,)
    scalar = (y * dy).sum()
    out = {"x": x, "y": y, "dy": dy}
    for k, s in enumerate(states):
        out[s + "n"] = last[k]
        if with_state:
            out[s + "0"], out[f"d{s}n"] = first[k], randn(seed + 20 + k, 1, b, h).to(dtype)
            scalar = scalar + (last[k] * out[f"d{s}n"]).sum()
    scalar.backward()
    out.update({n: p for n, p in layer.named_parameters()})
    out.update({"grad." + n: p.grad for n, p in layer.named_parameters()})
    out["grad.x"] = x.grad
    if with_state:
        out.update({f"grad.{s}0": first[k].grad for k, s in enumerate(states)})
    return {f"{kind}{'_state' if with_state else ''}.{k}": v.detach() for k, v in out.items()}


def recurrent(out):
    single, double = {}, {}
    for kind in "lstm", "gru":
        for with_state in False, True:
            single.update(recurrent_case(kind, torch.float32, with_state))
            double.update(recurrent_case(kind, torch.float64, with_state))
    check_noise("rnn", single, double)
    save(os.path.join(out, "rnn.safetensors"), single)


# ---- optimisers -----------------------------------------------------------------------------------------------------

OPTIMISERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}


def optimiser_trace(make, x0, grads):
    x = x0.clone().requires_grad_()
    optimiser, trace = make([x]), []
    for g in grads:
        x.grad = g.clone()
        optimiser.step()
        trace.append(x.detach().clone())
    return torch.stack(trace)


def optimisers(out):
    n, steps = 13, 20                         # 13: no multiple of any vector width
    x0, grads = randn(90, n), randn(91, steps, n) * torch.logspace(-3, 1, n)
    single = {"x0": x0, "grads": grads}
    double = {"x0": x0.double(), "grads": grads.double()}
    for name, make in OPTIMISERS.items():
        single[name + ".x"] = optimiser_trace(make, x0, grads)
        double[name + ".x"] = optimiser_trace(make, x0.double(), grads.double())
    check_noise("optim", single, double)
    save(os.path.join(out, "optim.safetensors"), single)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    language_model(out, "gpt2", gpt2, seed=1)
    language_model(out, "llama", llama, seed=2)
    recurrent(out)
    optimisers(out)
    print(MADE_BY)


if __name__ == "__main__":
    main()
