"""A linear-chain conditional random field over the tags of a sequence.

Lafferty et al. 2001, https://repository.upenn.edu/handle/20.500.14332/6188; on neural features: Lample et
al. 2016, https://arxiv.org/abs/1603.01360

Legend: B batch, W words, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FORBIDDEN = -1e4  # finite, so that gradients stay so; exp of it is 0


class CRF(nn.Module):
    """Scores of neighbouring labels, of the first and of the last, learnt beside those of each word.

    Some may be forbidden, as the tagging scheme has it: paths with them are neither summed nor decoded.

    Parameters: ``transitions`` [L, L] (from, to), ``start`` and ``end`` [L]. Buffers: ``allowed`` bool
    [L, L], ``allowed_start`` and ``allowed_end`` bool [L], which :meth:`constrain` sets; a state dict holds
    them.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.start = nn.Parameter(torch.zeros(labels))
        self.end = nn.Parameter(torch.zeros(labels))
        self.register_buffer("allowed", torch.ones(labels, labels, dtype=torch.bool))
        self.register_buffer("allowed_start", torch.ones(labels, dtype=torch.bool))
        self.register_buffer("allowed_end", torch.ones(labels, dtype=torch.bool))

    def constrain(self, allowed: Tensor, start: Tensor | None = None, end: Tensor | None = None) -> None:
        """Forbid what is False: ``allowed`` bool [L, L] (from, to), ``start`` and ``end`` bool [L]."""
        self.allowed.copy_(allowed)
        if start is not None:
            self.allowed_start.copy_(start)
        if end is not None:
            self.allowed_end.copy_(end)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions [L, L], start [L], end [L], in float32 or wider; what is forbidden is far below."""

        def masked(values: Tensor, allowed: Tensor) -> Tensor:
            return values.to(torch.promote_types(values.dtype, torch.float32)).masked_fill(
                ~allowed, _FORBIDDEN
            )

        return (
            masked(self.transitions, self.allowed),
            masked(self.start, self.allowed_start),
            masked(self.end, self.allowed_end),
        )

    def log_likelihood(self, emissions: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        """Log-probability of ``labels`` [B, W] under ``emissions`` [B, W, L]: [B], 0 for a row without words.

        ``keep`` bool [B, W]: True for the words of a row, which stand first. A negative label is unknown:
        the probability is that of the known ones, summed over all it could be.
        """
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        scores = self.scores()
        total = _log_sum(emissions, keep, *scores)  # [B]
        if bool((labels.lt(0) & keep).any()):
            unknown = labels.lt(0).unsqueeze(-1)  # [B, W, 1]
            fits = unknown | (labels.unsqueeze(-1) == torch.arange(self.labels, device=labels.device))
            found = _log_sum(emissions.masked_fill(~fits, _FORBIDDEN), keep, *scores)
        else:
            found = _path_score(emissions, labels, keep, *scores)
        return torch.where(keep[:, 0], found - total, torch.zeros_like(total))

    @torch.no_grad()
    def decode(self, emissions: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """The best labels int64 [B, W], 0 where ``keep`` is False, and their scores [B] (Viterbi)."""
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        transitions, start, end = self.scores()
        length = int(keep.sum(1).max()) if keep.numel() else 0
        best = torch.zeros(keep.shape, dtype=torch.int64, device=keep.device)
        if not length:
            return best, emissions.new_zeros(keep.shape[0])
        score = start + emissions[:, 0]  # [B, L]
        back: list[Tensor] = []
        same = torch.arange(self.labels, device=keep.device).expand_as(score)
        for at in range(1, length):
            reached, before = (score.unsqueeze(2) + transitions).max(1)  # [B, L] each
            real = keep[:, at, None]
            score = torch.where(real, reached + emissions[:, at], score)
            back.append(torch.where(real, before, same))
        score, last = (score + end).max(1)
        best[:, length - 1] = last
        for at in range(length - 2, -1, -1):
            last = back[at].gather(1, last.unsqueeze(1)).squeeze(1)
            best[:, at] = last
        return best.masked_fill_(~keep, 0), score.masked_fill(~keep[:, 0], 0.0)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"labels={self.labels}, forbidden={int((~self.allowed).sum())}"


def _log_sum(emissions: Tensor, keep: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Log of the summed exponential scores of all paths, [B] (the forward algorithm)."""
    score = start + emissions[:, 0]  # [B, L]
    for at, real in enumerate(keep[:, 1:].unbind(1), 1):
        reached = torch.logsumexp(score.unsqueeze(2) + transitions, 1) + emissions[:, at]
        score = torch.where(real.unsqueeze(1), reached, score)
    return torch.logsumexp(score + end, 1)


def _path_score(
    emissions: Tensor, labels: Tensor, keep: Tensor, transitions: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """Scores of given paths, [B]."""
    labels = labels.masked_fill(~keep, 0)
    words = emissions.gather(2, labels.unsqueeze(2)).squeeze(2).mul(keep).sum(1)
    steps = transitions[labels[:, :-1], labels[:, 1:]].mul(keep[:, 1:]).sum(1)
    last = labels.gather(1, keep.sum(1, keepdim=True).sub(1).clamp(min=0)).squeeze(1)
    return words + steps + start[labels[:, 0]] + end[last]
