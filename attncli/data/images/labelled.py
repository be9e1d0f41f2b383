"""Labelled pictures: read, checked, their labels and size found, decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attncli.data.example_parts import no_part, open_parts, single_part
from attncli.data.faults import Faults, quoted
from attncli.data.images.folders import open_folder
from attncli.data.images.format import PictureFormat, normalisation
from attncli.data.images.opening import ImageSet, Keeper, Looked
from attncli.data.images.raw import COMMAND, Raw, open_raw, read_part
from attncli.data.images.reading import Unreadable
from attncli.data.images.shaping import Look
from attncli.data.images.store import FilePictures
from attncli.data.labels import Labels, find_labels
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.vision import LabelledPictures, PixelSection

_SMALL = 96
"""Pixels of a side up to which a picture is learnt from as it is."""


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
    try:
        return _prepare(section, image, progress, labels, form, scale)
    except DataError as error:
        error.then = error.then or COMMAND.format(path=section.path)
        raise


def _prepare(
    section: LabelledPictures,
    image: PixelSection,
    progress: Progress | None,
    labels: Labels | None,
    form: PictureFormat | None,
    scale: float,
) -> ImageSets:
    faults = Faults()
    found = open_raw(section, faults, progress)
    if labels is None:
        raws = [found.by_name["train"]] + ([found.by_name["validation"]] if found.held else [])
        labels = find_labels(section, [_Labelled(label) for raw in raws for label in raw.labels], faults)  # type: ignore[arg-type]
    keeper = Keeper(section, faults, progress)
    parts = {name: keeper.look_at(raw, labels) for name, raw in found.by_name.items()}
    keeper.check(damaged=False)
    if labels.kind == "single" and len(labels.names) < 2:
        what = f"{found.where}: the training part has one label only, {labels.names[0]!r}"
        raise DataError(Problem(what, hint="a classifier needs two or more"))
    size, channels = _form(parts, image, form)
    look = Look("grey" if channels == 1 else "rgb", size, image.fit)
    room = Look(look.channels, size, image.fit, 1 / scale**0.5)
    sets = {name: keeper.open(part, room if name == "train" else look) for name, part in parts.items()}
    keeper.check()
    if form is None:
        try:
            mean, std = normalisation(image.normalise, channels, sets["train"].pictures)
        except Unreadable as error:
            what = f"{found.where}: none of the training pictures that were tried can be decoded"
            raise DataError(Problem(what, hint=error.reason)) from None
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
    keeper = Keeper(section, faults, progress)
    looked = keeper.look_at(raw, labels)
    keeper.check(damaged=False)
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


def _form(
    parts: dict[str, Looked], image: PixelSection, form: PictureFormat | None
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
        small = max(height, width) <= _SMALL
        size = (
            f"image.size=[{height},{width}]"
            if small
            else "image.size=[64], quick, or [224], which shows more"
        )
        hint = f"bring them to one: {size}"
        raise DataError(Problem(what, hint=hint))
    return next(iter(first)), channels
