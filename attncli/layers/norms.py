"""Normalisation over the last dimension."""

from __future__ import annotations

from torch import nn

NORMS = ("layer", "rms")


def build_norm(kind: str, width: int, *, epsilon: float = 1e-5, bias: bool = True) -> nn.Module:
    """A norm of ``width`` features, [..., width] to [..., width].

    ``layer``: LayerNorm (Ba et al. 2016, https://arxiv.org/abs/1607.06450); ``bias`` is its shift.
    ``rms``: RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), which has none.
    ``epsilon`` is added to the variance. Raises ValueError for another kind.
    """
    if kind == "layer":
        return nn.LayerNorm(width, eps=epsilon, bias=bias)
    if kind == "rms":
        return nn.RMSNorm(width, eps=epsilon)
    raise ValueError(f"norm {kind!r} is none of {', '.join(NORMS)}")
