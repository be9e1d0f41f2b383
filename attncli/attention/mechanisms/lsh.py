"""LSH attention: queries meet only keys that a random hash puts into their bucket.

    bucket(x) = argmax([x R; -x R]) in each of several rounds;  weights = softmax over keys that share one

Kitaev et al. 2020, "Reformer: The Efficient Transformer", https://arxiv.org/abs/2001.04451. There sorted
buckets are cut into chunks of one size, which drops pairs; here every pair that shares a bucket counts, and
each once, so that neither length nor what follows decides which do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.masks import Mask
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.patterns import SameBucket
from attncli.errors import RecipeError


class LSH(ScaledDot):
    """Scaled dot products within ``buckets`` (even) of ``rounds`` hashes, drawn from a fixed seed.

    A query always sees its own place. Without ``buckets`` there is one for 32 places of ``length``, the
    longest sequence, and 16 at least.
    """

    name = "lsh"
    support = Support(cross=False, backends=("reference", "fused", "chunked", "blocks"))
    time = "O(T^2 D rounds / buckets), and the sorting"
    use = "long sequences in which a query looks for few keys that resemble it, wherever they are"

    def __init__(
        self, *, heads: int, kv_heads: int, head_dim: int,
        buckets: int | None = None, rounds: int = 2, length: int = 512,
    ) -> None:  # fmt: skip
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.length = length
        buckets = max(16, length // 64 * 2) if buckets is None else buckets
        if buckets < 2 or buckets % 2 or rounds < 1:
            raise RecipeError(
                f"mechanism lsh needs an even number of buckets and a round, not {buckets} and {rounds}"
            )
        self.buckets, self.rounds, self.length = buckets, rounds, length
        source = torch.Generator().manual_seed(20_200_113)
        rotations = torch.randn(rounds, head_dim, buckets // 2, generator=source)
        self.register_buffer("rotations", rotations, persistent=False)

    def narrow(self, q: Tensor, k: Tensor, mask: Mask | None) -> Mask | None:
        """The mask and the buckets."""
        with torch.no_grad():
            rule = SameBucket(self._bucket(q), self._bucket(k), self.buckets)
        return rule if mask is None else mask & rule

    def _bucket(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        found = []
        for rotation in self.rotations.to(wide):  # one at a time: they are as long as the sequence is
            turned = x.to(wide) @ rotation  # [B, H, T, buckets / 2]
            (high, first), (low, second) = turned.max(-1), turned.min(-1)
            found.append(torch.where(high >= -low, first, second + self.buckets // 2))
        return torch.stack(found, 2)  # [B, H, R, T]

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"buckets={self.buckets}, rounds={self.rounds}"
