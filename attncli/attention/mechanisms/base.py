"""What a mechanism is: heads to heads, ``(q, k, v, mask, bias) -> out``.

An exact mechanism gives scores and a normaliser, and backends compute it. One whose scores are products
of prepared queries and keys, normalised by softmax, is ``fusable``: it needs only ``prepare``. A mechanism
of another kind overrides ``attend`` and names no backends.

Legend: B batch, H query heads, K key/value heads, Tq queries, Tk keys, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attncli.attention.masks import Mask, Places


@dataclass(frozen=True)
class Support:
    """What a mechanism can do; asking for more is an error that says which mechanisms can."""

    causal: bool = True
    """Causal masks."""
    padding: bool = True
    """Any other mask."""
    cross: bool = True
    """Queries and keys of two sequences."""
    cache: bool = True
    """A key/value cache."""
    weights: bool = True
    """Weights that can be recorded."""
    bias: bool = True
    """A term added to the scores (positions t5, alibi)."""
    relative: bool = True
    """Positions that meet the queries as keys do (shaw)."""
    gqa: bool = True
    """Fewer key/value heads than query heads."""
    pairs: bool = True
    """Masks that rule on single pairs: documents, windows, any pattern."""
    order: bool = False
    """Keys must stand in the order of their places: a search that keeps several hypotheses' keys in one cache
    cannot use it."""
    backends: tuple[str, ...] = ("reference", "fused", "chunked", "flex")
    """Backends that compute it; empty when it computes itself."""


class Mechanism(nn.Module):
    """Base of all mechanisms. Options are keyword arguments of the subclass."""

    name: ClassVar[str]
    support: ClassVar[Support] = Support()
    fusable: ClassVar[bool] = True
    """Softmax of products of what ``prepare`` returns."""
    mixes: bool = False
    """Whether ``mix`` does anything."""
    placed: ClassVar[bool] = False
    """Whether weights depend on distances: :meth:`normalise_placed` then stands for :meth:`normalise`."""
    by_place: ClassVar[bool] = False
    """Whether :meth:`restrict` asks where in the sequence a token stands, beside its distance to others."""
    linear: ClassVar[bool] = False
    """Whether scores are products of features that may be summed up first (``mechanisms/kernel.py``)."""
    recurrent: ClassVar[bool] = False
    """Whether a key's features depend on that key alone too, so that decoding can carry a state along."""
    time: ClassVar[str] = "O(T^2 D)"
    memory: ClassVar[str] = "O(T)"
    """Growth with the length T of a sequence, forward and backward, as computed here."""
    use: ClassVar[str] = ""
    """When to take it, in a sentence."""
    score_width: int = 1
    """Elements held for each score while it is computed."""

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """``q`` [B, H, Tq, D] and ``k`` [B, K, Tk, D] as the scores take them, and the scores' scale.

        Neither depends on the other: keys that are met by many calls are prepared once.
        """
        return q, k, 1.0

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask with the mechanism's own rule added.

        ``places``: (int64 [B|1, Tq], int64 [B|1, Tk]) where queries and keys stand in their sequence, for
        keys that are not in order; None where they are, queries last.
        """
        return mask

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores [B, H, r, c] of prepared ``q`` [B, H, r, D] and ``k`` [B, K, c, D]."""
        batch, heads, r, width = q.shape
        kv_heads = k.shape[1]
        if kv_heads == heads:
            return q @ k.transpose(-1, -2)
        folded = q.reshape(batch, kv_heads, heads // kv_heads * r, width) @ k.transpose(-1, -2)
        return folded.view(batch, heads, r, k.shape[2])

    def normalise(self, scores: Tensor) -> Tensor:
        """Weights from scores, along the keys; what is masked is -inf."""
        return torch.softmax(scores, -1)

    def normalise_placed(self, scores: Tensor, away: Tensor) -> Tensor:
        """As :meth:`normalise`, with the places from query to key: int64 [r, c] or [B|1, 1, r, c]."""
        return self.normalise(scores)

    def narrow(self, q: Tensor, k: Tensor, mask: Mask | None) -> Mask | None:
        """The mask with a rule that depends on the queries and keys themselves."""
        return mask

    def values(self, v: Tensor) -> Tensor:
        """Values [B, K, Tk, D] as the weights meet them; a mechanism that doubles its heads doubles them."""
        return v

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """What follows the weighted sum: ``out`` [B, H', Tq, D] to [B, H, Tq, D]; ``q`` is not prepared."""
        return out

    def combine(self, weights: Tensor) -> Tensor:
        """Weights of doubled heads as the weights of the heads, for recording: to [B, H, Tq, Tk]."""
        return weights

    def mix(self, weights: Tensor) -> Tensor:
        """What heads make of each other's weights [B, H, r, c]."""
        return weights

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, bias: Any, dropout: float) -> Tensor:
        """A mechanism without backends computes itself here: heads to heads, [B, H, Tq, D']."""
        raise NotImplementedError
