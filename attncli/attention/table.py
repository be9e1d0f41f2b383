"""The one table of mechanisms. A new one is a file in ``mechanisms/`` and a line here."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from attncli.attention.mechanisms.adaptive_span import AdaptiveSpan
from attncli.attention.mechanisms.additive import Additive
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.mechanisms.bigbird import BigBird
from attncli.attention.mechanisms.bilinear import Bilinear
from attncli.attention.mechanisms.concat import Concat
from attncli.attention.mechanisms.convolution import Convolution
from attncli.attention.mechanisms.cosformer import CosFormer
from attncli.attention.mechanisms.cosine import Cosine
from attncli.attention.mechanisms.differential import Differential
from attncli.attention.mechanisms.dilated import DilatedWindow
from attncli.attention.mechanisms.dot import Dot
from attncli.attention.mechanisms.entmax import Entmax, Entmax15
from attncli.attention.mechanisms.gated import Gated
from attncli.attention.mechanisms.gla import GatedLinear
from attncli.attention.mechanisms.global_local import GlobalLocal
from attncli.attention.mechanisms.linear import Linear
from attncli.attention.mechanisms.linformer import Linformer
from attncli.attention.mechanisms.longformer import Longformer
from attncli.attention.mechanisms.lsh import LSH
from attncli.attention.mechanisms.nystrom import Nystrom
from attncli.attention.mechanisms.performer import Performer
from attncli.attention.mechanisms.retention import Retention
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
    "dilated": DilatedWindow,
    "longformer": Longformer,
    "bigbird": BigBird,
    "adaptive_span": AdaptiveSpan,
    "lsh": LSH,
    "sparsemax": Sparsemax,
    "entmax15": Entmax15,
    "entmax": Entmax,
    "linear": Linear,
    "performer": Performer,
    "cosformer": CosFormer,
    "retention": Retention,
    "gla": GatedLinear,
    "linformer": Linformer,
    "nystrom": Nystrom,
    "sinks": Sinks,
    "sigmoid": Sigmoid,
    "talking_heads": TalkingHeads,
    "gated": Gated,
    "differential": Differential,
    "global_local": GlobalLocal,
    "convolution": Convolution,
}


@cache
def options_of(name: str) -> tuple[str, ...]:
    """Options that a mechanism takes beside the head sizes."""
    taken = inspect.signature(MECHANISMS[name].__init__).parameters
    return tuple(key for key in taken if key not in ("self", "heads", "kv_heads", "head_dim"))


def build_mechanism(name: str, *, heads: int, kv_heads: int, head_dim: int, **options: Any) -> Mechanism:
    """The mechanism called ``name``. Options that are None are left out; one it does not take is an error."""
    if name not in MECHANISMS:
        near = nearest(name, MECHANISMS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(MECHANISMS)}"
        raise RecipeError(Problem(f"no mechanism is called {name!r}", hint=hint))
    given = {key: value for key, value in options.items() if value is not None}
    wrong = [key for key in given if key not in options_of(name)]
    if wrong:
        raise RecipeError(*(_stray(name, key) for key in wrong))
    return MECHANISMS[name](heads=heads, kv_heads=kv_heads, head_dim=head_dim, **given)


def _stray(name: str, key: str) -> Problem:
    takers = [other for other in MECHANISMS if key in options_of(other)]
    hint = f"it belongs to mechanism {', '.join(takers)}" if takers else None
    return Problem(f"mechanism {name} takes no option {key}", hint=hint)


def which_support(what: str) -> str:
    """The mechanisms that support ``what`` (a field of ``Support``), for an error message."""
    names = [name for name, kind in MECHANISMS.items() if getattr(kind.support, what)]
    return ", ".join(names)


def require(mechanism: Mechanism | type[Mechanism], what: str, said: str) -> None:
    """Raise :class:`RecipeError` unless ``mechanism`` supports ``what``; ``said`` names it in words."""
    if not getattr(mechanism.support, what):
        raise RecipeError(
            Problem(
                f"mechanism {mechanism.name} does not support {said}",
                hint=f"these do: {which_support(what)}",
            )
        )
