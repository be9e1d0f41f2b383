"""The best continuations of the hypotheses of each sentence."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 64
_TIE = 2.0**-42  # far below what float32 tells apart, far above what float64 does


def best_candidates(logits: Tensor, base: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` largest ``logits + base`` over the K hypotheses and V words of each sentence.

    Ties go to the lower hypothesis, then the lower word. Finding the largest of K x V numbers directly is slow
    on a CPU. The ``count`` largest lie in those ``count`` chunks of neighbouring words whose own largest are
    largest, so that a maximum of each chunk, one pass over the logits, leaves few to look at.

    Args:
        logits: float32 [B, K, V], no NaN.
        base: float64 [B, K]; -inf for a hypothesis that is none.
        count: at most K * V.

    Returns:
        Scores float64, hypotheses and words int64, each [B, count], best first.
    """
    batch, beams, width = logits.shape
    chunks = -(-width // CHUNK)
    if chunks < 4 or beams * chunks <= count:
        scores = torch.add(logits, base[..., None]).flatten(1)  # [B, K * V]
        order = scores - torch.arange(beams * width, device=logits.device) * _TIE
        best = order.topk(count, dim=-1).indices
        return scores.gather(1, best), best // width, best % width
    even = width // CHUNK
    largest = logits[..., : even * CHUNK].unflatten(-1, (even, CHUNK)).amax(-1)  # [B, K, width // CHUNK]
    if even < chunks:
        largest = torch.cat([largest, logits[..., even * CHUNK :].amax(-1, keepdim=True)], dim=-1)
    # [B, K, C] in float64, less for later ones
    order = largest + base[..., None] - _steps(beams * chunks, CHUNK, logits).view(beams, chunks)
    found = order.flatten(1).topk(count, dim=-1).indices  # [B, M]
    hypothesis, chunk = found // chunks, found % chunks
    word = chunk[..., None] * CHUNK + torch.arange(CHUNK, device=logits.device)  # [B, M, CHUNK]
    row = hypothesis[..., None] * width
    if even < chunks:
        within = (row + word.clamp(max=width - 1)).flatten(1)
    else:
        within = (row + word).flatten(1)  # [B, M * CHUNK]
    scores = logits.flatten(1).gather(1, within).view(word.shape) + base.gather(1, hypothesis)[..., None]
    order = scores - (row + word) * _TIE
    if even < chunks:
        order = order.masked_fill_(word >= width, -torch.inf)
    best = order.flatten(1).topk(count, dim=-1).indices  # [B, M]
    chosen = within.gather(1, best)
    return scores.flatten(1).gather(1, best), chosen // width, chosen % width


def _steps(number: int, width: int, like: Tensor) -> Tensor:
    return torch.arange(number, device=like.device) * (width * _TIE)
