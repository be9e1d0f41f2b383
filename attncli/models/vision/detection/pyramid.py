"""Maps of several scales of which each knows what the others saw.

Lin et al. 2017, "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144

Legend: B pictures, C channels, h heads, L levels; H, W of one level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.recording import recorders

Maps = dict[int, Tensor]
"""By level: level l has a stride of 2^l pixels."""


class Pyramid(nn.Module):
    """A backbone's maps as maps of ``channels`` each, levels ``lowest`` to ``highest``.

    Levels beyond the backbone's are made by convolutions with a stride of two. ``fusion``: ``plain``
    adds to each map the next coarser one; ``attention`` is :class:`ScaleAttention`.
    """

    def __init__(
        self, inputs: dict[int, int], channels: int, lowest: int, highest: int, fusion: str = "plain"
    ) -> None:
        super().__init__()
        self.levels = list(range(lowest, highest + 1))
        self.lateral = nn.ModuleDict(
            {str(level): nn.Conv2d(inputs[level], channels, 1) for level in self.levels if level in inputs}
        )
        coarser = [level for level in self.levels if level not in inputs]
        self.down = nn.ModuleDict({str(level): nn.Conv2d(channels, channels, 3, 2, 1) for level in coarser})
        self.fusion = ScaleAttention(channels, len(self.lateral)) if fusion == "attention" else None
        self.smooth = nn.ModuleDict({name: nn.Conv2d(channels, channels, 3, 1, 1) for name in self.lateral})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Maps) -> Maps:
        """Maps by level, [B, C', H, W], to maps of the pyramid's levels, [B, C, H, W]."""
        found = {int(name): conv(maps[int(name)]) for name, conv in self.lateral.items()}
        if self.fusion is not None:
            found = self.fusion(found)
        else:
            for level in sorted(found, reverse=True)[1:]:
                found[level] = found[level] + resized(found[level + 1], found[level].shape[2:])
        found = {level: self.smooth[str(level)](x) for level, x in found.items()}
        for name, conv in self.down.items():
            found[int(name)] = conv(found[int(name) - 1])
        return found


def resized(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """[B, C, H, W] at another size: larger by repeating, smaller by means."""
    if x.shape[2:] == tuple(size):
        return x
    if x.shape[2] < size[0] or x.shape[3] < size[1]:
        return F.interpolate(x, size=tuple(size), mode="nearest")
    return F.adaptive_avg_pool2d(x, tuple(size))


class ScaleAttention(nn.Module):
    """Each place of each map attends to what all maps hold for it: scaled dot product over the scales.

        out_l = x_l + out(sum_m a_m v_m),   a = softmax_m(q_l . k_m / sqrt(D) + b_lm)

    ``k_m`` and ``v_m`` of the other maps are brought to the place by repeating or averaging; ``b`` [L, L], of
    each head, says what a scale makes of another before it looks. The sum over so few keys is computed at all
    places at once; recorded weights are [B, h, H W, L], level by level.
    """

    def __init__(self, channels: int, levels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.bias = nn.Parameter(torch.zeros(heads, levels, levels))

    def forward(self, maps: Maps) -> Maps:
        """[B, C, H, W] each, to the same."""
        parts = {level: self.qkv(x).chunk(3, 1) for level, x in maps.items()}
        found = {}
        for row, (level, (q, _, _)) in enumerate(parts.items()):
            size = q.shape[2:]
            scale = 1 / math.sqrt(q.shape[1] // self.heads)
            scores, values = [], []
            for column, (_, k, v) in enumerate(parts.values()):
                met = (q * resized(k, size)).unflatten(1, (self.heads, -1)).sum(2)  # [B, h, H, W]
                scores.append(met.float() * scale + self.bias[:, row, column].view(1, -1, 1, 1))
                values.append(resized(v, size).unflatten(1, (self.heads, -1)))  # [B, h, D, H, W]
            weights = torch.stack(scores, -1).softmax(-1)  # [B, h, H, W, L]
            for recorded in recorders():
                recorded.add(self, weights.detach().flatten(2, 3))
            shares = weights.to(q.dtype).unbind(-1)
            mixed = sum(share.unsqueeze(2) * v for share, v in zip(shares, values, strict=True))
            found[level] = maps[level] + self.out(mixed.flatten(1, 2))  # type: ignore[union-attr]
        return found
