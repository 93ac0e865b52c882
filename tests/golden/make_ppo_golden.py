#!/usr/bin/env python3
"""Writes ppo/golden.safetensors: one PPO update of the model in llama/ with a critic, computed by torch's autograd.

    python3 tests/golden/make_ppo_golden.py [OUT]         OUT defaults to the folder of this script

needs torch, transformers and safetensors.  Policy: llama/.  Reference: the same with every weight times 0.98.  Critic: the trunk of the same
and "score" as head.  Seven answers of different lengths, two of which did not end; KL in the reward, GAE, both whitenings, two epochs of
two minibatches in the order of danlu's shuffle (Philox, written anew here), clipped losses, the pre-training mix, AdamW with clipping.
Everything is computed in float32 on one thread and again in float64; a difference of more than 1e-5 is refused.
"""
import copy
import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
SEED, UPDATE = 5, 0
BETA, GAMMA, LAMBDA, CLIP, VALUE_CLIP, VF, PENALTY, PTX = 0.05, 0.99, 0.95, 0.03, 0.02, 0.5, 0.7, 0.4
EPOCHS, MINIBATCHES, PTX_WINDOWS = 2, 2, 2
LR, CRITIC_LR, EPS, MAX_NORM = 1e-3, 2e-3, 1e-5, 1.0
EVERY = 13                                     # of the updated parameters, one in so many is stored


def philox(seed, stream, counter):
    m = 0xFFFFFFFF
    c, k = [counter & m, counter >> 32, stream & m, stream >> 32], [seed & m, seed >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & m, (p0 >> 32) ^ c[3] ^ k[1], p0 & m]
        k = [(k[0] + 0x9E3779B9) & m, (k[1] + 0xBB67AE85) & m]
    return c


def shuffled(n, seed, which, epoch):
    at = [0]
    stream = (0x5F7 + which) << 40 | epoch

    def u32():
        v = philox(seed, stream, at[0] >> 2)[at[0] & 3]
        at[0] += 1
        return v

    def below(k):
        while True:
            u = u32() | u32() << 32
            if u >= (1 << 64) % k:
                return u % k
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        k = below(i + 1)
        order[i], order[k] = order[k], order[i]
    return order


class Critic(torch.nn.Module):
    def __init__(self, lm, score):
        super().__init__()
        self.model, self.score = copy.deepcopy(lm.model), torch.nn.Parameter(score.clone())

    def forward(self, ids):
        return (self.model(ids).last_hidden_state @ self.score.T)[0, :, 0]


def logps(lm, ep):
    ids = torch.tensor([ep["ids"]])
    lp = torch.log_softmax(lm(ids).logits[0], -1)
    return torch.stack([lp[i - 1, ep["ids"][i]] for i in range(ep["prompt"], len(ep["ids"]))])


def values(critic, ep):
    return critic(torch.tensor([ep["ids"]]))[ep["prompt"] - 1:-1]


def whiten(x, shift):
    y = (x - x.mean()) * torch.rsqrt(x.var(unbiased=True) + 1e-8)
    return y if shift else y + x.mean()


def episodes(vocab):
    g = torch.Generator().manual_seed(11)
    out = []
    for n, prompt, ended, score in ((12, 4, 1, .8), (7, 3, 1, -.4), (20, 6, 0, .3), (9, 1, 1, 1.2), (16, 5, 0, -1.), (5, 4, 1, .1), (11, 2, 1, .5)):
        out.append({"ids": torch.randint(3, vocab, (n,), generator=g).tolist(), "prompt": prompt, "ended": ended, "score": score})
    windows = [torch.randint(3, vocab, (n,), generator=g).tolist() for n in (14, 9, 17)]
    return out, windows


def run(dtype):
    torch.set_num_threads(1)
    policy = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "llama"), dtype=torch.float32, attn_implementation="eager").to(dtype).eval()
    ref = copy.deepcopy(policy)
    with torch.no_grad():
        for p in ref.parameters():
            p.mul_(torch.tensor(0.98, dtype=torch.float32).to(dtype))
    score = torch.randn(1, policy.config.hidden_size, generator=torch.Generator().manual_seed(12)) * 0.1
    critic = Critic(policy, score.to(dtype)).eval()
    eps, windows = episodes(policy.config.vocab_size)
    out = {"score": score}

    with torch.no_grad():
        old, refs, vals = [[f(m, ep) for ep in eps] for f, m in ((logps, policy), (logps, ref), (values, critic))]
    rewards = []
    for ep, o, r in zip(eps, old, refs):
        w = -BETA * (o - r)
        w[-1] += ep["score"] - (0 if ep["ended"] else PENALTY)
        rewards.append(w)
    lengths = [len(w) for w in rewards]
    rewards = list(torch.split(whiten(torch.cat(rewards), False), lengths))
    advantages, returns = [], []
    for w, v in zip(rewards, vals):
        a = torch.zeros_like(w)
        for t in range(len(w)):                # the direct sum, not the recursion
            for k in range(t, len(w)):
                a[t] += (GAMMA * LAMBDA) ** (k - t) * (w[k] + GAMMA * (v[k + 1] if k + 1 < len(w) else 0) - v[k])
        advantages.append(a)
        returns.append(a + v)
    advantages = list(torch.split(whiten(torch.cat(advantages), True), lengths))
    for name, x in (("old", old), ("ref", refs), ("value", vals), ("reward", rewards), ("advantage", advantages), ("returns", returns)):
        out[name] = torch.cat(x)
    out["objective"] = torch.stack([sum((o - r).sum() for o, r in zip(old, refs)) / len(eps), sum(-o.sum() for o in old) / len(eps),
                                    sum(torch.tensor(ep["score"] - (0 if ep["ended"] else PENALTY), dtype=dtype) for ep in eps) / len(eps)])

    def groups(m):
        decayed = [p for p in m.parameters() if p.dim() >= 2]
        return [{"params": decayed, "weight_decay": 0.01}, {"params": [p for p in m.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups(policy), lr=LR, betas=(0.9, 0.95), eps=EPS)
    vopt = torch.optim.AdamW(groups(critic), lr=CRITIC_LR, betas=(0.9, 0.95), eps=EPS)
    stats, taken = [], 0
    losses = {"policy_loss": [None] * len(eps), "value_loss": [None] * len(eps)}      # per token, as the last epoch sees them
    for epoch in range(EPOCHS):
        order = shuffled(len(eps), SEED, 3, UPDATE * EPOCHS + epoch)
        for m in range(MINIBATCHES):
            which = order[len(eps) * m // MINIBATCHES:len(eps) * (m + 1) // MINIBATCHES]
            new = torch.cat([logps(policy, eps[i]) for i in which])
            v = torch.cat([values(critic, eps[i]) for i in which])
            lo, a, vo, ret = [torch.cat([x[i] for i in which]) for x in (old, advantages, vals, returns)]
            ratio = torch.exp(new - lo)
            pg = torch.maximum(-a * ratio, -a * torch.clamp(ratio, 1 - CLIP, 1 + CLIP))
            near = torch.clamp(v, vo - VALUE_CLIP, vo + VALUE_CLIP)
            vl = 0.5 * torch.maximum((v - ret) ** 2, (near - ret) ** 2)
            for name, x in (("policy_loss", pg), ("value_loss", vl)):
                for i, part in zip(which, torch.split(x.detach(), [lengths[i] for i in which])):
                    losses[name][i] = part
            opt.zero_grad()
            vopt.zero_grad()
            pg.mean().backward()
            (VF * vl.mean()).backward()
            ppo_norm = torch.sqrt(sum((p.grad ** 2).sum() for p in policy.parameters()))
            before = [p.grad.clone() for p in policy.parameters()]
            texts = [windows[shuffled(len(windows), SEED, 4, (taken + k) // len(windows))[(taken + k) % len(windows)]] for k in range(PTX_WINDOWS)]
            taken += PTX_WINDOWS
            ptx = -torch.cat([logps(policy, {"ids": t, "prompt": 1}) for t in texts]).mean()
            (PTX * ptx).backward()
            ptx_norm = torch.sqrt(sum(((p.grad - b) ** 2).sum() for p, b in zip(policy.parameters(), before)))
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_NORM)
            vnorm = torch.nn.utils.clip_grad_norm_(critic.parameters(), MAX_NORM)
            opt.step()
            vopt.step()
            clipped = (torch.clamp(ratio, 1 - CLIP, 1 + CLIP) * -a > -a * ratio).to(dtype).mean()
            vclipped = ((near - ret) ** 2 > (v - ret) ** 2).to(dtype).mean()
            stats.append(torch.stack([x.detach() for x in (pg.mean(), vl.mean(), 0.5 * ((new - lo) ** 2).mean(), clipped, vclipped, ratio.mean(), ptx, norm, vnorm, ppo_norm, ptx_norm)]))
    out["minibatches"] = torch.stack(stats)
    for name, x in losses.items():
        out[name] = torch.cat(x)
    for name, p in policy.named_parameters():
        out["policy." + name] = p.detach().reshape(-1)[::EVERY]
    for name, p in critic.named_parameters():
        out["critic." + name.replace("score", "score.weight")] = p.detach().reshape(-1)[::EVERY]
    ids = [i for ep in eps for i in ep["ids"]]
    out["ids"], out["windows"] = torch.tensor(ids), torch.tensor([i for w in windows for i in w])
    out["shape"] = torch.tensor([[len(ep["ids"]), ep["prompt"], ep["ended"]] for ep in eps])
    out["scores"] = torch.tensor([ep["score"] for ep in eps])
    out["window_lengths"] = torch.tensor([len(w) for w in windows])
    return out


def main(out):
    got, exact = run(torch.float32), run(torch.float64)
    worst = max((got[k].double() - exact[k].double()).abs().max().item() for k in got)
    print(f"largest difference from float64: {worst:.2e}")
    if worst > 1e-5:
        sys.exit("too much")
    values = {k: (v if v.dtype.is_floating_point else v.to(torch.int32)).contiguous().clone() for k, v in got.items()}
    os.makedirs(os.path.join(out, "ppo"), exist_ok=True)
    save_file(values, os.path.join(out, "ppo", "golden.safetensors"),
              metadata={"made_by": f"make_ppo_golden.py: torch {torch.__version__}, transformers {transformers.__version__}"})
    print("clipped:", got["minibatches"][:, 3:5].tolist())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
