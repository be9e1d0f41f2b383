"""Base of mechanisms that are scaled dot products under a rule of places."""

from __future__ import annotations

import copy

from attncli.attention.masks import Mask, Places
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.patterns import Placed
from attncli.errors import RecipeError


class SparseDot(ScaledDot):
    """``rule`` is added to every mask; the ``blocks`` backend touches only what it allows."""

    support = Support(cross=False, backends=("reference", "fused", "chunked", "flex", "blocks"))
    rule: Placed
    options: dict[str, int]

    def at_least(self, **given: tuple[int, int]) -> None:
        """Options with their least values; less is a :class:`RecipeError`."""
        low = {key: pair for key, pair in given.items() if pair[0] < pair[1]}
        wrong = [f"{key} is {value}; it must be at least {least}" for key, (value, least) in low.items()]
        if wrong:
            raise RecipeError(*(f"mechanism {self.name}: {text}" for text in wrong))

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask and the rule."""
        rule = self.rule
        if places is not None:
            rule = copy.copy(rule)
            Mask.__init__(rule)  # a memo of its own
            rule.places = places
        return rule if mask is None else mask & rule

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return ", ".join(f"{key}={value}" for key, value in self.options.items())
