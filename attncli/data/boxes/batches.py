"""Pictures and their boxes as tensors, padded to the largest of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.boxes.augment import GREY, Size, View, coloured, jittered, mirrored, mosaic, plain
from attncli.data.boxes.scenes import BoxSet, ragged
from attncli.data.images.reading import Pixels, Unreadable
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.errors import DataError, Problem
from attncli.recipe.detect import BoxAugment

NOTHING, IGNORED = -1, -2
"""Labels of padding, and of boxes that do not count."""
_MULTIPLE = 32
"""Frames are multiples of the coarsest stride."""


class BoxExamples:
    """What :class:`~attncli.data.order.EpochBatches` draws from.

    ``augment`` None shows each picture as it is. A batch: ``images`` uint8 [B, 3, H, W]; ``boxes`` float32
    [B, M, 4] in pixels of the frame, ``labels`` int64 [B, M]: class, NOTHING, or IGNORED; ``sizes`` int64
    [B, 2], the frame's part that the picture fills; ``scales`` float32 [B], the factor from the picture's own
    pixels; ``index`` int64 [B].
    """

    shelves = 1

    def __init__(
        self,
        examples: BoxSet,
        frame: Size,
        *,
        batch: int,
        augment: BoxAugment | None = None,
        plain_from: float = np.inf,
    ) -> None:
        """``frame``: height and width that all fit in. ``plain_from``: the first epoch without mosaics."""
        self.examples, self.frame, self.batch = examples, frame, batch
        self.augment, self.plain_from = augment, plain_from

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """The batches of an epoch: its number and those of the pictures."""
        count = len(self.examples)
        if self.augment is None:
            # neighbours of like shape, so that little of a batch is padding
            order = np.argsort(self.examples.sizes[:, 0] / self.examples.sizes[:, 1], kind="stable")
        else:
            order = rng.permutation(count)
        return [(epoch, order[at : at + self.batch]) for at in range(0, count, self.batch)]

    def make(self, item: Any, rng: np.random.Generator) -> Batch:
        """One global batch."""
        epoch, chosen = item
        augment = self.augment
        if augment is None:
            shown = [plain(self.view(at), self.frame) for at in chosen]
            return batch_of([view for view, _ in shown], chosen, [scale for _, scale in shown])
        factor = 1 + float(rng.uniform(-augment.multi_scale, augment.multi_scale))
        frame = tuple(_rounded(side * factor) for side in self.frame)
        seeds = rng.integers(0, 2**63, len(chosen))
        views = [
            self._varied(int(at), frame, epoch, np.random.default_rng(seed))  # type: ignore[arg-type]
            for at, seed in zip(chosen, seeds, strict=True)
        ]
        return batch_of(views, chosen, [1.0] * len(chosen))

    def view(self, at: int) -> View:
        """A picture with its boxes, as it is."""
        try:
            image = self.examples.pictures.read(at)
        except Unreadable as error:  # it was whole when it was looked at, or only its first bytes are
            what = f"{error.reason}"
            hint = "data.corrupt=skip leaves such pictures out"
            raise DataError(Problem(what, self.examples.names[at], hint)) from None
        boxes = self.examples.boxes[at]
        size = self.examples.sizes[at]
        if image.shape[:2] != tuple(size):  # it was reduced when it was read
            factor = np.array([image.shape[1] / size[1], image.shape[0] / size[0]] * 2, np.float32)
            boxes = boxes * factor
        return View(rgb(image), boxes, self.examples.labels[at], self.examples.ignored[at])

    def _varied(self, at: int, frame: Size, epoch: int, rng: np.random.Generator) -> View:
        augment = self.augment
        assert augment is not None
        if epoch < self.plain_from and rng.random() < augment.mosaic:
            others = rng.integers(0, len(self.examples), 3)
            views = [self._mirrored(self.view(int(one)), rng) for one in (at, *others)]
            order = rng.permutation(4)
            view = mosaic([views[one] for one in order], frame, augment, rng)
        else:
            view = jittered(self._mirrored(self.view(at), rng), frame, augment, rng)
        view.image = coloured(view.image, augment, rng)
        return view

    def _mirrored(self, view: View, rng: np.random.Generator) -> View:
        augment = self.augment
        assert augment is not None
        if rng.random() < augment.flip:
            view = mirrored(view, True)
        if rng.random() < augment.flip_vertical:
            view = mirrored(view, False)
        return view


def _rounded(side: float) -> int:
    return max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE)


def rgb(image: Pixels) -> Pixels:
    """Grey as three equal colours."""
    return image if image.shape[2] == 3 else np.repeat(image, 3, 2)


def batch_of(
    views: Sequence[View], index: Sequence[int] | NDArray[np.int64], scales: Sequence[float]
) -> Batch:
    """Views as one batch, in the upper left corner of a frame that is a multiple of 32."""
    sizes = np.array([view.image.shape[:2] for view in views], np.int64)
    height, width = (-(-int(side) // _MULTIPLE) * _MULTIPLE for side in sizes.max(0))
    images = np.full((len(views), height, width, 3), GREY, np.uint8)
    for at, view in enumerate(views):
        images[at, : sizes[at, 0], : sizes[at, 1]] = view.image
    labels = [np.where(view.ignored, IGNORED, view.labels) for view in views]
    return {
        # channels last in memory, as convolutions on a CPU like them
        "images": torch.from_numpy(images).permute(0, 3, 1, 2),
        "boxes": torch.from_numpy(ragged([view.boxes for view in views], 0, (4,), np.float32)),
        "labels": torch.from_numpy(ragged(labels, NOTHING, (), np.int64)),
        "sizes": torch.from_numpy(sizes),
        "scales": torch.tensor(scales, dtype=torch.float32),
        "index": torch.from_numpy(np.asarray(index, np.int64)),
    }


def training_batches(
    examples: BoxSet,
    frame: Size,
    *,
    batch: int,
    seed: int,
    augment: BoxAugment,
    plain_from: float,
    workers: int = 0,
) -> EpochBatches:
    """An endless stream, each epoch in its own order, all pictures varied."""
    made = BoxExamples(examples, frame, batch=batch, augment=augment, plain_from=plain_from)
    return EpochBatches(made, seed, **({"workers": workers} if workers else {}))


def evaluation_batches(examples: BoxSet, frame: Size, *, batch: int) -> EvaluationBatches:
    """Every picture once, as it is."""
    return EvaluationBatches(BoxExamples(examples, frame, batch=batch), 0)


def mean_colour(examples: BoxSet, most: int = 64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation [3] of the colours, 0 to 1, over ``most`` pictures spread over the set."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(most, len(examples))).round().astype(int))
    count, total, square = 0, np.zeros(3), np.zeros(3)
    for at in chosen:
        try:
            image = rgb(examples.pictures.read(int(at))).reshape(-1, 3) / 255.0
        except Unreadable as error:
            raise DataError(Problem(error.reason, examples.names[at])) from None
        count += len(image)
        total += image.sum(0)
        square += np.square(image).sum(0)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 1e-8))
