"""The formulas of attention, written apart from the package: float64, element by element where it helps."""

import math

import torch

from attncli.attention.patterns import drawn


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


PRODUCTS = (
    "scaled_dot", "window", "topk", "sparsemax", "entmax15", "entmax", "sinks", "sigmoid", "talking_heads",
    "dilated", "longformer", "bigbird", "lsh", "adaptive_span", "convolution", "gated", "retention", "gla",
)  # fmt: skip
PAIRED = ("differential", "global_local")
WHOLE = ("linformer", "nystrom")
"""Without weights for each pair."""


def _scaled(q, k):
    return torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])


def _paired_weights(name, module, q, k, par, allowed):
    if name == "global_local":
        i, j = places(q.shape[2], k.shape[2])
        near = softmax_rows(_scaled(q, k), allowed & ((i - j).abs() <= module.window))
        g = torch.sigmoid(par["gate"])[:, None, None]
        return g * softmax_rows(_scaled(q, k), allowed) + (1 - g) * near
    half = q.shape[-1] // 2
    a1, b1, a2, b2 = par["vectors"]
    share = torch.exp((a1 * b1).sum()) - torch.exp((a2 * b2).sum()) + 0.8
    first, second = (
        softmax_rows(_scaled(q[..., c], k[..., c]), allowed) for c in (slice(half), slice(half, None))
    )
    return first - share * second


def places(tq, tk):
    return torch.arange(tq)[:, None] + tk - tq, torch.arange(tk)[None]


def rule_of(name, module, tq, tk, q, k):
    """What a sparse mechanism lets a query see, pair by pair."""
    i, j = places(tq, tk)
    away = (i - j).abs()
    if name == "window":
        return away <= module.window.left
    if name == "dilated":
        return (away <= module.options["window"] * module.options["dilation"]) & (
            away % module.options["dilation"] == 0
        )
    if name == "longformer":
        g = module.options["global_tokens"]
        return (away <= module.options["window"]) | (i < g) | (j < g)
    if name == "bigbird":
        size, first = module.options["block"], module.options["global_blocks"]
        found = torch.zeros(tq, tk, dtype=torch.bool)
        for row in range(tq):
            a = (row + tk - tq) // size
            random = [int(drawn(torch.tensor(a), n)) for n in range(module.options["random_blocks"])]
            assert all(0 <= block < 2 * a + 2 for block in random)
            for col in range(tk):
                b = col // size
                found[row, col] = abs(a - b) <= 1 or a < first or b < first or b in random
        return found
    if name == "lsh":
        found = (i == j).expand(*q.shape[:2], tq, tk)
        for turn in module.rotations:
            buckets = [torch.cat([x @ turn.double(), -x @ turn.double()], -1).argmax(-1) for x in (q, k)]
            found = found | (buckets[0][..., :, None] == buckets[1][..., None, :])
        return found
    return torch.ones(tq, tk, dtype=torch.bool)


def repeat_heads(x, heads):
    return torch.stack([x[:, h // (heads // x.shape[1])] for h in range(heads)], 1)


def weights_of(name, module, q, k, allowed, bias=0.0):
    """Weights [B, H, Tq, Tk] in float64 of the mechanism ``name`` with the parameters of ``module``."""
    q = q.double()
    k = repeat_heads(k.double(), q.shape[1])
    par = {key: value.double() for key, value in module.named_parameters()}
    if name in PAIRED:
        return _paired_weights(name, module, q, k, par, allowed)
    if name in PRODUCTS:
        s = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
        if name == "gla":
            s = _gla_scores(module, q, k, par)
        if name == "talking_heads":
            s = torch.einsum("gh,bhqk->bgqk", par["before"], s)
    elif name == "concat":
        width, tq, tk = q.shape[-1], q.shape[2], k.shape[2]
        left = q[:, :, :, None].expand(-1, -1, -1, tk, -1)
        both = torch.cat([left, k[:, :, None].expand(-1, -1, tq, -1, -1)], -1)
        assert both.shape[-1] == 2 * width
        inner = torch.tanh(torch.einsum("hde,bhqke->bhqkd", par["hidden"], both))
        s = torch.einsum("hd,bhqkd->bhqk", par["score"], inner)
    elif name in ("linear", "cosformer", "performer"):
        s = _kernel_scores(name, module, q, k)
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
    allowed = allowed & rule_of(name, module, tq, tk, q, k)
    i, j = places(tq, tk)
    if name == "topk":
        rank = torch.where(allowed, s, torch.full_like(s, -1e300)).argsort(-1, descending=True).argsort(-1)
        allowed = allowed & (rank < module.topk)
    if name in ("linear", "cosformer", "performer"):
        s = torch.where(allowed, s, 0.0)
        total = s.sum(-1, keepdim=True)
        return s / total.clamp(min=1e-30 if name == "performer" else 1e-6)
    if name == "gla":
        return torch.where(allowed, s, 0.0)
    if name == "retention":
        rate = 1 - torch.tensor([2.0 ** (-5 - h) for h in range(s.shape[1])], dtype=s.dtype)
        return torch.where(allowed, s, 0.0) * rate[:, None, None] ** (i - j).abs()
    if name == "adaptive_span":
        reach = par["share"].clamp(0, 1)[:, None, None] * module.span
        seen = ((module.ramp + reach - (i - j).abs()) / module.ramp).clamp(0, 1)
        power = softmax_rows(s, allowed & (seen > 0)) * seen
        total = power.sum(-1, keepdim=True)
        return power / torch.where(total > 0, total, 1.0)
    if name == "convolution":
        side = module.kernel // 2
        taps = par["taps"][:, (j - i).clamp(-side, side) + side]
        near = softmax_rows(taps.expand_as(s), allowed & ((i - j).abs() <= side))
        g = torch.sigmoid(par["gate"])[:, None, None]
        return g * softmax_rows(s, allowed) + (1 - g) * near
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


def _gla_scores(module, q, k, par):
    """Products pair by pair, with the product of all gates between the two."""
    group = q.shape[1] // module.kv_heads
    i, j = places(q.shape[2], k.shape[2])
    t = torch.arange(k.shape[2])
    between = ((t > torch.minimum(i, j)[..., None]) & (t <= torch.maximum(i, j)[..., None])).double()
    heads = []
    for h in range(q.shape[1]):
        gate = torch.sigmoid(k[:, h] @ par["weight"][h // group] + par["bias"][h // group]) ** (1 / 16)
        passed = torch.exp(torch.einsum("qkt,btd->bqkd", between, gate.clamp(min=math.exp(-4)).log()))
        heads.append(torch.einsum("bqd,bkd,bqkd->bqk", q[:, h], k[:, h], passed))
    return torch.stack(heads, 1) / math.sqrt(q.shape[-1])


def _kernel_scores(name, module, q, k):
    if name == "linear":
        q, k = (torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0))) for x in (q, k))
        return torch.einsum("bhqd,bhkd->bhqk", q, k)
    if name == "cosformer":
        i, j = places(q.shape[2], k.shape[2])
        products = torch.einsum("bhqd,bhkd->bhqk", q.clamp(min=0), k.clamp(min=0))
        return products * torch.cos(math.pi / 2 * (i - j) / module.length)
    w = module.directions.double()
    q, k = (x / q.shape[-1] ** 0.25 for x in (q, k))
    q, k = (torch.einsum("bhtd,fd->bhtf", x, w) - (x * x).sum(-1, keepdim=True) / 2 for x in (q, k))
    return torch.einsum("bhqf,bhkf->bhqk", torch.exp(q), torch.exp(k))


def _linformer(module, q, k, v, allowed, par):
    keep = allowed[:, :1, :1].transpose(-1, -2).double()  # [B, 1, Tk, 1]
    group = q.shape[1] // par["key"].shape[0]
    out = []
    for h in range(q.shape[1]):
        e, f = (par[name][h // group][:, : k.shape[2]] for name in ("key", "value"))
        weights = torch.softmax(q[:, h] @ (e @ (k[:, h] * keep[:, 0])).mT / math.sqrt(q.shape[-1]), -1)
        out.append(weights @ (f @ (v[:, h] * keep[:, 0])))
    return torch.stack(out, 1) * allowed.any(-1, keepdim=True)


def _nystrom(module, q, k, v, allowed):
    """One batch entry and head at a time, over its real tokens alone."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b in range(q.shape[0]):
        keep = allowed[b, 0, 0]
        count = int(keep.sum())
        if not count:
            continue
        m = min(module.landmarks, count)
        member = torch.zeros(m, count, dtype=q.dtype)
        for rank in range(count):
            member[rank * m // count, rank] = 1
        member = member / member.sum(1, keepdim=True)
        for h in range(q.shape[1]):
            keys, values = k[b, h][keep], v[b, h][keep]
            queries = q[b, h][keep] / math.sqrt(q.shape[-1])
            rows = torch.softmax(q[b, h] / math.sqrt(q.shape[-1]) @ (member @ keys).mT, -1)
            if count <= module.landmarks:
                out[b, h] = rows @ values
                continue
            a = torch.softmax(member @ queries @ (member @ keys).mT, -1)
            z = a.mT / (a.abs().sum(1).max() * a.abs().sum(0).max())
            eye = torch.eye(m, dtype=q.dtype)
            for _ in range(6):
                az = a @ z
                z = z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
            out[b, h] = rows @ z @ torch.softmax(member @ queries @ keys.mT, -1) @ values
    return out


def attention_of(name, module, q, k, v, allowed, bias=0.0):
    heads = q.shape[1]
    par = {key: value.double() for key, value in module.named_parameters()}
    q, k, v = q.double(), repeat_heads(k.double(), heads), repeat_heads(v.double(), heads)
    if name == "linformer":
        return _linformer(module, q, k, v, allowed, par)
    if name == "nystrom":
        return _nystrom(module, q, k, v, allowed)
    out = weights_of(name, module, q, k, allowed, bias) @ v
    if name in ("retention", "gla"):
        return out / torch.sqrt((out**2).mean(-1, keepdim=True) + 1e-6)
    if name == "differential":
        return out / torch.sqrt((out**2).mean(-1, keepdim=True) + 1e-5) * par["norm"] * (1 - 0.8)
    if name == "gated":
        gate = torch.einsum("bhqd,hde->bhqe", q, par["weight"]) + par["bias"][:, None]
        return out * torch.sigmoid(gate)
    return out
