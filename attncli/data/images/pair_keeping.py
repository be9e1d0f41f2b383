"""Pictures with masks are decoded and checked before training, and kept decoded in a mapped file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import entry, key_of
from attncli.data.faults import Faults
from attncli.data.images.masks import Mask
from attncli.data.images.paired import EncodedPairs, HeldPairs, KeptPairs, Paired, PairLook
from attncli.data.images.reading import Pixels, Unreadable
from attncli.data.images.survey import in_order
from attncli.data.sources import Progress

VERSION = 1
"""Part of the cache key: raise it when reading or shaping changes what comes out."""


@dataclass(frozen=True)
class Checked:
    """Pairs that can be used, and what is known of them."""

    pairs: Paired
    shapes: NDArray[np.int64]
    """Height, width and channels of each, [N, 3]."""
    counts: NDArray[np.int64]
    """Pixels of each value of the mask, [N, 256]."""
    sums: NDArray[np.float64]
    """Sums of the pixels (from 0 to 1) and of their squares by channel, [N, 2, 3]."""
    skipped: int = 0
    """Pairs left out because they cannot be used."""
    kept_bytes: int = 0

    def mean_and_deviation(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of pixels from 0 to 1, by channel."""
        channels = int(self.shapes[0, 2])
        pixels = self.shapes[:, :2].prod(1).sum()
        mean, square = self.sums.sum(0)[:, :channels] / pixels
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-6))


class _Facts:
    """Shapes and sums, one pair after the other."""

    def __init__(self, count: int) -> None:
        self.shapes = np.zeros((count, 3), np.int64)
        self.counts = np.zeros((count, 256), np.int64)
        self.sums = np.zeros((count, 2, 3))

    def note(self, at: int, image: Pixels, mask: Mask) -> None:
        self.shapes[at] = image.shape
        self.counts[at] = np.bincount(mask.ravel(), minlength=256)
        values = np.arange(256) / 255
        for channel in range(image.shape[2]):
            histogram = np.bincount(image[..., channel].ravel(), minlength=256)
            self.sums[at, :, channel] = histogram @ values, histogram @ values**2


def check_pairs(
    source: Paired,
    look: PairLook,
    corrupt: str,
    faults: Faults,
    folder: Path,
    memory: int,
    what: str = "reading",
    progress: Progress | None = None,
) -> Checked:
    """Read every pair once.

    Args:
        source: where they are. look: how they are brought to one shape. corrupt: refuse notes pairs that
        cannot be used in ``faults``, skip leaves them out. faults: takes what is wrong. folder: the cache:
        what was found stands in its entry ``pairs-KEY``, which follows from the files (path,
            size, time), classes and look; with the decoded pictures and masks where they fit.
        memory: bytes that may be kept.
        what, progress: told how far it is.
    """
    if isinstance(source, HeldPairs):
        return _held(source, look)
    encoded: EncodedPairs = source.seen(look)  # type: ignore[attr-defined]
    read: dict[int, str] = {}

    def build(aside: Path) -> None:
        facts, unreadable = _Facts(len(encoded)), {}
        path, size = aside / "pixels.bin", [0]
        with path.open("wb") as file:

            def take(at: int, found: tuple[Pixels, Mask] | Unreadable) -> None:
                if isinstance(found, Unreadable):
                    unreadable[at] = read[at] = found.reason
                    return
                facts.note(at, *found)
                size[0] += sum(part.nbytes for part in found)
                if size[0] <= memory:
                    for part in found:
                        file.write(np.ascontiguousarray(part))

            threads = min(8, os.cpu_count() or 1)
            in_order(encoded.read, len(encoded), take, what, progress, threads)
        if size[0] > memory:
            path.unlink()
        facts.shapes.astype("<i8").tofile(aside / "shapes.bin")
        facts.counts.astype("<u4").tofile(aside / "counts.bin")
        facts.sums.astype("<f8").tofile(aside / "sums.bin")
        (aside / "unreadable.json").write_text(json.dumps(sorted(unreadable.items())))

    target = entry(folder, f"pairs-{key_of(VERSION, encoded.identity(), memory)}", build)
    unreadable = {int(at): str(why) for at, why in json.loads((target / "unreadable.json").read_text())}
    if corrupt == "refuse":
        for at, why in sorted(unreadable.items()):
            faults.add(why, encoded.place(at), "data.corrupt=skip leaves such pictures out")
    shapes = _array(target / "shapes.bin", "<i8", np.int64, (-1, 3))
    counts = _array(target / "counts.bin", "<u4", np.int64, (-1, 256))
    sums = _array(target / "sums.bin", "<f8", np.float64, (-1, 2, 3))
    good = np.array([at for at in range(len(encoded)) if at not in unreadable], np.int64)
    pixels, kept = target / "pixels.bin", 0
    pairs: Paired = encoded.take(good.tolist())
    if pixels.exists() and len(good):
        kept = pixels.stat().st_size
        pairs = KeptPairs(pixels, shapes[good], [encoded.place(at) for at in good.tolist()])
    return Checked(pairs, shapes[good], counts[good], sums[good], len(unreadable), kept)


def _array(path: Path, stored: str, wanted: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.fromfile(path, stored).astype(wanted).reshape(shape)


def _held(source: HeldPairs, look: PairLook) -> Checked:
    facts = _Facts(len(source))
    images, masks = [], []
    for at in range(len(source)):
        image, mask = replace(look, room=1.0).shape(*source.read(at))
        facts.note(at, image, mask)
        images.append(image)
        masks.append(mask)
    held = HeldPairs(images, masks, source.places)
    return Checked(held, facts.shapes, facts.counts, facts.sums)
