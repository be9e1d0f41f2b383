"""What mechanisms without weights for each pair ask of a mask."""

from __future__ import annotations

from torch import Tensor

from attncli.attention.masks import All, Mask, Padding
from attncli.attention.mechanisms.base import Support
from attncli.errors import Problem, RecipeError

WHOLE_SEQUENCES = Support(
    causal=False, cross=False, cache=False, weights=False, bias=False, relative=False, pairs=False,
    backends=(),
)  # fmt: skip


def kept_keys(mask: Mask | None, name: str) -> Tensor | None:
    """Keys that are real, bool [B, Tk], or None for all. RecipeError for other kinds of masks."""
    keep = None
    for rule in () if mask is None else mask.rules if isinstance(mask, All) else (mask,):
        if not isinstance(rule, Padding):
            hint = "it sees whole sequences; take another mechanism"
            raise RecipeError(Problem(f"mechanism {name} has no weights to mask: {rule.kind}", hint=hint))
        keep = rule.keep if keep is None else keep & rule.keep
    return keep
