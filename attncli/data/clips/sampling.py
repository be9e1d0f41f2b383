"""Which frames of a video make a clip.

A clip of ``frames`` frames with a stride s spans (frames - 1) s + 1 frames of the video. Stride 0 spreads
them over the whole video, however long it is. Frames beyond the end of a short video are padding.

Several strides see the same moment at several scales, as slow and fast pathways do (Feichtenhofer et al.
2019, https://arxiv.org/abs/1812.03982): their clips have one middle, and follow each other in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sampled(NamedTuple):
    """Frames of a clip: their numbers [T] in the video, and which of them are there at all [T]."""

    numbers: NDArray[np.int64]
    keep: NDArray[np.bool_]


def span(frames: int, stride: int) -> int:
    """Frames of the video between the first and the last of a clip, both counted."""
    return (frames - 1) * stride + 1


def room(length: int, frames: int, strides: Sequence[int]) -> int:
    """Offsets there are: the widest clip of a video of ``length`` frames can start at 0 ... room - 1."""
    return max(1, length - max(span(frames, stride) for stride in strides) + 1)


def sample(length: int, frames: int, strides: Sequence[int], place: float) -> Sampled:
    """The clip at ``place`` in [0, 1): 0 is the earliest, next to 1 the latest; strides one after the other.

    A place is uniform over all whole offsets where it is uniform in [0, 1).
    """
    if length < 1:
        raise ValueError("a video without frames has no clips")
    widest = max(span(frames, stride) for stride in strides)
    offset = int(place * room(length, frames, strides))
    found = []
    for stride in strides:
        if stride == 0:
            spread = ((np.arange(frames) + place) * (length / frames)).astype(np.int64)
            found.append(np.minimum(spread, length - 1))  # a place may round up to 1
            continue
        inside = offset + (widest - span(frames, stride)) // 2
        if length < widest:  # nothing to choose: a short video is seen from its beginning
            inside = max(0, (length - span(frames, stride)) // 2)
        found.append(inside + stride * np.arange(frames))
    numbers = np.concatenate(found)
    keep = numbers < length
    return Sampled(np.minimum(numbers, length - 1), keep)


def evenly(length: int, frames: int, strides: Sequence[int], clips: int) -> list[float]:
    """Places of at most ``clips`` clips, spread evenly, no two of which are the same clip.

    The first of several begins with the video and the last one ends with it.
    """
    if max(strides) == 0:
        return [(at + 0.5) / clips for at in range(clips)]
    offsets = room(length, frames, strides)
    count = min(clips, offsets)
    if count == 1:
        return [0.5]
    at = np.rint(np.linspace(0, offsets - 1, count))
    return [float((offset + 0.5) / offsets) for offset in at]
