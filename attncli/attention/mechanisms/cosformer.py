"""cosFormer: rectified features, and a cosine that favours near keys.

    weights_ij  in proportion to  relu(q_i) relu(k_j) cos(pi/2 (i - j) / M),  M the longest sequence

The cosine of a difference is a product of sines and cosines of the places, so that it is linear too.

Qin et al. 2022, "cosFormer: Rethinking Softmax in Attention", https://arxiv.org/abs/2202.08791
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.masks import Mask, Places
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.kernel import Kernel
from attncli.errors import RecipeError


class CosFormer(Kernel):
    """``length`` is the longest sequence, M; twice as many features as the head is wide."""

    name = "cosformer"
    placed = True
    support = Support(bias=False, relative=False, cross=False, backends=("reference", "chunked", "linear"))
    time = "O(T D^2)"
    use = "long sequences in which near tokens matter most"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, length: int = 512) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if length < 1:
            raise RecipeError(f"mechanism cosformer needs length, at least 1; it is {length}")
        self.length = length

    @property
    def feature_width(self) -> int:
        """A sine and a cosine of each."""
        return 2 * self.head_dim

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask; a sequence longer than ``length`` is an error."""
        last = keys if places is None else int(places[1].max()) + 1
        if last > self.length:
            raise RecipeError(
                f"mechanism cosformer has length={self.length}, and this sequence has {last} places",
                then=f"set length={last} for it or give shorter sequences",
            )
        return mask

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """The features without places, in float32 at least."""
        wide = torch.promote_types(q.dtype, torch.float32)
        return F.relu(q.to(wide)), F.relu(k.to(wide)), 1.0

    def features(self, q: Tensor, k: Tensor, shift: int) -> tuple[Tensor, Tensor]:
        """With the places."""
        return self._turned(q, shift), self._turned(k, 0)

    def _turned(self, x: Tensor, start: int) -> Tensor:
        places = torch.arange(start, start + x.shape[2], device=x.device, dtype=x.dtype).unsqueeze(-1)
        angle = places * (math.pi / 2 / self.length)
        return torch.cat([x * angle.cos(), x * angle.sin()], -1)  # [B, H, T, 2 D]

    def normalise_placed(self, scores: Tensor, away: Tensor) -> Tensor:
        """Scores times the cosine, over their sum."""
        return self.normalise(scores * (away.to(scores.dtype) * (math.pi / 2 / self.length)).cos())

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"length={self.length}"
