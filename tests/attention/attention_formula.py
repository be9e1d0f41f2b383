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


def sparsemax_rows(scores, allowed):
    """By the conditions of the optimum: tau from the largest support that keeps all its entries above it."""
    scores = torch.where(allowed, scores, torch.full_like(scores, -1e9))
    ranked = scores.sort(-1, descending=True).values
    sizes = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    taus = (ranked.cumsum(-1) - 1) / sizes
    size = (ranked > taus).sum(-1, keepdim=True)
    p = (scores - taus.gather(-1, size - 1)).clamp(min=0)
    return torch.where(allowed, p, torch.zeros_like(p))


class _Entmax(torch.autograd.Function):
    """Entmax by halving; the gradient by Peters et al. 2019 (scores) and by differences (alpha)."""

    @staticmethod
    def solve(scores, alpha):
        z = (alpha - 1) * scores
        low, high = z.max(-1, keepdim=True).values - 1, z.max(-1, keepdim=True).values
        for _ in range(100):
            middle = (low + high) / 2
            heavy = ((z - middle).clamp(min=0) ** (1 / (alpha - 1))).sum(-1, keepdim=True) >= 1
            low, high = torch.where(heavy, middle, low), torch.where(heavy, high, middle)
        p = (z - low).clamp(min=0) ** (1 / (alpha - 1))
        return p / p.sum(-1, keepdim=True)

    @staticmethod
    def forward(ctx, scores, alpha):
        p = _Entmax.solve(scores, alpha)
        ctx.save_for_backward(scores, alpha, p)
        return p

    @staticmethod
    def backward(ctx, grad):
        scores, alpha, p = ctx.saved_tensors
        s = torch.where(p > 0, p ** (2 - alpha), torch.zeros_like(p))
        ds = s * (grad - (s * grad).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))
        step = 1e-6
        slope = (_Entmax.solve(scores, alpha + step) - _Entmax.solve(scores, alpha - step)) / (2 * step)
        return ds, (grad * slope).sum((0, 2, 3)).view(alpha.shape)


def entmax_rows(scores, allowed, alpha):
    scores = torch.where(allowed, scores, torch.full_like(scores, -1e6))
    p = _Entmax.apply(scores, alpha)
    return torch.where(allowed, p, torch.zeros_like(p))


def repeat_heads(x, heads):
    return torch.stack([x[:, h // (heads // x.shape[1])] for h in range(heads)], 1)


def weights_of(name, module, q, k, allowed, bias=0.0):
    """Weights [B, H, Tq, Tk] in float64 of the mechanism ``name`` with the parameters of ``module``."""
    q = q.double()
    k = repeat_heads(k.double(), q.shape[1])
    par = {key: value.double() for key, value in module.named_parameters()}
    products = ("scaled_dot", "window", "topk", "sparsemax", "entmax15", "entmax", "sinks", "sigmoid")
    if name in products or name == "talking_heads":
        s = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
        if name == "talking_heads":
            s = torch.einsum("gh,bhqk->bgqk", par["before"], s)
    elif name == "concat":
        width, tq, tk = q.shape[-1], q.shape[2], k.shape[2]
        left = q[:, :, :, None].expand(-1, -1, -1, tk, -1)
        both = torch.cat([left, k[:, :, None].expand(-1, -1, tq, -1, -1)], -1)
        assert both.shape[-1] == 2 * width
        inner = torch.tanh(torch.einsum("hde,bhqke->bhqkd", par["hidden"], both))
        s = torch.einsum("hd,bhqkd->bhqk", par["score"], inner)
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
    if name == "sparsemax":
        return sparsemax_rows(s, allowed)
    if name == "entmax15":
        return entmax_rows(s, allowed, torch.full((s.shape[1], 1, 1), 1.5, dtype=s.dtype))
    if name == "entmax":
        return entmax_rows(s, allowed, 1 + torch.sigmoid(par["shape"])[:, None, None])
    if name == "sigmoid":
        seen = allowed.sum(-1, keepdim=True).clamp(min=1).double()
        return torch.where(allowed, torch.sigmoid(s - seen.log()), 0.0)
    if name == "sinks":
        power = torch.where(allowed, torch.exp(torch.where(allowed, s, 0.0)), 0.0)
        return power / (power.sum(-1, keepdim=True) + torch.exp(par["sink"])[:, None, None])
    if name == "talking_heads":
        return torch.einsum("gh,bhqk->bgqk", par["after"], softmax_rows(s, allowed)) * allowed
    return softmax_rows(s, allowed)


def attention_of(name, module, q, k, v, allowed, bias=0.0):
    v = repeat_heads(v.double(), q.shape[1])
    return weights_of(name, module, q, k, allowed, bias) @ v
