"""A translation model put to use: texts in, translations out, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attncli.attention import record
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.decoding import (
    Hypothesis,
    Sampling,
    SearchSettings,
    Shortlist,
    beam_search,
    sample_translations,
)
from attncli.recipe.translate import Search
from attncli.tasks.pruning import Prediction


@dataclass(frozen=True)
class Translation:
    """One translation of a text."""

    text: str
    score: float
    """Log-probability, divided by the length as the search's length penalty says."""
    tokens: list[int]
    """Target ids, the end left out."""


EMPTY = Translation("", 0.0, [])


class Translator:
    """Searches translations with a model in eval mode.

    Sentences of like length are searched together, ``search.batch`` at a time; what is found does not depend
    on that. A text of blanks alone has the empty translation.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PairTokenizer,
        search: Search,
        shortlist: Shortlist | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> None:
        """``sampling`` draws translations instead of searching them, sentence n with ``seed`` + n."""
        self.sampling, self.seed = sampling, seed
        self.model, self.tokenizer, self.batch = model, tokenizer, search.batch
        self.shortlist = shortlist
        self.settings = SearchSettings(
            beam=search.beam,
            length_penalty=search.length_penalty,
            min_length=search.min_length,
            max_length=search.max_length,
            no_repeat=search.no_repeat,
        )
        self.device = next(model.parameters()).device

    @property
    def longest(self) -> int:
        """Most tokens of a source, its end counted."""
        return self.model.config.length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Source ids of each text, the end counted; none of an empty text."""
        found = self.tokenizer.encode_many(texts, "source")
        return [ids if len(ids) > 1 else [] for ids in found]

    def translate(
        self, texts: Sequence[str], *, count: int = 1, progress: Callable[[int], None] | None = None
    ) -> list[list[Translation]]:
        """The ``count`` best translations of each text, best first; fewer where fewer were found.

        With sampling ``count`` drawn ones, in the order drawn.

        Raises ValueError for a text that is longer than the model can take. ``progress`` hears of how many
        texts are done.
        """
        return self.translate_encoded(self.encode(texts), count=count, progress=progress)

    def translate_encoded(
        self, sources: Sequence[list[int]], *, count: int = 1, progress: Callable[[int], None] | None = None
    ) -> list[list[Translation]]:
        """As :meth:`translate`, of what :meth:`encode` gave."""
        for ids in sources:
            if len(ids) > self.longest:
                raise ValueError(f"it has {len(ids)} tokens; the model takes {self.longest}")
        found: list[list[Translation]] = [[EMPTY] for _ in sources]
        order = sorted((at for at, ids in enumerate(sources) if ids), key=lambda at: len(sources[at]))
        done = len(sources) - len(order)
        for first in range(0, len(order), self.batch):
            group = order[first : first + self.batch]
            for at, hypotheses in zip(group, self._search(group, sources, count), strict=True):
                found[at] = [
                    Translation(self.tokenizer.decode(h.tokens), h.score, h.tokens) for h in hypotheses
                ]
            done += len(group)
            if progress:
                progress(done)
        self.seed += len(sources)
        return found

    @torch.inference_mode()
    def _search(self, group: list[int], sources: Sequence[list[int]], count: int) -> list[list[Hypothesis]]:
        source, keep = self._padded([sources[at] for at in group])
        words = None if self.shortlist is None else self.shortlist.words(source)
        settings = self.settings if self.sampling is None else replace(self.settings, beam=count)
        limits = settings.limits(keep.sum(1), self.longest)  # [B]
        steps = self.model.decoding(
            source, None if bool(keep.all()) else keep, settings.beam, int(limits.max())
        )
        options = {
            "bos_id": self.tokenizer.bos_id,
            "eos_id": self.tokenizer.eos_id,
            "pad_id": self.tokenizer.pad_id,
            "settings": settings,
            "limits": limits,
            "words": words,
            "allowed": None if words is None else self.shortlist.allowed(source, words),
        }
        if self.sampling is None:
            return beam_search(steps, count=count, **options)
        seeds = [self.seed + at for at in group]
        return sample_translations(steps, sampling=self.sampling, seeds=seeds, **options)

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids [B, T] padded on the right, and where they are real, bool [B, T]."""
        lengths = torch.tensor([len(row) for row in rows])
        keep = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.full(keep.shape, self.tokenizer.pad_id, dtype=torch.long)
        ids[keep] = torch.tensor([token for row in rows for token in row])
        return ids.to(self.device), keep.to(self.device)

    @torch.inference_mode()
    def read(self, source: list[int], target: list[int]) -> list[tuple[str, Tensor]]:
        """Recorded attention of every layer [1, H, Tq, Tk] while ``target`` (without its end) is written.

        Row t of the decoder's is where the model looks when it predicts target token t, the end included. It
        is computed by reading the translation again, and so the same whatever search found it.
        """
        with record(self.model) as recorded:
            self.model(*self._pair(source, target))
        return recorded.weights

    def maps(self, source: list[int], target: list[int]) -> list[tuple[str, NDArray[np.float32]]]:
        """Cross attention of each layer: [H, T + 1, S] each, as :meth:`read` gives it."""
        return [
            (name, weights[0].float().cpu().numpy())
            for name, weights in self.read(source, target)
            if "cross" in name
        ]

    def predict(self, source: list[int], target: list[int]) -> Prediction:
        """What the model says at each token of ``target`` and at its end, given those before."""
        logits = self.model(*self._pair(source, target))[0]  # [T + 1, V]
        return Prediction.of(logits, torch.tensor([*target, self.tokenizer.eos_id], device=self.device))

    def _pair(self, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
        rows = [source], [[self.tokenizer.bos_id, *target]]
        return tuple(torch.tensor(row, device=self.device) for row in rows)


def one_map(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The map [T, S] that aligns words, of those of the layers [H, T, S]: heads' mean, last but one.

    In a Transformer that layer aligns best (Garg et al. 2019, https://arxiv.org/abs/1909.02074).
    """
    return maps[-2 if len(maps) > 1 else -1].mean(0)
