"""The formulas of attention on pictures, written apart from the package: float64, place by place."""

import math

import torch


def _par(module):
    return {key: value.double() for key, value in module.named_parameters()}


def _sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def _mlp(p, x):
    inner = (x @ p["down.weight"].T + p["down.bias"]).clamp(min=0)
    return inner @ p["up.weight"].T + p["up.bias"]


def squeeze_excite(module, x):
    x = x.double()
    return x * _sigmoid(_mlp(_par(module), x.flatten(2).sum(-1) / x[0, 0].numel()))[..., None, None]


def eca(module, x):
    x = x.double()
    taps = module.conv.weight.double().flatten()
    side = len(taps) // 2
    means = x.flatten(2).mean(-1)
    rows = []
    for c in range(x.shape[1]):
        near = [n for n in range(len(taps)) if 0 <= c + n - side < x.shape[1]]
        rows.append(sum(taps[n] * means[:, c + n - side] for n in near))
    return x * _sigmoid(torch.stack(rows, 1))[..., None, None]


def cbam(module, x):
    p, x = _par(module), x.double()
    flat = x.flatten(2)
    x = x * _sigmoid(_mlp(p, flat.mean(-1)) + _mlp(p, flat.max(-1).values))[..., None, None]
    both = torch.stack([x.mean(1), x.max(1).values], 1)  # [B, 2, H, W]
    w = p["place.weight"][0]
    side = w.shape[-1] // 2
    height, width = x.shape[2:]
    score = torch.zeros(x.shape[0], height, width, dtype=torch.float64)
    rows = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            for a in range(max(0, i - side), min(height, i + side + 1)):
                for b in range(max(0, j - side), min(width, j + side + 1)):
                    rows[i][j] = rows[i][j] + (both[:, :, a, b] * w[:, a - i + side, b - j + side]).sum(1)
    score = torch.stack([torch.stack(row, -1) for row in rows], 1)  # [B, H, W]
    return x * _sigmoid(score)[:, None]


def _weights_along(old, new):
    """[new, old]: bilinear interpolation with half-pixel centres, by its definition."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        source = max((i + 0.5) * old / new - 0.5, 0.0)
        low = min(math.floor(source), old - 1)
        high = min(low + 1, old - 1)
        matrix[i, low] += 1 - (source - low)
        matrix[i, high] += source - low
    return matrix


def resized(x, height, width):
    rows, columns = _weights_along(x.shape[2], height), _weights_along(x.shape[3], width)
    return torch.einsum("ih,bchw,jw->bcij", rows, x, columns)


def additive_gate(module, skip, gating):
    p, skip, gating = _par(module), skip.double(), gating.double()
    step = p["of_skip.weight"].shape[-1]
    height, width = skip.shape[2] // step, skip.shape[3] // step
    cut = skip[:, :, : height * step, : width * step].unflatten(3, (width, step)).unflatten(2, (height, step))
    own = torch.einsum("bchiwj,ocij->bohw", cut, p["of_skip.weight"])
    other = torch.einsum("bchw,oc->bohw", gating, p["of_gating.weight"][:, :, 0, 0])
    other = resized(other + p["of_gating.bias"][:, None, None], height, width)
    score = torch.einsum("bohw,o->bhw", (own + other).clamp(min=0), p["score.weight"].flatten())
    return skip * resized(_sigmoid(score + p["score.bias"])[:, None], *skip.shape[2:])


def _heads(attention, x):
    """Projected q, k, v [B, H, T, D] of ``x`` [B, T, C]."""
    p = _par(attention)
    heads, kv, width = attention.heads, attention.kv_heads, attention.head_dim
    y = (x @ p["qkv.weight"].T + p["qkv.bias"]).unflatten(-1, (heads + 2 * kv, width)).transpose(1, 2)
    q, k, v = y.split((heads, kv, kv), 1)
    return q, k.repeat_interleave(heads // kv, 1), v.repeat_interleave(heads // kv, 1)


def _out(attention, y):
    p = _par(attention)
    return y.transpose(1, 2).flatten(2) @ p["out.weight"].T + p["out.bias"]


def _plain(attention, x):
    q, k, v = _heads(attention, x)
    return _out(attention, torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v)


def axial(module, x):
    x = x.double()
    rows = torch.stack([_plain(module.rows, x[:, i]) for i in range(x.shape[1])], 1)
    return torch.stack([_plain(module.columns, rows[:, :, j]) for j in range(x.shape[2])], 2)


def shifted_window(module, x):
    """All places at once: two see each other when they lie in one window of the moved borders."""
    x = x.double()
    _, height, width, _ = x.shape
    q, k, v = _heads(module.attention, x.flatten(1, 2))
    w = module.window
    down, right = (module.shift if length > w else 0 for length in (height, width))
    i, j = torch.arange(height * width) // width, torch.arange(height * width) % width
    row = torch.div(i - down, w, rounding_mode="floor")
    column = torch.div(j - right, w, rounding_mode="floor")
    same = (row[:, None] == row) & (column[:, None] == column)
    score = q @ k.mT / math.sqrt(q.shape[-1])
    if module.attention.position is not None:
        table = module.attention.position.weight.double().view(2 * w - 1, 2 * w - 1, -1)
        away = (i[:, None] - i).clamp(1 - w, w - 1) + w - 1, (j[:, None] - j).clamp(1 - w, w - 1) + w - 1
        score = score + table[away].permute(2, 0, 1)
    weights = torch.softmax(score.masked_fill(~same, -1e300), -1)
    return _out(module.attention, weights @ v).view(x.shape)


def deformable(module, x, reference, memory, sizes, keep=None):
    """Every corner of every point by its definition; references, also, as given."""
    p = _par(module)
    x, reference, memory = x.double(), reference.double(), memory.double()
    batch, queries, width = x.shape
    heads, levels, points = module.heads, module.levels, module.points
    value = memory @ p["value.weight"].T + p["value.bias"]
    if keep is not None:
        value = value * keep[..., None]
    value = value.view(batch, -1, heads, width // heads)
    shape = batch, queries, heads, levels, points
    weight = (x @ p["weight.weight"].T + p["weight.bias"]).view(batch, queries, heads, -1).softmax(-1)
    weight = weight.view(shape)
    offset = (x @ p["offset.weight"].T + p["offset.bias"]).view(*shape, 2)
    if reference.ndim == 3:
        reference = reference[:, :, None].expand(-1, -1, levels, -1)
    out, start = torch.zeros(batch, queries, heads, width // heads, dtype=torch.float64), 0
    b = torch.arange(batch)[:, None, None]
    h = torch.arange(heads)
    for level, (rows, columns) in enumerate(sizes):
        mine = reference[:, :, None, level]  # [B, Q, 1, 2 or 4]
        for point in range(points):
            step = offset[:, :, :, level, point]  # [B, Q, H, 2]
            if reference.shape[-1] == 4:
                at = mine[..., :2] + step / points * mine[..., 2:] / 2
                column, row = at[..., 0] * columns - 0.5, at[..., 1] * rows - 0.5
            else:
                column = mine[..., 0] * columns + step[..., 0] - 0.5
                row = mine[..., 1] * rows + step[..., 1] - 0.5
            for i in (0, 1):
                for j in (0, 1):
                    r, c = row.detach().floor() + i, column.detach().floor() + j
                    share = (1 - (row - r).abs()) * (1 - (column - c).abs())
                    inside = (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
                    number = (start + r * columns + c).clamp(0, memory.shape[1] - 1).long()
                    seen = value[b, number, h] * inside[..., None]  # [B, Q, H, D]
                    out = out + (weight[:, :, :, level, point] * share)[..., None] * seen
        start += rows * columns
    return out.flatten(2) @ p["out.weight"].T + p["out.bias"]
