"""Pictures with masks: read, checked, their classes found, and made into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import cache_folder
from attncli.data.example_parts import held_out
from attncli.data.faults import Faults, quoted
from attncli.data.images.mask_sources import MaskParts, open_masks, part_of
from attncli.data.images.masks import MaskClasses
from attncli.data.images.pair_keeping import Checked, check_pairs
from attncli.data.images.paired import HeldPairs, Paired, PairLook
from attncli.data.images.reading import Channels, Unreadable, read_header
from attncli.data.images.scenes import COUNTS, NAMES, scenes
from attncli.data.images.segment_rows import Pieces, Whole
from attncli.data.images.shaping import Size
from attncli.data.order import EpochBatches, EvaluationBatches
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
    checked = {}
    budget = section.memory << 20
    for name in order:
        seen = replace(look, room=room) if name == "train" else look
        found_pairs = check_pairs(
            sources[name],
            seen,
            section.corrupt,
            faults,
            cache_folder(section.cache),
            budget,
            f"reading {name}",
            progress,
        )
        budget = max(0, budget - found_pairs.kept_bytes)
        checked[name] = found_pairs
    faults.check()
    for name in order:
        if not len(checked[name].pairs):
            raise DataError(Problem(f"{where}: the {name} part holds no usable picture"))
    sets = {name: _as_set(name, one) for name, one in checked.items()}
    train = sets["train"]
    counts = checked["train"].counts[:, : len(found.names)]
    mean, std = checked["train"].mean_and_deviation()
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
        return (
            found,
            classes or MaskClasses(NAMES, [[n] for n in range(len(NAMES))], []),
            "built-in scenes",
            ["test"],
        )
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


def _as_set(name: str, checked: Checked) -> SegmentSet:
    return SegmentSet(name, checked.pairs, checked.shapes[:, :2], checked.skipped)


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
    checked = check_pairs(
        source, look, section.corrupt, faults, cache_folder(section.cache), section.memory << 20
    )
    faults.check()
    if not len(checked.pairs):
        raise DataError(Problem(f"{name}: no usable picture"))
    return _as_set(name, checked)


# Batches


def training_pieces(
    sets: SegmentSets, augment: SegmentAugment, size: Sequence[int], batch: int, seed: int, workers: int = 0
) -> EpochBatches:
    """An endless stream of batches of training pieces; ``size`` is ``image.size``."""
    rows = Pieces(sets.train.pairs, augment, sets.pixels.size, sets.pixels.mean, _size(size), batch)
    return EpochBatches(rows, seed, workers=workers)


def whole_pictures(examples: SegmentSet, batch: int) -> EvaluationBatches:
    """Every picture once."""
    return EvaluationBatches(Whole(examples.pairs, examples.sizes, batch), 0)
