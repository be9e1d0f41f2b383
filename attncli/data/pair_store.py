"""Tokenised sentence pairs on disk, written once and memory-mapped.

A store is a folder of plain arrays for each side: ``source.bin`` (uint16 or uint32, the ids of all
sentences without ``</s>``), ``source_at.bin`` (int64, the first id of each sentence, then the number of
ids), ``source_counts.bin`` (int64, occurrences of each id); the same for ``target``; and ``pairs.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attncli.data.pair_files import Pair
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.data.sources import Progress
from attncli.data.token_store import mapped

VERSION = 2
"""Part of the cache key: raise it when reading, normalising, filtering or the layout changes."""
_TEXTS = 1 << 14


class PairStore:
    """Tokens of the pairs of one part.

    Attributes:
        source, target: [N] memory-mapped ids, sentences one after another, no ``</s>``.
        source_at, target_at: [P+1] first id of each sentence, then N.
        source_counts, target_counts: [V] occurrences of each id.
        longest: ids of the longest sentence of either side, ``</s>`` included.
        max_length: what ``longest`` may be at most.
        one_empty, both_empty, too_long: pairs left out.
        same: pairs kept whose two sides are the same text.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "pairs.json").read_text())
        self.folder = folder
        self.source = mapped(folder / "source.bin", about["source"])
        self.target = mapped(folder / "target.bin", about["target"])
        self.source_at = mapped(folder / "source_at.bin", "int64")
        self.target_at = mapped(folder / "target_at.bin", "int64")
        self.source_counts = np.fromfile(folder / "source_counts.bin", np.int64)
        self.target_counts = np.fromfile(folder / "target_counts.bin", np.int64)
        self.longest: int = about["longest"]
        self.max_length: int = about["max_length"]
        self.one_empty: int = about["one_empty"]
        self.both_empty: int = about["both_empty"]
        self.too_long: int = about["too_long"]
        self.same: int = about["same"]

    def __len__(self) -> int:
        """Pairs."""
        return len(self.source_at) - 1

    def lengths(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of the source and of the target of each pair at ``numbers`` [B], without ``</s>``."""
        return (
            self.source_at[numbers + 1] - self.source_at[numbers],
            self.target_at[numbers + 1] - self.target_at[numbers],
        )

    def sentences(self) -> Iterator[tuple[NDArray[np.integer], NDArray[np.integer]]]:
        """Ids of source and target of every pair, in order, without ``</s>``."""
        for number in range(len(self)):
            yield (
                self.source[self.source_at[number] : self.source_at[number + 1]],
                self.target[self.target_at[number] : self.target_at[number + 1]],
            )

    def left_out(self) -> str:
        """What is not learnt from and why, in words; empty when everything is."""
        reasons = (
            (self.one_empty, "with one side empty"),
            (self.both_empty, "empty on both sides"),
            (self.too_long, f"longer than data.max_length={self.max_length} tokens"),
        )
        return ", ".join(f"{count:,} {reason}" for count, reason in reasons if count)


def write_pairs(
    folder: Path,
    pairs: Iterable[Pair],
    tokenizer: PairTokenizer,
    max_length: int,
    what: str,
    progress: Progress | None = None,
) -> None:
    """Tokenise ``pairs`` into the empty ``folder``, in bounded memory; ``what`` names it for ``progress``."""
    sides = ("source", "target")
    sizes = {"source": tokenizer.vocabulary_source, "target": tokenizer.vocabulary_target}
    dtypes = {side: np.dtype(np.uint16 if sizes[side] <= 1 << 16 else np.uint32) for side in sides}
    counts = {side: np.zeros(sizes[side], np.int64) for side in sides}
    written = dict.fromkeys(sides, 0)
    about = {"one_empty": 0, "both_empty": 0, "too_long": 0, "same": 0, "longest": 0}
    seen = size = 0
    with ExitStack() as files:
        out = {
            name: files.enter_context((folder / f"{name}.bin").open("wb"))
            for side in sides
            for name in (side, f"{side}_at")
        }
        for chunk in _chunks(pairs):
            texts = dict(zip(sides, zip(*chunk, strict=True), strict=True))
            found = {side: tokenizer.flat(texts[side], side) for side in sides}  # type: ignore[arg-type]
            lengths = np.stack([found[side][1] for side in sides])  # [2, P]
            empty = (lengths == 0).sum(0)
            long = (empty == 0) & (lengths.max(0) + 1 > max_length)
            keep = (empty == 0) & ~long
            about["one_empty"] += int((empty == 1).sum())
            about["both_empty"] += int((empty == 2).sum())
            about["too_long"] += int(long.sum())
            about["same"] += sum(a == b for (a, b), kept in zip(chunk, keep.tolist(), strict=True) if kept)
            about["longest"] = max(about["longest"], int(lengths[:, keep].max(initial=-1)) + 1)
            for side in sides:
                ids, length = found[side]
                ids, length = ids[np.repeat(keep, length)], length[keep]
                counts[side] += np.bincount(ids, minlength=sizes[side])
                out[side].write(ids.astype(dtypes[side]).tobytes())
                out[f"{side}_at"].write((written[side] + np.cumsum(length) - length).tobytes())
                written[side] += len(ids)
            seen += len(chunk)
            size += sum(len(a) + len(b) for a, b in chunk)
            if progress:
                progress(f"tokenising the {what}", seen, size)
        for side in sides:
            out[f"{side}_at"].write(np.int64(written[side]).tobytes())
    for side in sides:
        counts[side].tofile(folder / f"{side}_counts.bin")
    types = {side: dtypes[side].name for side in sides}
    (folder / "pairs.json").write_text(json.dumps({**about, **types, "max_length": max_length}))


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    stream = iter(pairs)
    while chunk := list(islice(stream, _TEXTS)):
        yield chunk
