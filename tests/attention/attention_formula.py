"""The formulas of attention, written apart from the package: float64, element by element where it helps."""

import math

import torch


def softmax_rows(scores, allowed):
    """Softmax over allowed entries; rows without any are zero. Differentiable, never NaN."""
    scores = torch.where(allowed, scores, torch.full_like(scores, -1e300))
    top = scores.max(-1, keepdim=True).values.detach()
    power = torch.where(allowed, torch.exp(torch.where(allowed, scores - top, 0.0)), 0.0)
    total = power.sum(-1, keepdim=True)
    return power / torch.where(total > 0, total, 1.0)


def repeat_heads(x, heads):
    return torch.stack([x[:, h // (heads // x.shape[1])] for h in range(heads)], 1)


def weights_of(name, module, q, k, allowed, bias=0.0):
    """Weights [B, H, Tq, Tk] in float64 of the mechanism ``name`` with the parameters of ``module``."""
    q = q.double()
    k = repeat_heads(k.double(), q.shape[1])
    par = {key: value.double() for key, value in module.named_parameters()}
    if name in ("scaled_dot", "window", "topk"):
        s = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    elif name == "dot":
        s = torch.einsum("bhqd,bhkd->bhqk", q, k)
    elif name == "bilinear":
        s = torch.einsum("bhqd,hde,bhke->bhqk", q, par["weight"], k)
    elif name == "cosine":
        s = torch.einsum("bhqd,bhkd->bhqk", q, k)
        s = s / q.norm(dim=-1)[..., None] / k.norm(dim=-1)[:, :, None]
        s = s * torch.exp(par["log_scale"])[:, None, None]
    elif name == "additive":
        left = torch.einsum("bhqd,hde->bhqe", q, par["query"]) + par["bias"][:, None]
        key = torch.stack([par["key"][h // (q.shape[1] // module.kv_heads)] for h in range(q.shape[1])])
        right = torch.einsum("bhkd,hde->bhke", k, key)
        s = torch.einsum("bhqke,he->bhqk", torch.tanh(left[:, :, :, None] + right[:, :, None]), par["score"])
    else:
        raise KeyError(name)
    s = s + bias
    tq, tk = s.shape[-2:]
    if name == "window":
        i, j = torch.arange(tq)[:, None] + tk - tq, torch.arange(tk)[None]
        allowed = allowed & ((i - j).abs() <= module.window.left)
    if name == "topk":
        rank = torch.where(allowed, s, torch.full_like(s, -1e300)).argsort(-1, descending=True).argsort(-1)
        allowed = allowed & (rank < module.topk)
    return softmax_rows(s, allowed)


def attention_of(name, module, q, k, v, allowed, bias=0.0):
    v = repeat_heads(v.double(), q.shape[1])
    return weights_of(name, module, q, k, allowed, bias) @ v
