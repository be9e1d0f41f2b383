"""Many videos behind one face: frames by number, from memory, a memory map, or decoded when asked for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Videos(Protocol):
    """Videos by number. All frames that one of them gives are of one size."""

    def __len__(self) -> int: ...

    def frames(self, video: int) -> int:
        """How many frames it has."""
        ...

    def read(self, video: int, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The frames of those numbers (any order, any number of times): [T, H, W, C]."""
        ...


class ArrayVideos:
    """Decoded videos in one array, one after the other; a memory map will do.

    Args:
        pixels: uint8 [F, H, W, C], the frames of all videos.
        starts: int64 [N + 1]; the frames of video i are ``starts[i] : starts[i + 1]``.
    """

    def __init__(self, pixels: NDArray[np.uint8], starts: NDArray[np.int64]) -> None:
        self.pixels, self.starts = pixels, starts

    @classmethod
    def of(cls, clips: NDArray[np.uint8]) -> ArrayVideos:
        """Of videos of one length [N, T, H, W, C]."""
        return cls(clips.reshape(-1, *clips.shape[2:]), np.arange(len(clips) + 1) * clips.shape[1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def frames(self, video: int) -> int:
        """How many frames it has."""
        return int(self.starts[video + 1] - self.starts[video])

    def read(self, video: int, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames [T, H, W, C]."""
        return self.pixels[self.starts[video] + numbers]
