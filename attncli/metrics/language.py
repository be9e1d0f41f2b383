"""Metrics of language models: mean loss, perplexity, accuracy, bits a byte, and the unigram baseline.

All losses are mean negative log-likelihoods in nats over predicted tokens, weighted by token however
the text was cut into batches or processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class Totals:
    """Sums and counts by name, to be added up over batches and processes.

    ``totals.add("loss", sum, count)``; ``totals.values`` is plain numbers for ``Shard.sum``.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, name: str, total: float, count: float) -> None:
        """Add ``total`` over ``count`` items."""
        for key, value in ((f"{name}/total", total), (f"{name}/count", count)):
            self.values[key] = self.values.get(key, 0.0) + float(value)


def means(totals: Mapping[str, float]) -> dict[str, float]:
    """Mean of each name: its total by its count; NaN where nothing was counted."""
    names = [key.removesuffix("/total") for key in totals if key.endswith("/total")]
    return {name: divided(totals[f"{name}/total"], totals[f"{name}/count"]) for name in names}


def divided(total: float, count: float) -> float:
    """``total / count``, NaN for nothing."""
    return total / count if count else math.nan


def perplexity(loss: float) -> float:
    """``exp(loss)``, infinite where that is too large."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits_per_byte(loss: float, tokens: float, size: float) -> float:
    """Bits that a causal model spends on a byte of text: comparable across tokenisers.

    Args:
        loss: nats a token.
        tokens: tokens of the text.
        size: its UTF-8 bytes.
    """
    return divided(loss * tokens / math.log(2), size)


def unigram_loss(train: Sequence[float], predicted: Sequence[float]) -> float:
    """Loss, in nats, of predicting tokens by their frequency in the training text alone.

    The baseline of a masked or causal loss: what a model that knows no context reaches. Frequencies are
    smoothed by one, so that tokens the training text lacks cost finitely much.

    Args:
        train: [V] how often each token occurs in the training text, special ones 0.
        predicted: [V] how often each is to be predicted.
    """
    total = math.fsum(train) + len(train)
    cost = math.fsum(n * -math.log((seen + 1) / total) for seen, n in zip(train, predicted, strict=True) if n)
    return divided(cost, math.fsum(predicted))
