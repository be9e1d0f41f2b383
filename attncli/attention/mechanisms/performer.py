"""Performer: positive random features that approximate the softmax (FAVOR+).

    phi(x) = exp(w_i x' - |x'|^2 / 2),  x' = x / D^(1/4),  w_i rows of random orthogonal matrices

Choromanski et al. 2021, "Rethinking Attention with Performers", https://arxiv.org/abs/2009.14794
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.mechanisms.kernel import Kernel
from attncli.errors import RecipeError


class Performer(Kernel):
    """``features`` random directions, the same for every head and model: drawn from a fixed seed."""

    name = "performer"
    smallest = 1e-30
    use = "softmax attention over long sequences, approximately; more features are nearer and dearer"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, features: int = 128) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if features < 1:
            raise RecipeError(f"mechanism performer needs features of at least 1; it is {features}")
        self.count = features
        self.register_buffer("directions", orthogonal(features, head_dim), persistent=False)

    @property
    def feature_width(self) -> int:
        """The random features."""
        return self.count

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """The features, in float32 at least, scaled so that none overflows; the scale cancels in the end."""
        wide = torch.promote_types(q.dtype, torch.float32)
        scale = q.shape[-1] ** -0.25
        q = self._exponent(q.to(wide) * scale)
        q = q.sub_(q.detach().amax(-1, keepdim=True)).exp_()  # in place: the features are the largest tensors
        if k.shape[2]:  # none are given where they were prepared before
            k = self._exponent(k.to(wide) * scale)
            k = k.sub_(k.detach().amax((-1, -2), keepdim=True)).exp_()
        return q, k, 1.0

    def _exponent(self, x: Tensor) -> Tensor:
        products = x @ self.directions.to(x.dtype).T  # [B, H, T, F]
        return products.sub_(x.square().sum(-1, keepdim=True) / 2)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"features={self.count}"


def orthogonal(rows: int, width: int) -> Tensor:
    """[rows, width]: blocks of orthogonal rows, with the lengths that independent normal rows have."""
    source = torch.Generator().manual_seed(20_200_914)
    blocks = []
    for _ in range(-(-rows // width)):
        square = torch.randn(width, width, generator=source, dtype=torch.float64)
        blocks.append(torch.linalg.qr(square).Q.T)
    lengths = torch.randn(rows, width, generator=source, dtype=torch.float64).norm(dim=1, keepdim=True)
    return (torch.cat(blocks)[:rows] * lengths).float()
