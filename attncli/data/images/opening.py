"""Parts of a data set of pictures opened: headers looked at, damage told, decoded once where it fits."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import cache_folder
from attncli.data.faults import Faults
from attncli.data.images.keeping import decoded_bytes, keep_decoded
from attncli.data.images.raw import COMMAND, Raw
from attncli.data.images.shaping import Look
from attncli.data.images.store import ArrayPictures, Encoded, Pictures
from attncli.data.images.survey import Survey, survey
from attncli.data.labels import Labels, targets_of
from attncli.data.sources import Progress
from attncli.errors import DataError
from attncli.recipe.vision import LabelledPictures

_LARGE = 1 << 14
"""Pixels from which on pictures are decoded by several threads."""


@dataclass
class ImageSet:
    """Pictures with what is to be said of them."""

    name: str
    pictures: Pictures
    targets: NDArray[Any]
    """int64 [N], float32 [N, L] of 0 and 1, or float32 [N]."""
    places: list[str] = field(default_factory=list)
    """Where each is found."""

    def __len__(self) -> int:
        return len(self.pictures)


class Looked(NamedTuple):
    """A part whose headers are known; unreadable pictures are gone."""

    raw: Raw
    targets: NDArray[Any]
    survey: Survey


class Keeper:
    """Opens the parts of one data set: counts what is left out, and what memory is left for decoded ones."""

    def __init__(self, section: LabelledPictures, faults: Faults, progress: Progress | None) -> None:
        self.section, self.faults, self.progress = section, faults, progress
        self.cache = cache_folder(section.cache) / "pictures"
        self.left = section.memory << 20
        self.kept = True
        self.skipped: dict[str, int] = {}
        self._broken, self._empty = 0, False

    def check(self, damaged: bool = True) -> None:
        """Raise what was found; not ``damaged``: unless that is damaged files, of which there may be more."""
        if not damaged and self._broken == len(self.faults.problems) and not self._empty:
            return
        try:
            self.faults.check()
        except DataError as error:
            self._explain(error)
            raise

    def _explain(self, error: DataError) -> None:
        if self._broken and error.then is None:
            error.then = f"{COMMAND.format(path=self.section.path)} data.corrupt=skip"

    def _unreadable(self, raw: Raw, found: dict[int, str]) -> NDArray[np.int64]:
        """Numbers of the rest of ``raw``."""
        if self.section.corrupt == "refuse":
            for at, reason in sorted(found.items()):
                self._broken += 1
                try:
                    self.faults.add(reason, raw.place(at))
                except DataError as error:
                    self._explain(error)
                    raise
        elif found:
            self.skipped[raw.name] = self.skipped.get(raw.name, 0) + len(found)
        rest = np.ones(len(raw), bool)
        rest[list(found)] = False
        self._empty |= not rest.any()
        if self._empty and len(raw) and self.section.corrupt == "skip":
            what = f"none of the {len(raw):,} pictures of the {raw.name} part can be decoded"
            self.faults.add(what, raw.place(0), next(iter(found.values())))
        return np.flatnonzero(rest)

    def look_at(self, raw: Raw, labels: Labels) -> Looked:
        """Targets and headers; what is wrong goes to the faults."""
        targets = targets_of(list(zip(raw.labels, raw.places, strict=True)), labels, self.faults, raw.name)
        if isinstance(raw.pictures, ArrayPictures):
            array = raw.pictures.array
            sizes = np.tile(array.shape[1:3], (len(raw), 1))
            return Looked(raw, targets, Survey(sizes, np.full(len(raw), array.shape[3] == 1), {}))
        found = survey(raw.pictures, self.cache, self.progress)
        rest = self._unreadable(raw, found.unreadable)
        if len(rest) == len(raw):
            return Looked(raw, targets, found)
        return Looked(raw.take(rest), targets[rest], Survey(found.sizes[rest], found.grey[rest], {}))

    def open(self, part: Looked, look: Look) -> ImageSet:
        """Its pictures as ``look`` says, decoded where they fit."""
        raw, targets = part.raw, part.targets
        if isinstance(raw.pictures, ArrayPictures):
            return ImageSet(raw.name, _shaped(raw.pictures, look), targets, raw.places)
        pictures: Encoded = raw.pictures.seen(look)
        places = [raw.place(at) for at in range(len(raw))]
        needed = decoded_bytes(pictures, part.survey.sizes)
        if needed > self.left:
            self.kept = False
            return ImageSet(raw.name, pictures, targets, places)
        self.left -= needed
        large = part.survey.sizes.prod(1).mean() >= _LARGE
        threads = min(8, os.cpu_count() or 1) if large else 1
        kept = keep_decoded(pictures, self.cache, self.progress, threads=threads)
        rest = self._unreadable(raw, kept.unreadable)
        if len(rest) < len(raw):
            targets, places = targets[rest], [places[at] for at in rest]
        return ImageSet(raw.name, kept.pictures, targets, places)


def _shaped(pictures: ArrayPictures, look: Look) -> ArrayPictures:
    """Decoded pictures of one size as ``look`` says."""
    array = pictures.array
    if look.channels == "rgb" and array.shape[3] == 1:
        array = np.repeat(array, 3, 3)
    if look.size is None or look.shaped(*pictures.size) == pictures.size:
        return ArrayPictures(array, pictures.chosen)
    return ArrayPictures(np.stack([look.shape(image) for image in array]), pictures.chosen)
