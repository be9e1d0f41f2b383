"""Pictures with masks: read, checked, their classes found, and made into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.example_parts import held_out
from attncli.data.faults import Faults, quoted
from attncli.data.images.geometry import IGNORED
from attncli.data.images.mask_sources import MaskParts, open_masks, part_of
from attncli.data.images.masks import MaskClasses
from attncli.data.images.paired import FilePairs, HeldPairs, Paired, PairLook
from attncli.data.images.piece import cut_piece
from attncli.data.images.reading import Channels, Unreadable, read_header
from attncli.data.images.scenes import COUNTS, NAMES, scenes
from attncli.data.images.shaping import Size
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.segment import SegmentAugment, SegmentData
from attncli.recipe.vision import PixelSection

_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}


@dataclass
class SegmentSet:
    """Pictures with masks, all decoded once and found to be sound."""

    name: str
    pairs: Paired
    sizes: NDArray[np.int64]
    """Height and width of each, [N, 2], as they are read."""
    skipped: int = 0
    """Files left out because they could not be used."""

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class PixelFacts:
    """What a model must know of its pictures; stored with a run."""

    channels: int
    size: Size
    """Height and width in training."""
    mean: list[float]
    """Of pixels from 0 to 1, by channel."""
    std: list[float]


@dataclass
class SegmentSets:
    """What a segmenter learns from and is measured on."""

    train: SegmentSet
    validation: SegmentSet
    tests: list[SegmentSet]
    classes: MaskClasses
    pixels: PixelFacts
    counts: NDArray[np.int64]
    """Pixels of each class in each training picture, [N, K]."""
    where: str

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        height, width = self.pixels.size
        skipped = sum(one.skipped for one in (self.train, self.validation, *self.tests))
        left = f"; {skipped} unusable ones left out" if skipped else ""
        colours = "colour" if self.pixels.channels == 3 else "grey"
        size = f"{colours} pictures, trained at {height}x{width}"
        return f"{self.where}: {counts}{tests} {size}; {self.classes.describe()}{left}"


def prepare_segments(
    section: SegmentData,
    image: PixelSection,
    augment: SegmentAugment,
    progress: Progress | None = None,
    classes: MaskClasses | None = None,
    pixels: PixelFacts | None = None,
) -> SegmentSets:
    """Everything that a segmenter learns from. ``classes`` and ``pixels`` are those of a run that goes on.

    Every picture and mask is decoded once, so that what is wrong is told before training starts; they stay in
    memory where ``data.memory`` allows it.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with its file.
    """
    faults = Faults()
    size = _size(image.size)
    sources, found, where, tests = _sources(section, faults, classes)
    faults.check()
    if section.limit:
        sources["train"] = sources["train"].take(range(min(section.limit, len(sources["train"]))))
    channels = _channels(image, sources["train"], pixels)
    look = PairLook(channels, size, image.fit)
    room = max(1.0, augment.scale[1]) if size else 1.0
    order = ["train", "validation", *tests]
    sets = {}
    budget = [section.memory << 20]
    for name in order:
        seen = replace(look, room=room) if name == "train" else look
        sets[name] = _checked(name, sources[name], seen, section.corrupt, faults, budget, progress)
    faults.check()
    for name in order:
        if not len(sets[name]):
            raise DataError(Problem(f"{where}: the {name} part holds no usable picture"))
    train = sets["train"]
    counts, mean, std = _statistics(train, len(found.names), 1 if channels == "grey" else 3)
    if not counts.any():
        raise DataError(Problem(f"{where}: every pixel of the training masks is ignored"))
    if pixels is None:
        side = _size(augment.crop) or size or _common(train)
        mean, std = _normalisation(image.normalise, mean, std)
        pixels = PixelFacts(len(mean), side, mean, std)
    return SegmentSets(
        train, sets["validation"], [sets[name] for name in tests], found, pixels, counts, where
    )


def _sources(
    section: SegmentData, faults: Faults, classes: MaskClasses | None
) -> tuple[dict[str, Paired], MaskClasses, str, list[str]]:
    """Parts by name, classes, where they are, names of the test sets."""
    if section.path == "builtin":
        found = {name: _built_in(name) for name in COUNTS}
        return found, classes or MaskClasses(NAMES, [[n] for n in range(11)], []), "built-in scenes", ["test"]
    opened = open_masks(section, section.path, "data.path", faults, classes)
    parts, where = dict(opened.parts), f"{opened.root} ({opened.layout})"
    if "train" not in parts:
        raise DataError(
            Problem(
                f"{section.path}: no training part; it has {quoted(parts) or 'none'}", hint="a folder train"
            )
        )
    if isinstance(section.validation, str) and not _is_share(section.validation):
        other = open_masks(section, section.validation, "data.validation", faults, opened.classes)
        parts["validation"] = _single(other, "validation")
    tests = opened.tests
    if section.tests:
        tests = []
        for path in section.tests:
            name = path if path in parts else path.rstrip("/").rpartition("/")[2]
            if path not in parts:
                parts[name] = _single(open_masks(section, path, "data.tests", faults, opened.classes), "test")
            tests.append(name)
    if "validation" not in parts:
        share = float(section.validation)
        if not 0 < share < 1:
            raise DataError(Problem(f"data.validation={section.validation}: a share must be between 0 and 1"))
        held = held_out(share, len(parts["train"]))
        whole = parts["train"]
        parts["train"] = whole.take([at for at, out in enumerate(held) if not out])
        parts["validation"] = whole.take([at for at, out in enumerate(held) if out])
        where += f", {share:.3g} of it held out"
    return parts, opened.classes, where, tests


def _is_share(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _single(opened: MaskParts, want: str) -> Paired:
    """The part that is meant of data that is not trained on."""
    for name in (want, *opened.tests, "validation", "train"):
        if name in opened.parts:
            return opened.parts[name]
    return next(iter(opened.parts.values()))


def _built_in(part: str) -> HeldPairs:
    images, masks = scenes(part)
    return HeldPairs(images, masks, [f"built-in {part} scene {n + 1}" for n in range(len(images))])


def _size(sides: Sequence[int]) -> Size | None:
    return (sides[0], sides[-1]) if sides else None


def _channels(image: PixelSection, train: Paired, pixels: PixelFacts | None) -> Channels:
    if pixels is not None:
        return "grey" if pixels.channels == 1 else "rgb"
    if image.channels != "auto":
        return image.channels
    if isinstance(train, HeldPairs):
        return "grey" if train.images[0].shape[2] == 1 else "rgb"
    for at in range(len(train)):
        try:
            if not read_header(train.place(at)).grey:
                return "rgb"
        except Unreadable:
            continue
    return "grey"


def _checked(
    name: str,
    source: Paired,
    look: PairLook,
    corrupt: str,
    faults: Faults,
    budget: list[int],
    progress: Progress | None,
) -> SegmentSet:
    """Every pair read once; kept in memory as long as ``budget`` (bytes left) lasts."""
    if isinstance(source, HeldPairs):
        shaped = [look.shape(*source.read(at)) for at in range(len(source))]
        held = HeldPairs([i for i, _ in shaped], [m for _, m in shaped], source.places)
        return SegmentSet(name, held, np.array([m.shape for m in held.masks], np.int64).reshape(-1, 2))
    source.look = look  # type: ignore[attr-defined]
    images, masks, good, sizes = [], [], [], []
    keeps, skipped = True, 0
    for at in range(len(source)):
        try:
            image, mask = source.read(at)
        except Unreadable as error:
            if corrupt == "skip":
                skipped += 1
            else:
                faults.add(error.reason, source.place(at))
            continue
        good.append(at)
        sizes.append(mask.shape)
        budget[0] -= image.nbytes + mask.nbytes
        keeps = keeps and budget[0] >= 0
        if keeps:
            images.append(image)
            masks.append(mask)
        if progress:
            progress(f"reading {name}", at + 1, sum(map(len, (images,))))
    pairs: Paired = source.take(good)
    if keeps:
        pairs = HeldPairs(images, masks, [source.place(at) for at in good])
    else:
        budget[0] += sum(i.nbytes for i in images) + sum(m.nbytes for m in masks)
    return SegmentSet(name, pairs, np.array(sizes, np.int64).reshape(-1, 2), skipped)


def _common(train: SegmentSet) -> Size:
    sizes = np.unique(train.sizes, axis=0)
    if len(sizes) > 1:
        shown = ", ".join(f"{h}x{w}" for h, w in sizes[:5].tolist()) + (", ..." if len(sizes) > 5 else "")
        side = max(16, int(train.sizes.min()) // 16 * 16)
        raise RecipeError(
            Problem(
                f"the training pictures are of {len(sizes)} sizes ({shown})",
                hint=f"cut pieces, train.augment.crop={side}, or bring all to one size, image.size=[H,W]",
            )
        )
    return int(sizes[0][0]), int(sizes[0][1])


def _statistics(
    train: SegmentSet, classes: int, channels: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixels by picture and class [N, K]; mean and deviation of pixels from 0 to 1 by channel."""
    counts = np.zeros((len(train), classes), np.int64)
    sums, squares, pixels = np.zeros(channels), np.zeros(channels), 0
    values = np.arange(256) / 255
    for at in range(len(train)):
        image, mask = train.pairs.read(at)
        counts[at] = np.bincount(mask.ravel(), minlength=256)[:classes]
        for channel in range(channels):
            histogram = np.bincount(image[..., channel].ravel(), minlength=256)
            sums[channel] += histogram @ values
            squares[channel] += histogram @ values**2
        pixels += mask.size
    mean = sums / pixels
    return counts, mean, np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))


def _normalisation(
    how: str, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    if how == "half":
        return [0.5] * len(mean), [0.5] * len(mean)
    if how == "imagenet":
        means, stds = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        return (means, stds) if len(mean) == 3 else ([sum(means) / 3], [sum(stds) / 3])
    return mean.round(6).tolist(), std.round(6).tolist()


def read_segment_set(
    section: SegmentData,
    image: PixelSection,
    classes: MaskClasses,
    pixels: PixelFacts,
    name: str,
    *,
    part: bool,
) -> SegmentSet:
    """Pictures to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    name = _ALIASES.get(name, name)
    if part and section.path == "builtin":
        if name not in COUNTS:
            hint = f"it has {', '.join(COUNTS)}"
            raise DataError(Problem(f"the built-in set has no part {name!r}", hint=hint))
        source: Paired = _built_in(name)
    elif part:
        sources = _sources(section, faults, classes)[0]
        opened = MaskParts(section.path, "", sources, classes)
        source = part_of(opened, name)
    else:
        source = _single(open_masks(section, name, "--data", faults, classes), "test")
        name = name.rstrip("/").rpartition("/")[2]
    look = PairLook("grey" if pixels.channels == 1 else "rgb", _size(image.size), image.fit)
    found = _checked(name, source, look, section.corrupt, faults, [section.memory << 20], None)
    faults.check()
    if not len(found):
        raise DataError(Problem(f"{name}: no usable picture"))
    return found


# Batches


class Pieces:
    """Training pieces of a set; an epoch has one of each picture (the loader's ``Examples``)."""

    shelves = 1

    def __init__(
        self,
        examples: SegmentSet,
        augment: SegmentAugment,
        pixels: PixelFacts,
        size: Size | None,
        batch: int,
    ) -> None:
        self.examples, self.augment, self.batch = examples, augment, batch
        self.piece, self.meant = pixels.size, size
        self.fill = round(255 * float(np.mean(pixels.mean)))

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """Numbers of the pictures of each batch."""
        order = rng.permutation(len(self.examples))
        return [order[at : at + self.batch] for at in range(0, len(order), self.batch)]

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """One global batch."""
        images, masks = [], []
        for at, one in zip(item, rng.spawn(len(item)), strict=True):
            image, mask = self.examples.pairs.read(int(at))
            room = (1.0, 1.0)
            if self.meant is not None:
                room = (image.shape[0] / self.meant[0], image.shape[1] / self.meant[1])
            image, mask = cut_piece(image, mask, one, self.augment, self.piece, room, self.fill)
            images.append(image)
            masks.append(mask)
        return _batch(images, masks, item)


class Whole:
    """Whole pictures with their masks, those of one size together (the loader's ``Examples``)."""

    shelves = 1

    def __init__(self, examples: SegmentSet, batch: int) -> None:
        self.examples, self.batch = examples, batch

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """Numbers of the pictures of each batch."""
        _, kind = np.unique(self.examples.sizes, axis=0, return_inverse=True)
        found: list[NDArray[np.int64]] = []
        for number in range(int(kind.max()) + 1 if len(kind) else 0):
            same = np.flatnonzero(kind.ravel() == number)
            found += [same[at : at + self.batch] for at in range(0, len(same), self.batch)]
        return found

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """One batch."""
        read = [self.examples.pairs.read(int(at)) for at in item]
        return _batch([image for image, _ in read], [mask for _, mask in read], item)


def _batch(images: list[NDArray[np.uint8]], masks: list[NDArray[np.uint8]], item: NDArray[np.int64]) -> Batch:
    return {
        "images": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),  # [B, C, H, W], channels last
        "masks": torch.from_numpy(np.stack(masks)),  # uint8 [B, H, W]
        "index": torch.from_numpy(np.asarray(item, np.int64)),
    }


def training_pieces(
    sets: SegmentSets, augment: SegmentAugment, size: Sequence[int], batch: int, seed: int
) -> EpochBatches:
    """An endless stream of batches of training pieces; ``size`` is ``image.size``."""
    return EpochBatches(Pieces(sets.train, augment, sets.pixels, _size(size), batch), seed)


def whole_pictures(examples: SegmentSet, batch: int) -> EvaluationBatches:
    """Every picture once."""
    return EvaluationBatches(Whole(examples, batch), 0)


__all__ = [
    "IGNORED",
    "FilePairs",
    "PixelFacts",
    "SegmentSet",
    "SegmentSets",
    "prepare_segments",
    "read_segment_set",
    "training_pieces",
    "whole_pictures",
]
