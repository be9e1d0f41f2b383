"""The one table of mechanisms. A new one is a file in ``mechanisms/`` and a line here."""

from __future__ import annotations

from typing import Any

from attncli.attention.mechanisms.additive import Additive
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.mechanisms.bilinear import Bilinear
from attncli.attention.mechanisms.concat import Concat
from attncli.attention.mechanisms.cosine import Cosine
from attncli.attention.mechanisms.dot import Dot
from attncli.attention.mechanisms.entmax import Entmax, Entmax15
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.mechanisms.sigmoid import Sigmoid
from attncli.attention.mechanisms.sinks import Sinks
from attncli.attention.mechanisms.sparsemax import Sparsemax
from attncli.attention.mechanisms.talking_heads import TalkingHeads
from attncli.attention.mechanisms.topk import TopK
from attncli.attention.mechanisms.window import SlidingWindow
from attncli.errors import Problem, RecipeError, nearest

MECHANISMS: dict[str, type[Mechanism]] = {
    "scaled_dot": ScaledDot,
    "dot": Dot,
    "additive": Additive,
    "concat": Concat,
    "bilinear": Bilinear,
    "cosine": Cosine,
    "topk": TopK,
    "window": SlidingWindow,
    "sparsemax": Sparsemax,
    "entmax15": Entmax15,
    "entmax": Entmax,
    "sinks": Sinks,
    "sigmoid": Sigmoid,
    "talking_heads": TalkingHeads,
}

OPTIONS: dict[str, tuple[str, ...]] = {"topk": ("topk",), "window": ("window",)}
"""Keyword arguments that a mechanism takes beside the head sizes."""


def build_mechanism(name: str, *, heads: int, kv_heads: int, head_dim: int, **options: Any) -> Mechanism:
    """The mechanism called ``name``. Options that are None are left out; one it does not take is an error."""
    if name not in MECHANISMS:
        near = nearest(name, MECHANISMS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(MECHANISMS)}"
        raise RecipeError(Problem(f"no mechanism is called {name!r}", hint=hint))
    given = {key: value for key, value in options.items() if value is not None}
    taken = OPTIONS.get(name, ())
    wrong = [key for key in given if key not in taken]
    if wrong:
        raise RecipeError(*(_stray(name, key) for key in wrong))
    return MECHANISMS[name](heads=heads, kv_heads=kv_heads, head_dim=head_dim, **given)


def _stray(name: str, key: str) -> Problem:
    takers = [other for other, keys in OPTIONS.items() if key in keys]
    hint = f"it belongs to mechanism {', '.join(takers)}" if takers else None
    return Problem(f"mechanism {name} takes no option {key}", hint=hint)


def which_support(what: str) -> str:
    """The mechanisms that support ``what`` (a field of ``Support``), for an error message."""
    names = [name for name, kind in MECHANISMS.items() if getattr(kind.support, what)]
    return ", ".join(names)


def require(mechanism: Mechanism, what: str, said: str) -> None:
    """Raise :class:`RecipeError` unless ``mechanism`` supports ``what``; ``said`` names it in words."""
    if not getattr(mechanism.support, what):
        raise RecipeError(
            Problem(
                f"mechanism {mechanism.name} does not support {said}",
                hint=f"these do: {which_support(what)}",
            )
        )
