"""What beam search and sampling share: settings, results, and what may not follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attncli.decoding.steps import Steps


@dataclass(frozen=True)
class SearchSettings:
    """How a translation is searched for.

    ``beam``: hypotheses kept of each sentence; 1 is greedy. ``length_penalty``: a hypothesis' log-probability
    is divided by its length to this power; 0 compares log-probabilities. ``min_length``: fewest tokens before
    the end. ``max_length``: see `limits`. ``no_repeat``: no sequence of so many tokens comes twice (Paulus et
    al. 2017, https://arxiv.org/abs/1705.04304); 0 allows all. ``patience``: a sentence is decided once
    ``patience * beam`` of its hypotheses have ended (Kasai et al. 2022, https://arxiv.org/abs/2204.05424);
    ``inf`` waits until no other can be better. Raises ValueError for values outside their ranges.
    """

    beam: int = 5
    length_penalty: float = 1.0
    min_length: int = 0
    max_length: float = 2.0
    no_repeat: int = 0
    patience: float = 1.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ValueError(f"beam={self.beam} is not 1 or more")
        if not 0 <= self.length_penalty < math.inf:
            raise ValueError(f"length_penalty={self.length_penalty} is not 0 or more")
        if self.min_length < 0:
            raise ValueError(f"min_length={self.min_length} is negative")
        if not 0 < self.max_length < math.inf:
            raise ValueError(f"max_length={self.max_length} is not above 0")
        if self.no_repeat < 0:
            raise ValueError(f"no_repeat={self.no_repeat} is negative")
        if not self.patience > 0:
            raise ValueError(f"patience={self.patience} is not above 0")

    def limits(self, lengths: Tensor, most: int) -> Tensor:
        """Most tokens of each translation, the end counted: ``max_length`` times the source's and ten more.

        Args:
            lengths: tokens of the sources, int64 [B].
            most: tokens the model can write.
        """
        return ((lengths * self.max_length).long() + 10).clamp(max=most)


@dataclass(frozen=True)
class Hypothesis:
    """One translation.

    ``tokens``: without beginning and end. ``log_probability``: the sum of the tokens' and the end's.
    ``score``: that sum divided by the length, the end counted, to the power of the length penalty. A sentence
    for which nothing has any probability has one hypothesis: no tokens, both numbers -inf.
    """

    tokens: list[int]
    score: float
    log_probability: float


NOTHING = Hypothesis([], -math.inf, -math.inf)

_LOG2_E = math.log2(math.e)


class Normaliser:
    """Logits to the logarithm of the sum of their exponentials, without a new [N, V] tensor in each step."""

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits float32 [B, K, V] to [B, K], inf where no token has any probability.

        A logit that is NaN or +inf says nothing; it becomes -inf, in place.
        """
        room = self._room
        if room is None or room.numel() < logits.numel():
            room = self._room = torch.empty(logits.numel(), dtype=logits.dtype, device=logits.device)
        room = room[: logits.numel()].view(logits.shape)
        # Powers of two are quicker than those of e, and common logits need no shift by their largest.
        total = torch.mul(logits, _LOG2_E, out=room).exp2_().sum(-1)  # [B, K]
        smallest, largest = total.aminmax()
        if smallest.item() > 1e-30 and largest.item() < 1e30:
            return total.log_()
        torch.nan_to_num_(logits, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        total = logits.logsumexp(-1)
        return total.masked_fill_(total == -torch.inf, torch.inf)


class Rules:
    """What may follow, and which column of the logits says so."""

    def __init__(
        self,
        settings: SearchSettings,
        *,
        bos_id: int,
        eos_id: int,
        pad_id: int,
        words: Tensor | None,
        allowed: Tensor | None,
    ) -> None:
        """See `beam_search`; raises ValueError where the end is not among the words."""
        self.settings, self.words = settings, words
        end = self._column(eos_id)
        if end is None:
            raise ValueError(f"the end, {eos_id}, is not among the words")
        self.end = end
        never = (self._column(token) for token in {bos_id, pad_id} - {eos_id})
        self.never = [column for column in never if column is not None]
        self.shut = None  # [B, 1, W], 0 or -inf
        if allowed is not None:
            zero = torch.zeros(allowed.shape, device=allowed.device)
            self.shut = zero.masked_fill_(~allowed, -torch.inf)[:, None]

    def _column(self, token: int) -> int | None:
        if self.words is None:
            return token
        found = (self.words == token).nonzero()
        return int(found[0]) if len(found) else None

    def close(self, logits: Tensor) -> None:
        """Set to -inf the words that a sentence has not: logits [B, K, W], in place, not yet normalised."""
        if self.shut is not None:
            logits += self.shut

    def forbid(self, logits: Tensor, step: int, written: Tensor) -> None:
        """Set to -inf what may not come in this step: logits [B, K, V] in place; written [B, K, step - 1]."""
        for column in self.never:
            logits[..., column] = -torch.inf
        if step <= self.settings.min_length:
            logits[..., self.end] = -torch.inf
        if 0 < self.settings.no_repeat <= written.shape[-1]:
            _forbid_repeats(logits, written, self.settings.no_repeat)

    def select(self, keep: Tensor) -> None:
        """These sentences stay in the batch."""
        if self.shut is not None:
            self.shut = self.shut[keep]

    def tokens(self, columns: Tensor) -> Tensor:
        """Columns of the logits to tokens."""
        return columns if self.words is None else self.words[columns]


def check_sizes(steps: Steps, settings: SearchSettings, limits: Tensor) -> None:
    """Raise ValueError where the model's state, the settings and the limits do not fit."""
    if (steps.batch, steps.beams) != (len(limits), settings.beam):
        raise ValueError(
            f"steps for {steps.batch} sentences of {steps.beams} hypotheses, but there are {len(limits)} "
            f"limits and a beam of {settings.beam}"
        )
    if len(limits) and int(limits.min()) < 1:
        raise ValueError("a limit below 1 leaves no room for the end")


def _forbid_repeats(logits: Tensor, written: Tensor, size: int) -> None:
    """Set to -inf what would end a sequence of ``size`` tokens that is already in ``written`` [B, K, T]."""
    grams = written.unfold(-1, size, 1)  # [B, K, T - size + 1, size]
    begun = written[..., written.shape[-1] - size + 1 :]  # [B, K, size - 1]
    again = (grams[..., :-1] == begun[..., None, :]).all(-1)  # [B, K, T - size + 1]
    ban = torch.where(again, -torch.inf, torch.inf).to(logits.dtype)
    logits.scatter_reduce_(-1, grams[..., -1], ban, "amin")
