"""Recording attention weights around any forward pass.

    with record(model) as recorded:
        model(tokens)
    for name, weights in recorded.weights: ...

It works under every backend, with a cache and inside beam search: the output is computed as ever, the
weights beside it by the reference formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Recorded:
    """What was recorded, in the order of computation."""

    weights: list[tuple[str, Tensor]] = field(default_factory=list)
    """(layer name, weights [B, H, Tq, Tk] before dropout, without gradient). Empty rows are zero."""
    maps: list[tuple[str, Tensor]] = field(default_factory=list)
    """(layer name, factors [B, C|1, H|1, W|1] without gradient) of the gates of pictures."""
    names: dict[int, str] = field(default_factory=dict, repr=False)
    """Layer names by module identity, for :func:`record` with a model."""

    def add(self, layer: nn.Module | None, weights: Tensor) -> None:
        """Take one layer's weights."""
        name = self.names.get(id(layer)) or f"attention.{len(self.weights)}"
        self.weights.append((name, weights))

    def add_map(self, layer: nn.Module, factor: Tensor) -> None:
        """Take a gate's factors."""
        self.maps.append((self.names.get(id(layer)) or f"gate.{len(self.maps)}", factor))


_active: list[Recorded] = []


@contextmanager
def record(model: nn.Module | None = None) -> Iterator[Recorded]:
    """Record the weights of every attention computed in the context.

    With ``model``, layers are named by their path in it, else ``attention.0``, ``attention.1``, ... in the
    order of computation. A mechanism without weights raises :class:`RecipeError` and says which have some.
    """
    names = {} if model is None else {id(module): name for name, module in model.named_modules()}
    recorded = Recorded(names=names)
    _active.append(recorded)
    try:
        yield recorded
    finally:
        _active.remove(recorded)


def recorders() -> list[Recorded]:
    """The open recordings."""
    return _active


def record_map(layer: nn.Module, factor: Tensor) -> None:
    """Give a gate's factors to the open recordings."""
    for recorded in _active:
        recorded.add_map(layer, factor.detach())


@contextmanager
def joined() -> Iterator[None]:
    """What one layer computes in the context, query by query, is recorded as one entry of all queries."""
    starts = [(recorded, len(recorded.weights)) for recorded in _active]
    yield
    for recorded, start in starts:
        parts = recorded.weights[start:]
        if parts:
            recorded.weights[start:] = [(parts[0][0], torch.cat([weights for _, weights in parts], 2))]
