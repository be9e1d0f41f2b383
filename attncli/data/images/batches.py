"""Batches of pictures for training and evaluation."""

from __future__ import annotations

from attncli.data.images.augment import Augmentation
from attncli.data.images.format import PictureFormat
from attncli.data.images.labelled import ImageSet
from attncli.data.images.rows import ImageRows
from attncli.data.order import EpochBatches, EvaluationBatches


def training_batches(
    examples: ImageSet,
    form: PictureFormat,
    how: Augmentation | None,
    *,
    batch: int,
    seed: int,
    workers: int = 0,
    skip: bool = False,
) -> EpochBatches:
    """An endless stream of batches, each epoch in its own order; :class:`ImageRows` says what they hold."""
    rows = ImageRows(
        examples.pictures, examples.targets, batch=batch, size=form.size, how=how, shuffle=True, skip=skip
    )
    return EpochBatches(rows, seed, workers=workers)


def evaluation_batches(
    examples: ImageSet, form: PictureFormat, *, batch: int, skip: bool = False
) -> EvaluationBatches:
    """Every picture once, in order."""
    rows = ImageRows(examples.pictures, examples.targets, batch=batch, size=form.size, skip=skip)
    return EvaluationBatches(rows, 0)
