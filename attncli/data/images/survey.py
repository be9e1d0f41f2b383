"""A look at the header of every picture before training: sizes, colours, and files that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import entry, key_of
from attncli.data.images.reading import Header, Unreadable
from attncli.data.images.store import Encoded, FilePictures
from attncli.data.sources import Progress

VERSION = 1
_THREADS = 8
_BLOCK = 512
_TOGETHER = 16
"""Pictures that a thread reads at a time: small ones take less time than the hand-over."""
_FEW = 1000
"""Headers of so few pictures are read anew each time."""


@dataclass(frozen=True)
class Survey:
    """What the headers say.

    Attributes:
        sizes: int64 [N, 2], height and width; 0 where it cannot be read.
        grey: bool [N].
        unreadable: why, by number.
    """

    sizes: NDArray[np.int64]
    grey: NDArray[np.bool_]
    unreadable: dict[int, str]


def survey(pictures: Encoded, cache: Path, progress: Progress | None = None) -> Survey:
    """Read all headers; of many pictures the result is kept in ``cache``."""
    if len(pictures) <= _FEW:
        return _look(pictures, progress)

    def build(aside: Path) -> None:
        found = _look(pictures, progress)
        np.concatenate([found.sizes, found.grey[:, None]], 1).astype("<i4").tofile(aside / "headers.bin")
        (aside / "unreadable.json").write_text(json.dumps(sorted(found.unreadable.items())))

    target = entry(cache, f"headers-{key_of(VERSION, pictures.identity())}", build)
    values = np.fromfile(target / "headers.bin", "<i4").astype(np.int64).reshape(-1, 3)
    unreadable = {int(at): str(why) for at, why in json.loads((target / "unreadable.json").read_text())}
    return Survey(values[:, :2], values[:, 2].astype(bool), unreadable)


def _look(pictures: Encoded, progress: Progress | None) -> Survey:
    sizes = np.zeros((len(pictures), 2), np.int64)
    grey = np.zeros(len(pictures), bool)
    unreadable: dict[int, str] = {}

    def note(at: int, found: Header | Unreadable) -> None:
        if isinstance(found, Unreadable):
            unreadable[at] = found.reason
        else:
            sizes[at], grey[at] = found[:2], found.grey

    threads = _THREADS if isinstance(pictures, FilePictures) else 1
    in_order(pictures.header, len(pictures), note, "looking at pictures", progress, threads)
    return Survey(sizes, grey, unreadable)


def in_order(
    read: Callable[[int], Any],
    count: int,
    take: Callable[[int, Any], None],
    what: str,
    progress: Progress | None,
    threads: int = 1,
) -> None:
    """``take(at, read(at))`` for each number in order; Unreadable is taken like a result.

    Threads pay where one reading waits for a disk or decodes long; else they only wait for each other.
    """

    def tried(at: int) -> Any:
        try:
            return read(at)
        except Unreadable as error:
            return error

    def several(numbers: range) -> list[Any]:
        return [tried(at) for at in numbers]

    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        many = map if pool is None else pool.map
        for first in range(0, count, _BLOCK):
            block = range(first, min(first + _BLOCK, count))
            parts = [block[at : at + _TOGETHER] for at in range(0, len(block), _TOGETHER)]
            for numbers, results in zip(parts, many(several, parts), strict=True):
                for at, found in zip(numbers, results, strict=True):
                    take(at, found)
            if progress:
                progress(what, block.stop, 0)
