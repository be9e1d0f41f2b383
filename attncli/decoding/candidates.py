"""The best continuations of the hypotheses of each sentence."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32
_TIE = 2.0**-42  # far below what float32 tells apart, far above what float64 does


class Candidates:
    """Finds the ``count`` largest ``logits + base`` over the K hypotheses and V words of each sentence.

    Ties go to the lower hypothesis, then the lower word. Finding the largest of K x V numbers directly is
    slow on a CPU. The ``count`` largest lie in those ``count`` chunks of neighbouring words whose own largest
    are largest, so that a maximum of each chunk, one pass over the logits, leaves few to look at.
    """

    def __init__(self, beams: int, width: int, count: int, device: torch.device) -> None:
        """For logits [B, ``beams``, ``width``] of any B; ``count`` is at most ``beams * width``."""
        self.width, self.count = width, count
        self.chunked = width >= 4 * CHUNK and beams * (width // CHUNK) > count
        size = CHUNK if self.chunked else 1
        self.tail = width % size
        starts = torch.arange(beams, device=device)[:, None] * width + torch.arange(
            0, width, size, device=device
        )
        self.starts = starts.flatten()  # [K * C]: places of the chunks' first words in K * V
        self.ties = starts.double() * _TIE  # [K, C], to be taken from what is compared: less for later places
        self.inside = torch.arange(CHUNK, device=device)
        self.inside_ties = self.inside.double() * _TIE

    def __call__(self, logits: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best, best first.

        Args:
            logits: float32 [B, K, V], no NaN.
            base: float64 [B, K]; -inf for a hypothesis that is none.

        Returns:
            Scores float64, hypotheses and words int64, each [B, count].
        """
        width, tail = self.width, self.tail
        base = base[..., None] - self.ties  # [B, K, C]
        if not self.chunked:
            order, place = (logits + base).flatten(1).topk(self.count, dim=-1)  # [B, M]
            return order + place.double() * _TIE, place // width, place % width
        largest = logits[..., : width - tail].unflatten(-1, (-1, CHUNK)).amax(-1)  # [B, K, V // CHUNK]
        if tail:
            largest = torch.cat([largest, logits[..., width - tail :].amax(-1, keepdim=True)], dim=-1)
        base = base.flatten(1)  # [B, K * C]
        found = (largest.flatten(1) + base).topk(self.count, dim=-1, sorted=False).indices  # [B, M]
        base = base.gather(1, found)[..., None] - self.inside_ties  # [B, M, CHUNK]
        places = self.starts[found][..., None] + self.inside  # [B, M, CHUNK]
        if tail:
            per_row = len(self.starts) // logits.shape[1]
            base.masked_fill_((found % per_row == per_row - 1)[..., None] & (self.inside >= tail), -torch.inf)
            places.clamp_(max=self.ties.shape[0] * width - 1)
        places = places.flatten(1)  # [B, M * CHUNK]
        order, best = (logits.flatten(1).gather(1, places) + base.flatten(1)).topk(self.count, dim=-1)
        place = places.gather(1, best)  # [B, M]
        return order + place.double() * _TIE, place // width, place % width
