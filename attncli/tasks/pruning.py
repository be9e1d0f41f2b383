"""What each head is worth: how far a model's output moves without it, and which heads can go together.

True ablation, one head at a time, as in Michel et al. 2019, https://arxiv.org/abs/1905.10650: exact where
gradients only estimate, and cheap for models of this size. Heads that are worth little alone may replace each
other, so the least of them are then switched off together, more and more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attncli.attention import Head, without_heads

ALLOWED = 0.02
"""Nats by which output or loss may move for heads to count as prunable together: 2 % of perplexity."""
_STEPS = 16
"""Numbers of heads that are switched off together, at most."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one input: distributions, or numbers where it gives none."""

    log_probs: Tensor | None
    """[N, V], a row a place, or a label of several."""
    labels: Tensor | None = None
    """int64 [N], what truly stands there; None where nobody knows."""
    numbers: Tensor | None = None
    """[N] of a regression."""

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor | None = None) -> Prediction:
        """A softmax over logits [N, V]."""
        return cls(logits.float().log_softmax(-1), labels)

    @property
    def loss(self) -> float | None:
        """Mean negative log-likelihood of the labels, nats."""
        if self.log_probs is None or self.labels is None:
            return None
        return -float(self.log_probs.gather(1, self.labels[:, None]).mean())

    def moved(self, other: Prediction) -> float:
        """How far ``other`` is from this: the mean divergence KL(this || other), nats a row.

        Of numbers, the mean distance.
        """
        if self.log_probs is None:
            return float((self.numbers - other.numbers).abs().mean())
        p = self.log_probs.exp()
        return max(0.0, float((p * (self.log_probs - other.log_probs)).sum(-1).mean()))


@dataclass(frozen=True)
class Measured:
    """What a model costs on data that has answers."""

    loss: float

    def moved(self, other: Measured) -> float:
        """By how much the loss of ``other`` is higher."""
        return other.loss - self.loss


@dataclass(frozen=True)
class Worth:
    """One head."""

    head: Head
    change: float
    """How far the output moves without it: nats, or units of the number; of data the rise of the loss."""
    loss: float | None
    """By how much the loss of the true labels rises without it, nats; below 0 where it falls."""


@dataclass(frozen=True)
class Pruning:
    """All heads of a model on one input."""

    worth: list[Worth]
    """In the order of the layers."""
    together: list[tuple[int, float]]
    """So many of the least heads switched off together, and how far the output moves then."""
    prunable: list[Head]
    """The most of the least heads that go together for a change of :data:`ALLOWED` at most."""
    loss: float | None = None
    """Of the whole model, nats."""


Predict = Callable[[], Prediction | Measured]


@torch.inference_mode()
def prune(
    model: nn.Module,
    predict: Predict,
    heads: Sequence[Head],
    progress: Callable[[int], None] | None = None,
) -> Pruning:
    """Run ``predict``, which runs ``model`` once in eval mode, without each of ``heads`` in turn.

    ``progress`` hears of every run.
    """

    def without(off: Sequence[Head]) -> Prediction:
        with without_heads(model, off):
            found = predict()
        if progress:
            progress(1)
        return found

    whole = without([])
    worth = []
    for head in heads:
        found = without([head])
        known = isinstance(whole, Prediction) and whole.loss is not None
        loss = found.loss - whole.loss if known else None
        worth.append(Worth(head, whole.moved(found), loss))
    order = [one.head for one in sorted(worth, key=lambda one: one.change)]
    together = [(count, whole.moved(without(order[:count]))) for count in _counts(len(order))]
    most = 0
    for count, change in together:
        if change > ALLOWED:
            break
        most = count
    return Pruning(worth, together, order[:most], whole.loss)


def runs_of(heads: int) -> int:
    """Runs that :func:`prune` takes."""
    return 1 + heads + len(_counts(heads))


def _counts(heads: int) -> list[int]:
    """From one to all: every number, or :data:`_STEPS` of them evenly spread."""
    if heads <= _STEPS:
        return list(range(1, heads + 1))
    return sorted({round(heads * step / _STEPS) for step in range(1, _STEPS + 1)})


def heads_of(weights: Sequence[tuple[str, Tensor]]) -> list[Head]:
    """The heads behind recorded weights [B, H, Tq, Tk], in their order.

    A layer that was recorded more than once is one module of several layers, each a use of it.
    """
    names = [name for name, _ in weights]
    uses: dict[str, int] = {}
    found = []
    for name, recorded in weights:
        use = uses.get(name, 0)
        uses[name] = use + 1
        shared = use if names.count(name) > 1 else None
        found += [Head(name, number, shared) for number in range(recorded.shape[1])]
    return found
