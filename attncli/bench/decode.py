"""Beam search of a translation model: ours, and its peers' on the same weights, sentences and settings."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attncli.bench.remote import Builds, Remote, start_peers
from attncli.decoding import SearchSettings
from attncli.errors import RecipeError
from attncli.models.ctranslate2_folder import save_ctranslate2
from attncli.models.marian import save_marian
from attncli.models.transformer import Transformer
from attncli.recipe.bench import BenchLengths

Ids = list[list[int]]


@dataclass(frozen=True)
class SpecialIds:
    """Ids of a vocabulary of numbers, and what a translator asks a tokenizer for: no text, no time."""

    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    unk_id: int = 3

    def decode(self, ids: list[int]) -> str:
        """Nothing: ids are what is timed."""
        return ""


class FixedLength(SearchSettings):
    """Every translation has ``min_length`` tokens and its end, so that all systems write equally much."""

    def limits(self, lengths: Tensor, most: int) -> Tensor:
        """``min_length`` and one, int64 [B]."""
        return torch.full_like(lengths, self.min_length + 1)


@dataclass(frozen=True)
class Work:
    """What every system translates, and how it searches; it travels to the peers' processes."""

    sources: Ids
    """Source ids, the end counted."""
    settings: SearchSettings
    batch: int
    """Sentences that a peer searches at once."""
    longest: int
    """Tokens that the model takes."""
    ids: SpecialIds = SpecialIds()

    def limits(self) -> list[int]:
        """Most tokens of each translation, the end counted."""
        lengths = torch.tensor([len(row) for row in self.sources])
        return self.settings.limits(lengths, self.longest).tolist()

    def tokens(self, found: Ids) -> int:
        """Tokens written: each translation and its end."""
        if isinstance(self.settings, FixedLength):
            return len(found) * (self.settings.min_length + 1)
        return sum(len(row) + 1 for row in found)


def random_lengths(lengths: BenchLengths, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` lengths of sentences, int64: a Beta distribution as wide as that of image captions."""
    span = lengths.longest - lengths.shortest
    mean = (lengths.mean - lengths.shortest) / span
    return lengths.shortest + np.rint(span * rng.beta(2.0, 2.0 * (1 - mean) / mean, count)).astype(np.int64)


def random_sources(lengths: BenchLengths, count: int, vocabulary: int, seed: int) -> Ids:
    """Sentences of random words, each with its end."""
    rng = np.random.default_rng(seed)
    first, end = SpecialIds.unk_id + 1, SpecialIds.eos_id
    return [
        [*rng.integers(first, vocabulary, length - 1).tolist(), end]
        for length in random_lengths(lengths, count, rng).tolist()
    ]


# Peers: built in their own processes, each a function of plain values that gives a step.


def transformers_search(folder: str, work: Work, device: str) -> Callable[[], Ids]:
    """``generate`` of MarianMTModel with its cache, sentences sorted by length as ours are.

    ``early_stopping`` decides a sentence when as many hypotheses have ended as the beam is wide: our rule
    and CTranslate2's, and quicker than the default.
    """
    from transformers import MarianMTModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = MarianMTModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    order = sorted(range(len(work.sources)), key=lambda at: len(work.sources[at]))
    limits, settings = work.limits(), work.settings
    options = {
        "num_beams": settings.beam,
        "length_penalty": settings.length_penalty,
        "early_stopping": settings.beam > 1,
        "min_new_tokens": settings.min_length or None,
        "no_repeat_ngram_size": settings.no_repeat or None,
        "do_sample": False,
        "use_cache": True,
    }
    if settings.beam == 1:
        del options["length_penalty"], options["early_stopping"]

    def step() -> Ids:
        found: Ids = [[] for _ in order]
        for first in range(0, len(order), work.batch):
            group = order[first : first + work.batch]
            rows = [torch.tensor(work.sources[at]) for at in group]
            source = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=work.ids.pad_id)
            lengths = torch.tensor([len(row) for row in rows])
            keep = torch.arange(source.shape[1]) < lengths[:, None]
            with torch.inference_mode():
                written = model.generate(
                    input_ids=source.to(device),
                    attention_mask=keep.long().to(device),
                    max_new_tokens=max(limits[at] for at in group),
                    **options,
                )
            for at, row in zip(group, written.tolist(), strict=True):
                found[at] = _bare(row[1:], work.ids)
        return found

    return step


def _bare(row: list[int], ids: SpecialIds) -> list[int]:
    """Tokens up to the end."""
    return row[: row.index(ids.eos_id)] if ids.eos_id in row else [t for t in row if t != ids.pad_id]


def ctranslate2_search(folder: str, work: Work, device: str, compute: str) -> Callable[[], Ids]:
    """CTranslate2's ``translate_batch``, which sorts and batches by itself; as many threads as ours."""
    import ctranslate2

    where, _, index = device.partition(":")
    translator = ctranslate2.Translator(
        folder,
        device=where,
        device_index=int(index or 0),
        compute_type=compute,
        inter_threads=1,
        intra_threads=torch.get_num_threads(),
    )
    texts = [[str(token) for token in row] for row in work.sources]
    settings = work.settings
    options = {
        "beam_size": settings.beam,
        "length_penalty": settings.length_penalty,
        "min_decoding_length": settings.min_length,
        "max_decoding_length": max(work.limits()),
        "no_repeat_ngram_size": settings.no_repeat,
        "max_batch_size": work.batch,
        "max_input_length": 0,
    }

    def step() -> Ids:
        written = translator.translate_batch(texts, **options)
        return [[int(token) for token in result.hypotheses[0]] for result in written]

    return step


@contextmanager
def peer_searches(
    model: nn.Module, work: Work, device: torch.device, say: Callable[[str], None], *, wanted: bool = True
) -> Iterator[dict[tuple[str, str], Remote]]:
    """The same search of other libraries, each in a process of its own, by (case, precision).

    ``say`` hears of each that there is not, and why.
    """
    if not wanted:
        yield {}
        return
    with TemporaryDirectory(prefix="attn-bench-") as folder:
        builds: Builds = {}
        for name, write in {"transformers": _write_marian, "ctranslate2": _write_ctranslate2}.items():
            if importlib.util.find_spec(name) is None:
                say(f"no {name} beside ours: pip install {name}")
                continue
            try:
                builds |= write(model, Path(folder) / name, work, str(device))
            except RecipeError as error:
                say(f"no {name} beside ours: {error}")
        peers = start_peers(builds, say, device=str(device), threads=torch.get_num_threads())
        try:
            yield peers
        finally:
            for peer in peers.values():
                peer.close()


def _write_marian(model: nn.Module, folder: Path, work: Work, device: str) -> Builds:
    if not isinstance(model, Transformer):
        raise RecipeError("it has no recurrent model")
    save_marian(model, folder, bos_id=work.ids.bos_id, eos_id=work.ids.eos_id, limit=work.longest)
    return {("transformers", "float32"): (transformers_search, str(folder), work, device)}


def _write_ctranslate2(model: nn.Module, folder: Path, work: Work, device: str) -> Builds:
    """Its words are named by their ids."""
    if not isinstance(model, Transformer):
        raise RecipeError("it has no recurrent model")
    config, ids = model.config, work.ids
    names = [
        [str(token) for token in range(count)]
        for count in (config.source_vocabulary, config.target_vocabulary)
    ]
    special = {name: str(getattr(ids, f"{name}_id")) for name in ("bos", "eos", "unk")}
    save_ctranslate2(model, folder, source=names[0], target=names[1], **special)
    return {
        ("ctranslate2", compute): (ctranslate2_search, str(folder), work, device, compute)
        for compute in ("float32", "int8")
    }


def table(
    work: Work,
    timed: dict[tuple[str, str], Any],
    found: dict[tuple[str, str], Ids],
    bleu: dict[tuple[str, str], float],
) -> list[dict[str, Any]]:
    """Rows of the report: sentences and tokens a second, how much longer than ours it takes, BLEU."""
    first = next(iter(timed.values())).median
    return [
        {
            "case": case,
            "precision": precision,
            "seconds": timing.median,
            "spread": timing.spread,
            "sentences_per_second": len(work.sources) / timing.median,
            "tokens_per_second": work.tokens(found[case, precision]) / timing.median,
            "attn_times_as_fast": timing.median / first,
            "bleu": bleu.get((case, precision)),
        }
        for (case, precision), timing in timed.items()
    ]
