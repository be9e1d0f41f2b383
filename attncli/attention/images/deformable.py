"""Multi-scale deformable attention: a query looks at few places of each map, which it chooses itself.

    out = sum over levels l and points p of  a_lp value_l(reference + offset_lp),  a = softmax over all l, p

Offsets and weights are linear in the query, for each head. Values between places are bilinear, and zero
outside the map.

Zhu et al. 2020, "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
https://arxiv.org/abs/2010.04159
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.images.base import ImageAttention
from attncli.errors import RecipeError


class DeformableAttention(ImageAttention):
    """``heads`` look at ``points`` places in each of ``levels`` maps.

    Parameters: ``offset`` [H L P 2, C], which starts at 0 with a bias that sends each head another way,
    ``weight`` [H L P, C], at 0, ``value`` [C, C] and ``out`` [C, C], each with a bias.
    """

    name = "deformable"
    takes = "queries [B, Q, C] with reference points, and maps as tokens [B, S, C], to [B, Q, C]"
    time = "O((S + Q) C^2 + Q levels points C)"
    memory = "O(S C + Q levels points C)"
    use = "detection over maps of several sizes, where attention between all places is too slow to learn"
    seen = "nothing: its weights are for chosen places, not for pairs"

    def __init__(self, width: int, *, heads: int = 8, levels: int = 4, points: int = 4) -> None:
        super().__init__()
        wrong = []
        if min(heads, levels, points) < 1:
            wrong.append(
                f"deformable needs heads, levels and points of 1 or more: {heads}, {levels}, {points}"
            )
        elif width % heads:
            wrong.append(f"width {width} cannot be shared evenly by {heads} heads")
        if wrong:
            raise RecipeError(*wrong)
        self.heads, self.levels, self.points = heads, levels, points
        self.offset = nn.Linear(width, heads * levels * points * 2)
        self.weight = nn.Linear(width, heads * levels * points)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As published: point p of head h stands p + 1 places away in the head's direction."""
        nn.init.zeros_(self.offset.weight)
        turn = torch.arange(self.heads) * (2 * math.pi / self.heads)
        way = torch.stack([turn.cos(), turn.sin()], -1)  # [H, 2]
        way = way / way.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        with torch.no_grad():
            self.offset.bias.copy_((way[:, None, None] * steps).expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)
        for linear in (self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        reference: Tensor,
        memory: Tensor,
        sizes: Sequence[tuple[int, int]],
        keep: Tensor | None = None,
    ) -> Tensor:
        """Queries ``x`` [B, Q, C] over ``memory`` [B, S, C], the maps one after the other: [B, Q, C].

        ``sizes``: (height, width) of each map, row by row in ``memory``. ``reference`` [B, Q, 2] or
        [B, Q, L, 2] is (x, y) in shares of the map, 0 to 1, and offsets count places; with 4 values, (x, y,
        width, height), offsets count ``points``-th parts of half the box. ``keep`` bool [B, S] is False for
        padding.
        """
        places = [height * width for height, width in sizes]
        if len(sizes) != self.levels or sum(places) != memory.shape[1]:
            raise RecipeError(
                f"deformable has {self.levels} levels, and the maps {list(sizes)} do not make "
                f"{memory.shape[1]} tokens on them"
            )
        if reference.shape[-1] not in (2, 4):
            raise RecipeError(f"reference points have 2 or 4 values, not {reference.shape[-1]}")
        batch, queries, width = x.shape
        shape = batch, queries, self.heads, self.levels, self.points
        value = self.value(memory)
        if keep is not None:
            value = value.masked_fill(~keep.unsqueeze(-1), 0)
        wide = torch.promote_types(x.dtype, torch.float32)
        weight = self.weight(x).to(wide).view(*shape[:3], -1).softmax(-1).view(shape)
        at = self._places(self.offset(x).to(wide).view(*shape, 2), reference.to(wide), sizes)
        value = (
            value.to(wide).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        )  # [B H, D, S]
        found = torch.zeros((), dtype=wide, device=x.device)
        for level, one in enumerate(value.split(places, -1)):
            sampled = F.grid_sample(  # [B H, D, Q, P]
                one.unflatten(-1, sizes[level]),
                (2 * at[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1),
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )
            share = weight[:, :, :, level].transpose(1, 2).flatten(0, 1)  # [B H, Q, P]
            found = found + (sampled * share.unsqueeze(1)).sum(-1)  # [B H, D, Q]
        y = found.view(batch, width, queries).transpose(1, 2)  # [B, Q, C]
        return self.out(y.to(x.dtype))

    def _places(self, offset: Tensor, reference: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Where to look, (x, y) in shares of the map: [B, Q, H, L, P, 2]."""
        if reference.ndim == 3:
            reference = reference.unsqueeze(2)  # [B, Q, 1, .]: the same in every level
        reference = reference[:, :, None, :, None]  # [B, Q, 1, L|1, 1, .]
        if reference.shape[-1] == 4:
            return reference[..., :2] + offset * reference[..., 2:] * (0.5 / self.points)
        size = torch.tensor([(width, height) for height, width in sizes], device=offset.device)
        return reference + offset / size.view(1, 1, 1, -1, 1, 2)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"heads={self.heads}, levels={self.levels}, points={self.points}"
