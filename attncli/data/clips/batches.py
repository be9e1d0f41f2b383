"""Batches of clips for training and evaluation."""

from __future__ import annotations

from attncli.data.clips.rows import ClipRows
from attncli.data.clips.sets import VideoSet
from attncli.data.images.augment import Augmentation
from attncli.data.images.format import PictureFormat
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.recipe.video import ClipSection


def training_batches(
    examples: VideoSet,
    clip: ClipSection,
    form: PictureFormat,
    how: Augmentation | None,
    *,
    batch: int,
    seed: int,
    workers: int = 0,
) -> EpochBatches:
    """An endless stream of batches; :class:`ClipRows` says what they hold."""
    shape = {"frames": clip.frames, "strides": clip.stride, "size": form.size}
    rows = ClipRows(examples.videos, examples.targets, batch=batch, how=how, **shape)
    return EpochBatches(rows, seed, workers=workers)


def evaluation_batches(
    examples: VideoSet, clip: ClipSection, form: PictureFormat, *, batch: int, clips: int
) -> EvaluationBatches:
    """``clips`` clips of every video, evenly spaced, in order."""
    shape = {"frames": clip.frames, "strides": clip.stride, "size": form.size}
    return EvaluationBatches(
        ClipRows(examples.videos, examples.targets, batch=batch, clips=clips, **shape), 0
    )
