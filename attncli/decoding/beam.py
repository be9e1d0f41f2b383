"""Beam search for a batch of sentences."""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.decoding.candidates import Candidates
from attncli.decoding.search import NOTHING, Hypothesis, Normaliser, Rules, SearchSettings, check_sizes
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

    In each step the 2 K best continuations of a sentence's K hypotheses are found. Of the best K of them,
    those that are the end become finished hypotheses; the best K that are not the end go on. At a sentence's
    limit every hypothesis that is left ends, with the probability that the end has there. ``bos_id`` and
    ``pad_id`` never follow. What may not follow keeps its share of the probability: nothing is normalised
    again.

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
        limits: int64 [B], each at least 1: most tokens of each sentence, the end counted, and so the most
            steps. It comes before ``min_length``.
        count: hypotheses returned of each sentence, K at most; fewer come back where fewer end.
        words: int64 [W], ascending, with ``eos_id``: search among these only. Probabilities are then shares
            among them.
        allowed: bool [B, W]: of the words, those that each sentence may take. Without it, what is found for a
            sentence depends on the words of the others.

    Raises:
        ValueError: for a ``count`` above the beam, limits below 1, words without the end, or sizes that
            differ.
    """
    if not 1 <= count <= settings.beam:
        raise ValueError(f"count={count} is not between 1 and the beam, {settings.beam}")
    check_sizes(steps, settings, limits)
    rules = Rules(settings, bos_id=bos_id, eos_id=eos_id, pad_id=pad_id, words=words, allowed=allowed)
    batch, beams, device = len(limits), settings.beam, limits.device
    if batch == 0:
        return []
    normalise, ended = Normaliser(), _Finished(limits, count, settings)
    best: Candidates | None = None

    tokens = torch.full((batch, beams), bos_id, dtype=torch.long, device=device)
    total = torch.full((batch, beams), -torch.inf, dtype=torch.float64, device=device)
    total[:, 0] = 0  # one hypothesis each; the others are none yet
    written = torch.empty(batch, beams, 0, dtype=torch.long, device=device)  # columns of the tokens so far
    decided = torch.zeros(batch, dtype=torch.bool, device=device)
    nearest, longest = int(limits.min()), int(limits.max())

    for step in range(1, longest + 1):
        logits = steps.step(tokens, words)  # [B, K, V]
        rules.close(logits)
        base = total - normalise(logits)  # [B, K]
        ends = logits[..., rules.end] + base if step >= nearest else None  # [B, K]
        rules.forbid(logits, step, written)
        if best is None:
            best = Candidates(beams, logits.shape[-1], min(2, logits.shape[-1]) * beams, device)
        score, beam, column = best(logits, base)  # each [B, M]

        is_end = column == rules.end  # [B, M]
        some_end = bool(is_end.any())
        if ends is not None:
            at_limit = (limits == step) & ~decided  # [B]
            last = at_limit[:, None]
            new = torch.where(last, ends, score[:, :beams].masked_fill(~is_end[:, :beams], -torch.inf))
            own = torch.arange(beams, device=device)
            ended.add(step, new, torch.where(last, own, beam[:, :beams]), written)
            decided |= at_limit
        elif some_end:
            new = score[:, :beams].masked_fill(~is_end[:, :beams], -torch.inf)  # [B, K]
            ended.add(step, new, beam[:, :beams], written)

        # The best K that go on: the candidates are sorted, so it is the first K that are not the end.
        if some_end:
            go_on = is_end.to(torch.int8).sort(dim=-1, stable=True).indices[:, :beams]  # [B, K]
            score = score.masked_fill(is_end, -torch.inf).gather(1, go_on)
            beam, column = beam.gather(1, go_on), column.gather(1, go_on)
        else:
            score, beam, column = score[:, :beams], beam[:, :beams], column[:, :beams]
        decided |= ended.decided(score[:, 0])
        leave = int(decided.sum())
        if leave == len(decided):
            break
        if leave > len(decided) * _LEAVE:
            keep = (~decided).nonzero()[:, 0]
            steps.select(keep)
            ended.select(keep)
            limits, decided, written = limits[keep], decided[keep], written[keep]
            score, beam, column = score[keep], beam[keep], column[keep]
            rules.select(keep)
            nearest = int(limits.min())
        elif leave:
            score = score.masked_fill(decided[:, None], -torch.inf)
        total = score
        if beams > 1:
            steps.reorder(beam)
            written = written.gather(1, beam[..., None].expand_as(written))
        written = torch.cat([written, column[..., None]], dim=-1)  # [B, K, step]
        tokens = rules.tokens(column)
    return ended.best(rules)


class _Finished:
    """The hypotheses that have ended, and what each step must know of them."""

    def __init__(self, limits: Tensor, count: int, settings: SearchSettings) -> None:
        batch, device = len(limits), limits.device
        self.batch, self.count, self.penalty = batch, count, settings.length_penalty
        self.enough = settings.patience * settings.beam
        self.groups: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        # Of the sentences that are still in the batch:
        self.sentences = torch.arange(batch, device=device)
        self.divisor = limits.double() ** self.penalty
        self.number = torch.zeros(batch, dtype=torch.long, device=device)
        self.scores = torch.full((batch, count), -torch.inf, dtype=torch.float64, device=device)

    def add(self, step: int, new: Tensor, beam: Tensor, written: Tensor) -> None:
        """Hypotheses [B, K] end in this step.

        ``new``: their log-probabilities, -inf where none ends. ``beam``: which of ``written`` they have been.
        """
        row, column = (new > -torch.inf).nonzero(as_tuple=True)  # each [N]
        if len(row) == 0:
            return
        scores = new / step**self.penalty  # [B, K]
        text = written[row, beam[row, column]]  # [N, step - 1]
        self.groups.append((self.sentences[row], scores[row, column], new[row, column], text))
        self.number.index_add_(0, row, torch.ones_like(row))
        self.scores = torch.cat([self.scores, scores], dim=1).topk(self.count, dim=-1).values

    def decided(self, best: Tensor) -> Tensor:
        """Sentences, bool [B], whose result is known; ``best`` float64 [B] is their unfinished ones'."""
        if not self.groups:
            return best == -torch.inf
        return (self.scores[:, -1] >= best / self.divisor) | (self.number >= self.enough)

    def select(self, keep: Tensor) -> None:
        """These sentences stay in the batch."""
        self.sentences, self.divisor = self.sentences[keep], self.divisor[keep]
        self.number, self.scores = self.number[keep], self.scores[keep]

    def best(self, rules: Rules) -> list[list[Hypothesis]]:
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
            texts = [rules.tokens(written).tolist() for *_, written in self.groups]
            columns = (values[order].tolist() for values in (sentence, score, ended, group, where))
            for b, s, p, g, w in zip(*columns, strict=True):
                if len(found[b]) < self.count:
                    found[b].append(Hypothesis(texts[g][w], s, p))
        return [hypotheses or [NOTHING] for hypotheses in found]
