"""Labelled videos: read, checked, and made into batches of clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.clips.builtin import MOTIONS, moving_digits
from attncli.data.clips.sampling import evenly, sample
from attncli.data.clips.store import ArrayVideos, Videos
from attncli.data.labels import Labels
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.rows import Rows
from attncli.recipe.video import ClipSection, VideoData

Vary = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
"""Varies a training clip [T, H, W, C]."""


@dataclass
class VideoSet:
    """Videos with what is to be said of them."""

    name: str
    videos: Videos
    targets: NDArray[Any]
    """int64 [N], float32 [N, L] of 0 and 1, or float32 [N]."""
    places: list[str] = field(default_factory=list)
    """Where each comes from."""

    def __len__(self) -> int:
        return len(self.videos)


@dataclass
class VideoSets:
    """What a classifier of video learns from and is measured on."""

    train: VideoSet
    validation: VideoSet
    tests: list[VideoSet]
    labels: Labels
    where: str
    size: tuple[int, int]
    """Height and width of all frames."""
    channels: int
    mean: list[float]
    """Of each channel of the training part, from 0 to 1."""
    deviation: list[float]

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        return f"{self.where}: {counts}{tests} videos; {self.labels.describe()}"


def builtin_sets(limit: int = 0) -> VideoSets:
    """The moving digits."""
    sets = []
    for part in ("train", "validation", "test"):
        found = moving_digits(part)
        most = limit if limit and part == "train" else len(found.labels)
        places = [f"built-in {part} clip {at + 1}" for at in range(most)]
        sets.append(VideoSet(part, ArrayVideos.of(found.frames[:most]), found.labels[:most], places))
    train, validation, test = sets
    pixels = train.videos.pixels.astype(np.float32) / 255
    labels = Labels("single", list(MOTIONS))
    size = train.videos.pixels.shape[1:3]
    return VideoSets(
        train,
        validation,
        [test],
        labels,
        "built-in moving digits",
        size,
        1,
        [float(pixels.mean())],
        [float(pixels.std())],
    )


def prepare_videos(section: VideoData, clip: ClipSection, progress: Any, labels: Labels | None) -> VideoSets:
    return builtin_sets(section.limit)


# Batches


def _collate(
    examples: VideoSet,
    clip: ClipSection,
    chosen: list[tuple[int, float]],
    vary: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None,
) -> Batch:
    """Clips, each by its video and place, as a batch; ``index`` is the video."""
    pixels, keeps = [], []
    for video, place in chosen:
        numbers, keep = sample(examples.videos.frames(video), clip.frames, clip.stride, place)
        frames = examples.videos.read(video, numbers)
        pixels.append(frames if vary is None else vary(frames))
        keeps.append(keep)
    stacked = np.stack(pixels).transpose(0, 1, 4, 2, 3)  # [B, T, C, H, W]
    index = torch.tensor([video for video, _ in chosen])
    batch = {
        "clips": torch.from_numpy(np.ascontiguousarray(stacked)),
        "labels": torch.from_numpy(examples.targets)[index],
        "index": index,
    }
    keep = np.stack(keeps)
    return batch if keep.all() else batch | {"keep": torch.from_numpy(keep)}


def training_batches(
    examples: VideoSet, clip: ClipSection, *, batch: int, seed: int, vary: Vary | None = None
) -> EpochBatches:
    """An endless stream of batches: each epoch has one clip of every video, at a place drawn anew."""

    def collate(chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        places = rng.random(len(chosen))
        pairs = list(zip(chosen.tolist(), places.tolist(), strict=True))
        return _collate(examples, clip, pairs, None if vary is None else lambda frames: vary(frames, rng))

    lengths = np.zeros(len(examples), np.int64)  # clips are of one length
    return EpochBatches(Rows(lengths, collate, batch=batch, shuffle=True), seed)


def evaluation_batches(examples: VideoSet, clip: ClipSection, *, batch: int, clips: int) -> EvaluationBatches:
    """Every video's clips, evenly spaced, once; ``row`` numbers them, ``index`` is their video."""
    chosen = [
        (video, place)
        for video in range(len(examples))
        for place in evenly(examples.videos.frames(video), clip.frames, clip.stride, clips)
    ]

    def collate(rows: NDArray[np.int64], _: np.random.Generator) -> Batch:
        made = _collate(examples, clip, [chosen[row] for row in rows], None)
        return made | {"row": torch.from_numpy(rows)}

    lengths = np.zeros(len(chosen), np.int64)
    return EvaluationBatches(Rows(lengths, collate, batch=batch, shuffle=False), 0)
