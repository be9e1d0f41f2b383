"""Small sets are decoded once, into a file that is mapped into memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import entry, key_of
from attncli.data.images.reading import Pixels, Unreadable
from attncli.data.images.store import ArrayPictures, Encoded, Pictures, RaggedPictures
from attncli.data.images.survey import in_order
from attncli.data.sources import Progress

VERSION = 1
"""Part of the cache key: raise it when reading or shaping changes what comes out."""


class Kept(NamedTuple):
    """Decoded pictures in order, and the numbers and reasons of those that are not among them."""

    pictures: Pictures
    unreadable: dict[int, str]


def decoded_bytes(pictures: Encoded, sizes: NDArray[np.int64]) -> int:
    """What ``pictures`` take decoded, given the heights and widths [N, 2] in their headers."""
    look = pictures.look
    channels = 1 if look.channels == "grey" else 3
    if look.size is not None and look.room == 1:
        return len(sizes) * look.size[0] * look.size[1] * channels
    shaped = [look.shaped(int(h), int(w)) for h, w in sizes if h and w]
    return sum(height * width for height, width in shaped) * channels


def keep_decoded(
    pictures: Encoded, folder: Path, progress: Progress | None = None, *, threads: int = 1
) -> Kept:
    """All of ``pictures``, read as their ``look`` says, in the cache entry ``decoded-KEY`` of ``folder``.

    The key follows from the files (path, size, time) or the bytes, and from the look. The entry is complete
    or not there, whatever happens meanwhile.
    """

    def build(aside: Path) -> None:
        shapes = np.zeros((len(pictures), 3), np.int64)
        unreadable: dict[int, str] = {}
        with (aside / "pixels.bin").open("wb") as file:

            def take(at: int, found: Pixels | Unreadable) -> None:
                if isinstance(found, Unreadable):
                    unreadable[at] = found.reason
                else:
                    shapes[at] = found.shape
                    file.write(np.ascontiguousarray(found))

            in_order(pictures.read, len(pictures), take, "decoding pictures", progress, threads)
        shapes.astype("<i8").tofile(aside / "shapes.bin")
        (aside / "unreadable.json").write_text(json.dumps(sorted(unreadable.items())))

    look = pictures.look
    key = key_of(VERSION, pictures.identity(), look.channels, look.size, look.fit, look.room)
    target = entry(folder, f"decoded-{key}", build)
    shapes = np.fromfile(target / "shapes.bin", "<i8").astype(np.int64).reshape(-1, 3)
    unreadable = {int(at): str(why) for at, why in json.loads((target / "unreadable.json").read_text())}
    path, seen = target / "pixels.bin", shapes[shapes[:, 0] > 0]
    if len(seen) and (seen == seen[0]).all():
        return Kept(ArrayPictures.mapped(path, (len(seen), *seen[0].tolist())), unreadable)
    return Kept(RaggedPictures(path, seen), unreadable)
