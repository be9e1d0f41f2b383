"""Choosing the next token from its logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults are greedy.

    ``temperature``: logits are divided by it; 0 takes the likeliest token. ``top_k``: only so many of the
    likeliest stay in the draw (Fan et al. 2018, https://arxiv.org/abs/1805.04833); 0 keeps all. ``top_p``:
    only the fewest that hold this probability together stay (nucleus sampling, Holtzman et al. 2020,
    https://arxiv.org/abs/1904.09751); 1 keeps all. Raises ValueError for values outside these ranges.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf")):
            raise ValueError(f"temperature={self.temperature} is not 0 or more")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k} is negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} is not above 0 and at most 1")

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that is drawn from: logits [B, V] to probabilities [B, V] in float32."""
        logits = logits.float()
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        # The largest is subtracted first: a tiny temperature must not overflow.
        logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            chosen = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -torch.inf).scatter_(-1, chosen.indices, chosen.values)
        probabilities = logits.softmax(-1)
        if self.top_p < 1:
            ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
            beyond = ranked.cumsum(-1) - ranked >= self.top_p  # the token that crosses the line stays
            probabilities = torch.zeros_like(ranked).scatter_(-1, order, ranked.masked_fill(beyond, 0.0))
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return probabilities

    def choose(
        self, logits: Tensor, generator: torch.Generator | None = None, uniform: Tensor | None = None
    ) -> Tensor:
        """One token a row: logits [N, V] to tokens [N].

        Each row's draw comes from its number in ``uniform`` [N], from 0 to less than 1, where it is given,
        and from the generator otherwise.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        probabilities = self.probabilities(logits)
        if uniform is None:
            return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        below = probabilities.double().cumsum(-1)
        all_ = below[:, -1:]
        # Never beyond the last token that has a probability, however the product is rounded.
        mark = torch.minimum(uniform[:, None].double() * all_, all_.nextafter(torch.zeros_like(all_)))
        return torch.searchsorted(below, mark, right=True)[:, 0]
