"""Attention of a recurrent decoder's states over the encoder's annotations.

Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
https://arxiv.org/abs/1409.0473; Luong et al. 2015, https://arxiv.org/abs/1508.04025
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from attncli.attention.backends.choice import SMALL
from attncli.attention.functional import compute, prepare_keys
from attncli.attention.local import LocalWeights, Place
from attncli.attention.masks import Padding
from attncli.attention.table import build_mechanism


@dataclass(frozen=True)
class Memory:
    """What is attended to, prepared once for each sentence."""

    keys: Tensor  # [B, H, S, D], as the scores take them
    values: Tensor  # [B, H, S, D]
    mask: Padding
    lengths: Tensor  # int64 [B]: tokens of each source

    def select(self, sentences: Tensor) -> Memory:
        """These sentences only, in this order; ``sentences`` int64 [B']."""
        keep = Padding(self.mask.keep[sentences])
        return Memory(self.keys[sentences], self.values[sentences], keep, self.lengths[sentences])


class Alignment(nn.Module):
    """Attention without projections of its own: states are the queries, annotations the keys and values.

    Both are W wide, so that every score of the papers is a mechanism of the core: ``additive`` (Bahdanau;
    Luong's concat), ``dot``, ``bilinear`` (Luong's general), and the others. With several heads each has its
    share of W. ``window``: attention is local, around a predicted place (:mod:`attncli.attention.local`).
    ``dropout`` acts on the weights; ``topk`` is for mechanism topk.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 1,
        mechanism: str = "additive",
        window: int | None = None,
        topk: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.mechanism = build_mechanism(
            mechanism, heads=heads, kv_heads=heads, head_dim=self.head_dim, topk=topk
        )
        self.place = None if window is None else Place(width, heads)
        self.window, self.dropout = window, dropout

    def memory(self, annotations: Tensor, keep: Tensor) -> Memory:
        """Annotations [B, S, W], of which ``keep`` bool [B, S] are tokens, as :meth:`forward` takes them."""
        values = self._split(annotations)
        return Memory(prepare_keys(self.mechanism, values), values, Padding(keep), keep.sum(1))

    def forward(self, states: Tensor, memory: Memory) -> Tensor:
        """States [B, Tq, W] to contexts [B, Tq, W]: of time steps, or of hypotheses for one sentence."""
        q = self._split(states)  # [B, H, Tq, D]
        mechanism = self.mechanism
        if self.place is not None:
            mechanism = LocalWeights(mechanism, self.place(states, memory.lengths), self.window)
        weights = q.shape[0] * q.shape[1] * q.shape[2] * memory.keys.shape[2] * mechanism.score_width
        context = compute(
            mechanism,
            q,
            memory.keys,
            memory.values,
            memory.mask,
            None,
            self.dropout if self.training else 0.0,
            "reference" if weights <= SMALL else "auto",  # nothing to measure: steps are small
            self,
            prepared=True,
        )
        return context.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, W] to heads [B, H, T, D]."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
