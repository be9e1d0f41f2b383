"""Labelled pictures: read, checked, their labels and size found, decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import cache_folder
from attncli.data.example_parts import no_part, open_parts, single_part
from attncli.data.faults import Faults, quoted
from attncli.data.images.folders import open_folder
from attncli.data.images.format import PictureFormat, normalisation
from attncli.data.images.keeping import decoded_bytes, keep_decoded
from attncli.data.images.raw import COMMAND, Raw, open_raw, read_part
from attncli.data.images.shaping import Look
from attncli.data.images.store import ArrayPictures, Encoded, FilePictures, Pictures
from attncli.data.images.survey import Survey, survey
from attncli.data.labels import Labels, find_labels, targets_of
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.vision import LabelledPictures, PixelSection


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


@dataclass
class ImageSets:
    """What a classifier of pictures learns from and is measured on."""

    train: ImageSet
    """Kept larger than the model's size where random cut-outs are taken of it."""
    validation: ImageSet
    tests: list[ImageSet]
    labels: Labels
    format: PictureFormat
    where: str
    kept: bool
    """Whether all are decoded and mapped into memory; else each is decoded when it is asked for."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Pictures left out because they cannot be decoded, by part."""

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        text = f"{self.where}: {counts}{tests} pictures, {self.format.describe()}"
        if not self.kept:
            text += ", decoded as they are needed"
        if self.skipped:
            text += f"; {sum(self.skipped.values()):,} that cannot be decoded are left out"
        return f"{text}; {self.labels.describe()}"


def prepare_images(
    section: LabelledPictures,
    image: PixelSection,
    progress: Progress | None = None,
    labels: Labels | None = None,
    *,
    form: PictureFormat | None = None,
    scale: float = 1.0,
) -> ImageSets:
    """Everything that a classifier of pictures learns from.

    Every header is looked at before anything else happens. Sets that fit in ``data.memory`` together are
    decoded once, into the cache, which finds the pictures whose pixels are damaged too.

    Args:
        section: the ``data`` section.
        image: size, channels, fit and normalisation.
        progress: called with what is being done, pictures and bytes.
        labels: of a run that goes on or is measured; found in the training part where it is None.
        form: likewise, the format that the run was begun with.
        scale: smallest share of the area that ``train.augment`` cuts out.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with its place and reason.
    """
    faults = Faults()
    found = open_raw(section, faults, progress)
    if labels is None:
        raws = [found.by_name["train"]] + ([found.by_name["validation"]] if found.held else [])
        labels = find_labels(section, [_Labelled(label) for raw in raws for label in raw.labels], faults)  # type: ignore[arg-type]
    keeper = _Keeper(section, faults, progress)
    parts = {name: keeper.look_at(raw, labels) for name, raw in found.by_name.items()}
    keeper.check()
    if labels.kind == "single" and len(labels.names) < 2:
        what = f"{found.where}: the training part has one label only, {labels.names[0]!r}"
        raise DataError(Problem(what, hint="a classifier needs two or more"))
    size, channels = _form(parts, image, form)
    look = Look("grey" if channels == 1 else "rgb", size, image.fit)
    room = Look(look.channels, size, image.fit, 1 / scale**0.5)
    sets = {name: keeper.open(part, room if name == "train" else look) for name, part in parts.items()}
    keeper.check()
    if form is None:
        mean, std = normalisation(image.normalise, channels, sets["train"].pictures)
        form = PictureFormat(*size, channels, image.fit, tuple(mean), tuple(std))
    train, validation = sets.pop("train"), sets.pop("validation")
    return ImageSets(
        train, validation, list(sets.values()), labels, form, found.where, keeper.kept, keeper.skipped
    )


def read_image_set(
    section: LabelledPictures,
    labels: Labels,
    form: PictureFormat,
    name: str,
    *,
    part: bool,
    progress: Progress | None = None,
) -> ImageSet:
    """Pictures to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    if part:
        raw = _own_part(section, name, faults, progress)
    else:
        other = single_part(name, "--data", section.path, folders=open_folder)
        raw, _ = read_part(section, other, faults, progress)
    keeper = _Keeper(section, faults, progress)
    looked = keeper.look_at(raw, labels)
    keeper.check()
    examples = keeper.open(looked, form.look())
    keeper.check()
    return examples


def _own_part(section: LabelledPictures, name: str, faults: Faults, progress: Progress | None) -> Raw:
    found = open_raw(section, faults, progress).by_name
    name = {"val": "validation", "valid": "validation", "dev": "validation"}.get(name, name)
    if name in found:
        return found[name]
    if section.path == "builtin":
        raise DataError(Problem(f"the built-in set has no part {name!r}", hint=f"it has {', '.join(found)}"))
    raise no_part(open_parts(section, "", folders=open_folder), name)


def unlabelled_images(paths: Sequence[Path | str], labels: Labels, form: PictureFormat) -> ImageSet:
    """Pictures that are to be labelled, decoded when they are asked for."""
    pictures = FilePictures(paths, form.look())
    return ImageSet("input", pictures, labels.blank(len(paths)), [str(path) for path in paths])


class _Labelled(NamedTuple):
    label: Any


class _Looked(NamedTuple):
    """A part whose headers are known; unreadable pictures are gone."""

    raw: Raw
    targets: NDArray[Any]
    survey: Survey


class _Keeper:
    """Opens the parts of one data set: counts what is left out, and what memory is left for decoded ones."""

    def __init__(self, section: LabelledPictures, faults: Faults, progress: Progress | None) -> None:
        self.section, self.faults, self.progress = section, faults, progress
        self.cache = cache_folder(section.cache) / "pictures"
        self.left = section.memory << 20
        self.kept = True
        self.skipped: dict[str, int] = {}
        self._broken = 0

    def check(self) -> None:
        """Raise what was found, with the way on where only damaged files are in it."""
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
        if not rest.any() and len(raw) and self.section.corrupt == "skip":
            what = f"none of the {len(raw):,} pictures of the {raw.name} part can be decoded"
            self.faults.add(what, raw.place(0), next(iter(found.values())))
        return np.flatnonzero(rest)

    def look_at(self, raw: Raw, labels: Labels) -> _Looked:
        """Targets and headers; what is wrong goes to the faults."""
        targets = targets_of(list(zip(raw.labels, raw.places, strict=True)), labels, self.faults, raw.name)
        if isinstance(raw.pictures, ArrayPictures):
            array = raw.pictures.array
            sizes = np.tile(array.shape[1:3], (len(raw), 1))
            return _Looked(raw, targets, Survey(sizes, np.full(len(raw), array.shape[3] == 1), {}))
        found = survey(raw.pictures, self.cache, self.progress)
        rest = self._unreadable(raw, found.unreadable)
        if len(rest) == len(raw):
            return _Looked(raw, targets, found)
        return _Looked(raw.take(rest), targets[rest], Survey(found.sizes[rest], found.grey[rest], {}))

    def open(self, part: _Looked, look: Look) -> ImageSet:
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
        kept = keep_decoded(pictures, self.cache, self.progress)
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


def _form(
    parts: dict[str, _Looked], image: PixelSection, form: PictureFormat | None
) -> tuple[tuple[int, int], int]:
    """Height and width, and channels.

    Raises:
        DataError: sizes differ, and the recipe sets none.
    """
    if form is not None:
        return form.size, form.channels
    grey = bool(parts["train"].survey.grey.all())
    channels = {"auto": 1 if grey else 3, "grey": 1, "rgb": 3}[image.channels]
    if image.size:
        return (image.size[0], image.size[-1]), channels
    first: dict[tuple[int, int], tuple[int, str]] = {}
    for part in parts.values():
        sizes, where, counts = np.unique(part.survey.sizes, axis=0, return_index=True, return_counts=True)
        for (height, width), at, count in zip(sizes.tolist(), where, counts, strict=True):
            number, place = first.get((height, width), (0, part.raw.place(int(at))))
            first[height, width] = (number + int(count), place)
    if len(first) > 1:
        common = sorted(first.items(), key=lambda one: -one[1][0])
        told = [f"{count:,} of {h}x{w} such as {place}" for (h, w), (count, place) in common]
        (height, width), _ = common[0]
        what = f"the pictures have {len(first):,} sizes (height x width): {quoted(told, 4)}"
        raise DataError(Problem(what, hint=f"set image.size, for example image.size=[{height},{width}]"))
    return next(iter(first)), channels
