"""Beam search for a batch of sentences."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attncli.decoding.candidates import best_candidates
from attncli.decoding.search import NOTHING, Hypothesis, Normaliser, SearchSettings, forbid_repeats, place
from attncli.decoding.steps import Steps

_LEAVE = 0.125  # share of the batch that must be decided before it is made smaller: copying has its price


@torch.inference_mode()
def beam_search(
    steps: Steps,
    *,
    bos_id: int,
    eos_id: int,
    pad_id: int,
    settings: SearchSettings,
    limits: Tensor,
    count: int = 1,
    words: Tensor | None = None,
    allowed: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """The best translations of each sentence, best first.

    In each step the 2 K best continuations of a sentence's K hypotheses are found. Of the best K of them, those
    that are the end become finished hypotheses; the best K that are not the end go on. At a sentence's limit
    every hypothesis that is left ends, with the probability that the end has there. ``bos_id`` and ``pad_id``
    never follow. What may not follow keeps its share of the probability: nothing is normalised again.

    A sentence is decided, and leaves the batch, when
      - ``settings.patience * K`` hypotheses have finished, or
      - ``count`` have, and no other can pass the worst of the ``count`` best. A hypothesis with the
        log-probability p can reach ``p / limit ** length_penalty`` at most, as no further token makes p
        larger. Leaving now and at the limit give the same ``count`` best; or
      - its limit is reached, or none of its hypotheses can go on.
    What is found for a sentence does not depend on the others in the batch. Ties go to the hypothesis that
    finished earlier, then to the better one before the step, then to the lower token.

    Args:
        steps: a new one, for B sentences and K = ``settings.beam`` hypotheses.
        bos_id: what the first step reads.
        eos_id: the end; may be the same as ``bos_id``.
        pad_id: what finished hypotheses are filled with.
        settings: all but ``max_length`` are read here.
        limits: int64 [B], each at least 1: most tokens of each sentence, the end counted, and so the most steps.
            It comes before ``min_length``.
        count: hypotheses returned of each sentence, K at most; fewer come back where fewer end.
        words: int64 [W], ascending, with ``eos_id``: search among these only. Probabilities are then shares
            among them.
        allowed: bool [B, W]: of the words, those that each sentence may take. Without it, what is found for a
            sentence depends on the words of the others.

    Raises:
        ValueError: for a ``count`` above the beam, limits below 1, words without the end, or sizes that differ.
    """
    _check(steps, settings, limits, count, words, eos_id)
    device = limits.device
    batch, beams = len(limits), settings.beam
    if batch == 0:
        return []
    end = place(words, eos_id)
    never = [place(words, token) for token in {bos_id, pad_id} - {eos_id}]
    normalise = Normaliser()
    ended = _Finished(batch, count, settings, device)

    sentences = torch.arange(batch, device=device)  # [B]: who is still in the batch
    tokens = torch.full((batch, beams), bos_id, dtype=torch.long, device=device)
    total = torch.full((batch, beams), -torch.inf, dtype=torch.float64, device=device)
    total[:, 0] = 0  # one hypothesis each; the others are none yet
    written = torch.empty(batch, beams, 0, dtype=torch.long, device=device)  # columns of the tokens so far
    decided = torch.zeros(batch, dtype=torch.bool, device=device)
    shut = None if allowed is None else _shut(allowed)  # [B, 1, W]
    nearest, longest = int(limits.min()), int(limits.max())

    for step in range(1, longest + 1):
        logits = steps.step(tokens, words)  # [B, K, V]
        if shut is not None:
            logits += shut
        base = total - normalise(logits)  # [B, K]
        ends = logits[..., end] + base if step >= nearest else None  # [B, K]
        for column in never:
            if column is not None:
                logits[..., column] = -torch.inf
        if step <= settings.min_length:
            logits[..., end] = -torch.inf
        if settings.no_repeat:
            forbid_repeats(logits, written, settings.no_repeat)
        number = min(2 * beams, beams * logits.shape[-1])
        score, beam, column = best_candidates(logits, base, number)  # each [B, M]

        is_end = column == end  # [B, M]
        new = is_end[:, :beams] & (score[:, :beams] > -torch.inf)  # [B, K]
        if ends is not None:
            at_limit = (limits == step) & ~decided  # [B]
            new = torch.where(at_limit[:, None], ends > -torch.inf, new)
            own = torch.arange(beams, device=device).expand_as(ends)
            ended.add(
                step,
                new,
                torch.where(at_limit[:, None], ends, score[:, :beams]),
                torch.where(at_limit[:, None], own, beam[:, :beams]),
                written,
                sentences,
            )
            decided |= at_limit
        else:
            ended.add(step, new, score[:, :beams], beam[:, :beams], written, sentences)

        # The best K that go on: the candidates are sorted, so it is the first K that are not the end.
        if bool(is_end.any()):
            go_on = is_end.to(torch.int8).sort(dim=-1, stable=True).indices[:, :beams]  # [B, K]
            score = score.masked_fill(is_end, -torch.inf).gather(1, go_on)
            beam, column = beam.gather(1, go_on), column.gather(1, go_on)
        else:
            score, beam, column = score[:, :beams], beam[:, :beams], column[:, :beams]
        decided |= ended.decided(sentences, score[:, 0], limits) | (score[:, 0] == -torch.inf)
        leave = int(decided.sum())
        if leave == len(decided):
            break
        if leave > len(decided) * _LEAVE:
            keep = (~decided).nonzero()[:, 0]
            steps.select(keep)
            sentences, limits, decided, written = sentences[keep], limits[keep], decided[keep], written[keep]
            score, beam, column = score[keep], beam[keep], column[keep]
            shut = None if shut is None else shut[keep]
            nearest = int(limits.min())
        elif leave:
            score = score.masked_fill(decided[:, None], -torch.inf)
        total = score
        if beams > 1:
            steps.reorder(beam)
            written = written.gather(1, beam[..., None].expand_as(written))
        written = torch.cat([written, column[..., None]], dim=-1)  # [B, K, step]
        tokens = column if words is None else words[column]
    return ended.best(words)


def _check(
    steps: Steps, settings: SearchSettings, limits: Tensor, count: int, words: Tensor | None, eos_id: int
) -> None:
    if not 1 <= count <= settings.beam:
        raise ValueError(f"count={count} is not between 1 and the beam, {settings.beam}")
    if (steps.batch, steps.beams) != (len(limits), settings.beam):
        raise ValueError(
            f"steps for {steps.batch} sentences of {steps.beams} hypotheses, but there are {len(limits)} "
            f"limits and a beam of {settings.beam}"
        )
    if len(limits) and int(limits.min()) < 1:
        raise ValueError("a limit below 1 leaves no room for the end")
    if words is not None and place(words, eos_id) is None:
        raise ValueError(f"the end, {eos_id}, is not among the words")


def _shut(allowed: Tensor) -> Tensor:
    """allowed bool [B, W] to what is added to logits, float32 [B, 1, W]: 0 or -inf."""
    zero = torch.zeros(allowed.shape, device=allowed.device)
    return zero.masked_fill_(~allowed, -torch.inf)[:, None]


class _Finished:
    """The hypotheses that have ended, and what is to be known of them at each step."""

    def __init__(self, batch: int, count: int, settings: SearchSettings, device: torch.device) -> None:
        self.batch, self.count = batch, count
        self.penalty = settings.length_penalty
        self.enough = math.ceil(settings.patience * settings.beam) if settings.patience < math.inf else None
        self.number = torch.zeros(batch, dtype=torch.long, device=device)
        self.scores = torch.full((batch, count), -torch.inf, dtype=torch.float64, device=device)
        self.groups: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(
        self,
        step: int,
        new: Tensor,
        log_probability: Tensor,
        beam: Tensor,
        written: Tensor,
        sentences: Tensor,
    ) -> None:
        """Those of [B, K] that ``new`` marks end with this step, as their ``beam`` was ``written``."""
        row, column = new.nonzero(as_tuple=True)  # each [N]
        if len(row) == 0:
            return
        sentence, ended = sentences[row], log_probability[row, column]
        score = ended / step**self.penalty
        self.groups.append((sentence, score, ended, written[row, beam[row, column]]))
        self.number.index_add_(0, sentence, torch.ones_like(sentence))
        fresh = (log_probability / step**self.penalty).masked_fill(~new, -torch.inf)  # [B, K]
        both = torch.cat([self.scores[sentences], fresh], dim=1)
        self.scores[sentences] = both.topk(self.count, dim=-1).values

    def decided(self, sentences: Tensor, best: Tensor, limits: Tensor) -> Tensor:
        """Sentences, bool [B], whose result is known; ``best`` float64 [B] is that of their unfinished ones."""
        if not self.groups:
            return torch.zeros_like(sentences, dtype=torch.bool)
        bound = best / limits**self.penalty
        decided = self.scores[sentences, -1] >= bound
        if self.enough is not None:
            decided |= self.number[sentences] >= self.enough
        return decided

    def best(self, words: Tensor | None) -> list[list[Hypothesis]]:
        """The ``count`` best of each sentence."""
        found: list[list[Hypothesis]] = [[] for _ in range(self.batch)]
        if self.groups:
            sentence, score, ended = (torch.cat([group[i] for group in self.groups]) for i in range(3))
            group = torch.cat(
                [torch.full_like(rows, i) for i, (rows, *_) in enumerate(self.groups)]
            )  # which, and where
            where = torch.cat([torch.arange(len(rows), device=rows.device) for rows, *_ in self.groups])
            order = score.argsort(descending=True, stable=True)
            order = order[sentence[order].argsort(stable=True)]
            kept = [tokens if words is None else words[tokens] for *_, tokens in self.groups]
            texts = [tokens.tolist() for tokens in kept]
            columns = (values[order].tolist() for values in (sentence, score, ended, group, where))
            for b, s, p, g, w in zip(*columns, strict=True):
                if len(found[b]) < self.count:
                    found[b].append(Hypothesis(texts[g][w], s, p))
        return [hypotheses or [NOTHING] for hypotheses in found]
