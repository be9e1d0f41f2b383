"""What each head does on one input, in figures; how alike the heads of two models are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Maps = list[tuple[str, np.ndarray]]
"""Layer name and weights [H, Tq, Tk] of one example, in the order of the forward pass."""


@dataclass(frozen=True)
class Layer:
    """Attention of one layer, as it is shown."""

    name: str
    weights: np.ndarray  # [H, Tq, Tk]
    rows: Sequence[str]
    """What looks: Tq tokens."""
    columns: Sequence[str]
    """What is looked at: Tk tokens."""
    note: str = ""
    """What is said of it where its heads have no figures."""
    own: bool = True
    """Whether rows and columns are the same places, so that there is a distance between them."""

    def __post_init__(self) -> None:
        if self.weights.shape[1:] != (len(self.rows), len(self.columns)):
            what = f"{len(self.rows)} target and {len(self.columns)} source tokens"
            raise ValueError(f"weights {self.weights.shape[1:]} of {what}")


@dataclass(frozen=True)
class HeadFigures:
    """What one head does on one input."""

    layer: int
    head: int
    entropy: float
    """Mean entropy of a query's weights, nats: 0 looks at one token, log(T) at all alike."""
    span: float | None
    """Mean distance in tokens between a query and what it looks at; None between two texts."""
    strongest: tuple[int, int]
    """Query and key of the largest single weight, off the diagonal where there is one."""
    change: float | None = None
    """How far the model's output moves without the head: nats, or units of the number that it predicts."""
    loss: float | None = None
    """By how much the loss rises without it, nats; None where nothing says what is right."""


def head_figures(layers: Sequence[Layer], between: np.ndarray | None = None) -> list[HeadFigures]:
    """Entropy, span and strongest link of every head.

    ``between`` [Tq, Tk]: the distances that spans are means of, where tokens do not stand in a row.
    """
    rows = []
    for layer, each in enumerate(layers):
        distance = np.abs(np.arange(len(each.rows))[:, None] - np.arange(len(each.columns))[None, :])
        for head, weights in enumerate(each.weights.astype(np.float64)):
            w = np.clip(weights, 0, None)  # some mechanisms have weights below zero
            off = np.where(distance == 0, -1.0, w) if each.own else w
            query, key = np.unravel_index(int(off.argmax()), off.shape)
            away = distance if between is None else between
            span = float((w * away).sum(-1).mean()) if each.own else None
            rows.append(HeadFigures(layer, head, entropy(w), span, (int(query), int(key))))
    return rows


def entropy(weights: np.ndarray) -> float:
    """Mean entropy of the rows of weights [Tq, Tk], nats."""
    return float(-(weights * np.log(np.clip(weights, 1e-12, None))).sum(-1).mean())


def rollout(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Attention rollout [T, T] of weights [H, T, T]: heads averaged, residual stream counted as half.

    Layers are multiplied. Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928. Self-attention only.
    """
    total = np.eye(maps[0].shape[1])
    for weights in maps:
        mixed = 0.5 * weights.astype(np.float64).mean(0) + 0.5 * np.eye(total.shape[0])
        total = mixed / mixed.sum(-1, keepdims=True) @ total
    return total


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence of the rows of two maps [Tq, Tk], nats: 0 alike, log 2 (0.69) disjoint.

    Rows are made to sum to 1.
    """
    p, q = _shares(a), _shares(b)
    middle = (p + q) / 2
    return float((_relative(p, middle) + _relative(q, middle)).mean() / 2)


def _shares(weights: np.ndarray) -> np.ndarray:
    w = np.clip(weights.astype(np.float64), 0, None)
    total = w.sum(-1, keepdims=True)
    return np.divide(w, total, out=np.zeros_like(w), where=total > 0)


def _relative(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(-1)


@dataclass(frozen=True)
class Likeness:
    """A head of one model and the head of the other that looks most as it does."""

    first: tuple[int, int]
    """Layer and head, from 0."""
    second: tuple[int, int]
    apart: float
    """As :func:`apart`."""


def likest(first: Sequence[Layer], second: Sequence[Layer]) -> list[Likeness]:
    """For every head of ``first`` its nearest in ``second``, among maps of the same tokens."""
    found = []
    for layer, each in enumerate(first):
        others = [
            (at, other)
            for at, other in enumerate(second)
            if list(other.rows) == list(each.rows) and list(other.columns) == list(each.columns)
        ]
        for head, weights in enumerate(each.weights):
            near = [
                (apart(weights, theirs), (at, number))
                for at, other in others
                for number, theirs in enumerate(other.weights)
            ]
            if near:
                distance, which = min(near)
                found.append(Likeness((layer, head), which, distance))
    return found
