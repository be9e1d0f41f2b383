"""Sampled translations for a batch of sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attncli.decoding.sampling import Sampling
from attncli.decoding.search import NOTHING, Hypothesis, Normaliser, Rules, SearchSettings, check_sizes
from attncli.decoding.steps import Steps


@torch.inference_mode()
def sample_translations(
    steps: Steps,
    *,
    bos_id: int,
    eos_id: int,
    pad_id: int,
    settings: SearchSettings,
    sampling: Sampling,
    limits: Tensor,
    seeds: Sequence[int] | None = None,
    words: Tensor | None = None,
    allowed: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Draw ``settings.beam`` translations of each sentence; they may be the same.

    Each ends with the end, or with it at the sentence's limit. Log-probabilities are the model's own, without
    the sampling's temperature and cuts. What may not follow (see `beam_search`) is left out of the draw.
    What is drawn for a sentence follows from its own seed: it does not depend on the others in the batch.

    Args:
        steps: see `beam_search`, as for the arguments that are not below.
        bos_id: what the first step reads.
        eos_id: the end.
        pad_id: what the model reads of translations that have ended, while others have not.
        settings: ``beam``, ``length_penalty``, ``min_length`` and ``no_repeat`` are read here.
        sampling: how each token is drawn.
        limits: int64 [B], each at least 1: most tokens of each sentence, the end counted.
        seeds: one for each sentence; None draws them from PyTorch's own generator.
        words: int64 [W], ascending, with ``eos_id``: these only.
        allowed: bool [B, W]: of the words, those of each sentence.

    Returns:
        Translations in the order they were drawn in. One that could not go on, as nothing had any
        probability, has no tokens and -inf.

    Raises:
        ValueError: as `beam_search`, and where there are not as many seeds as sentences.
    """
    check_sizes(steps, settings, limits)
    rules = Rules(settings, bos_id=bos_id, eos_id=eos_id, pad_id=pad_id, words=words, allowed=allowed)
    batch, beams, device = len(limits), settings.beam, limits.device
    if seeds is not None and len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} sentences")
    if batch == 0:
        return []
    longest = int(limits.max())
    if sampling.temperature > 0:
        seeds = torch.randint(2**62, (batch,)).tolist() if seeds is None else seeds
        uniform = _draws(seeds, limits.tolist(), beams, longest).to(device)  # [B, longest, K]
    normalise = Normaliser()

    # Of all sentences:
    written = torch.zeros(batch, beams, longest, dtype=torch.long, device=device)  # columns
    total = torch.zeros(batch, beams, dtype=torch.float64, device=device)
    length = torch.zeros(batch, beams, dtype=torch.long, device=device)  # 0: has not ended
    # Of those still in the batch:
    sentences = torch.arange(batch, device=device)
    tokens = torch.full((batch, beams), bos_id, dtype=torch.long, device=device)
    open_ = torch.ones(batch, beams, dtype=torch.bool, device=device)
    for step in range(1, longest + 1):
        logits = steps.step(tokens, words)  # [B, K, V]
        rules.close(logits)
        base = normalise(logits)  # [B, K]
        end_logit = logits[..., rules.end].clone()
        rules.forbid(logits, step, written[sentences, :, : step - 1])
        at_limit = limits == step  # [B]
        nothing = (logits.amax(-1) == -torch.inf) & ~at_limit[:, None]  # [B, K]
        logits.masked_fill_(nothing[..., None], 0.0)  # to draw something
        mark = uniform[sentences, step - 1].flatten() if sampling.temperature > 0 else None
        column = sampling.choose(logits.flatten(0, 1), uniform=mark).view(open_.shape)
        log_probability = logits.gather(-1, column[..., None])[..., 0]
        column = column.masked_fill(at_limit[:, None], rules.end)
        log_probability = torch.where(at_limit[:, None], end_logit, log_probability) - base
        log_probability.masked_fill_(nothing, -torch.inf)
        total[sentences] += log_probability.masked_fill(~open_, 0.0)
        written[sentences, :, step - 1] = column
        ends = open_ & ((column == rules.end) | (log_probability == -torch.inf))
        length[sentences] += ends * step
        open_ &= ~ends
        tokens = rules.tokens(column).masked_fill(~open_, pad_id)
        stay = open_.any(-1)
        left = int(stay.sum())
        if left == 0:
            break
        if left < len(sentences):
            keep = stay.nonzero()[:, 0]
            steps.select(keep)
            rules.select(keep)
            sentences, tokens, open_, limits = sentences[keep], tokens[keep], open_[keep], limits[keep]
    score = total / length**settings.length_penalty
    columns = zip(
        *(t.flatten(0, 1).tolist() for t in (rules.tokens(written), total, length, score)), strict=True
    )
    found = [NOTHING if p == -math.inf else Hypothesis(text[: n - 1], s, p) for text, p, n, s in columns]
    return [found[i : i + beams] for i in range(0, len(found), beams)]


def _draws(seeds: Sequence[int], limits: list[int], beams: int, longest: int) -> Tensor:
    """Numbers from 0 to less than 1, float64 [B, longest, K]; a sentence's follow from its seed and limit."""
    drawn = torch.zeros(len(seeds), longest, beams, dtype=torch.float64)
    for row, seed, limit in zip(drawn, seeds, limits, strict=True):
        generator = torch.Generator().manual_seed(seed)
        row[:limit] = torch.rand(limit, beams, dtype=torch.float64, generator=generator)
    return drawn
