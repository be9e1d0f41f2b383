"""Batches of clips as arrays: a pure function of which ones and of a generator.

No torch here, nor anything that imports it: worker processes start with this module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.clips.augment import changes, mix_clips, vary_clip
from attncli.data.clips.sampling import Sampled, evenly, sample
from attncli.data.clips.store import FileVideos, Frames, Videos
from attncli.data.images.augment import Augmentation
from attncli.data.images.reading import Unreadable
from attncli.data.images.shaping import Size
from attncli.errors import DataError, Problem

Arrays = dict[str, NDArray[Any]]


class ClipRows:
    """What :class:`~attncli.data.order.EpochBatches` draws from: one clip of each video in an epoch.

    A batch has ``clips`` uint8 [B, S T, C, H, W] (laid out with the channels last), ``labels`` [B] or [B, L]
    and ``index`` int64 [B], the video. Where some video is shorter than its clip there is ``keep`` bool
    [B, S T], False for frames that repeat the last one. Where clips are mixed there are ``other``, the labels
    of what was mixed in, and ``share`` float32 [B], the weight of ``labels``. Clips that are not drawn but
    spread over their video also have ``row`` int64 [B], their number among all.

    Args:
        videos: of one size.
        targets: [N] or [N, L].
        frames: T, frames of a clip at each scale.
        strides: one for each scale.
        batch: most clips in a batch; batches of an epoch differ by one clip at most.
        size: height and width.
        how: how clips are varied; None leaves them as they are.
        clips: 0 draws one clip of each video at random; else so many of each are spread evenly over it.
    """

    shelves = 1

    def __init__(
        self,
        videos: Videos,
        targets: NDArray[Any],
        *,
        frames: int,
        strides: Sequence[int],
        batch: int,
        size: Size,
        how: Augmentation | None = None,
        clips: int = 0,
    ) -> None:
        self.videos, self.targets = videos, targets
        self.frames, self.strides = frames, list(strides)
        self.batch, self.size, self.how = batch, size, how
        self._pool: ThreadPoolExecutor | None = None
        self.spread: list[tuple[int, float]] | None = None
        if clips:
            lengths = map(videos.frames, range(len(videos)))
            places = (evenly(length, frames, self.strides, clips) for length in lengths)
            self.spread = [(video, place) for video, found in enumerate(places) for place in found]

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The batches of an epoch: numbers of videos, or of rows where clips are spread."""
        count = len(self.videos) if self.spread is None else len(self.spread)
        order = rng.permutation(count) if self.spread is None else np.arange(count)
        return np.array_split(order, -(-count // self.batch)) if count else []

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Arrays:
        """One global batch."""
        if self.spread is None:
            chosen = list(zip(item.tolist(), rng.random(len(item)).tolist(), strict=True))
        else:
            chosen = [self.spread[row] for row in item.tolist()]
        sampled = [
            sample(self.videos.frames(video), self.frames, self.strides, place) for video, place in chosen
        ]
        found = self._read([video for video, _ in chosen], sampled)
        if self.how is not None and changes(self.how):
            found = [vary_clip(frames, rng, self.how, self.size) for frames in found]
        index = np.array([video for video, _ in chosen], np.int64)
        clips = np.stack(found)  # [B, T, H, W, C]
        made: Arrays = {"clips": clips, "labels": self.targets[index]}
        keep = np.stack([one.keep for one in sampled])
        if self.how is not None and self.how.mixes and keep.all():  # a clip that has ended cannot be mixed in
            made = mix_clips(clips, self.targets[index], rng, self.how)
        made["clips"] = made["clips"].transpose(0, 1, 4, 2, 3)  # [B, T, C, H, W]
        made["index"] = index
        if not keep.all():
            made["keep"] = keep
        return made if self.spread is None else made | {"row": item}

    def _read(self, videos: list[int], sampled: list[Sampled]) -> list[Frames]:
        numbers = [clip.numbers for clip in sampled]
        if not isinstance(self.videos, FileVideos):
            return [self.videos.read(video, at) for video, at in zip(videos, numbers, strict=True)]
        found = list(self._threads().map(self._try, videos, numbers))
        wrong = {
            self.videos.paths[video]: one
            for video, one in zip(videos, found, strict=True)
            if isinstance(one, Unreadable)
        }
        if wrong:
            told = "{}, and was sound before"
            raise DataError(*(Problem(told.format(e.reason), str(path)) for path, e in wrong.items()))
        return found

    def _try(self, video: int, numbers: NDArray[np.int64]) -> Frames | Unreadable:
        try:
            return self.videos.read(video, numbers)
        except Unreadable as error:
            return error

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "attn-decode")
        return self._pool

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}
