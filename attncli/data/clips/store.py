"""Many videos behind one face: frames by number, out of a memory map, or decoded when they are asked for.

All of them are cheap to pickle: what is on disk goes to a worker process as its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attncli.data.clips.decoding import Film, frame_files, read_frames
from attncli.data.images.shaping import Look

Frames = NDArray[np.uint8]
"""[T, H, W, C]."""


class Videos(Protocol):
    """Videos by number, all of them in frames of one size."""

    def __len__(self) -> int:
        """How many."""
        ...

    def frames(self, video: int) -> int:
        """How many frames it has."""
        ...

    def read(self, video: int, numbers: NDArray[np.int64]) -> Frames:
        """The frames of those numbers (any order, any number of times); Unreadable where one cannot be
        decoded."""
        ...


class ArrayVideos:
    """Decoded videos, one after the other.

    Args:
        pixels: uint8 [F, H, W, C], the frames of all videos; or a file of them and their shape.
        starts: int64 [N + 1]; the frames of video i are ``starts[i] : starts[i + 1]``.
    """

    def __init__(self, pixels: Frames | tuple[Path, tuple[int, ...]], starts: NDArray[np.int64]) -> None:
        self._pixels, self.starts = pixels, starts
        self._mapped: Frames | None = None

    @classmethod
    def of(cls, clips: NDArray[np.uint8]) -> ArrayVideos:
        """Of videos of one length [N, T, H, W, C]."""
        return cls(clips.reshape(-1, *clips.shape[2:]), np.arange(len(clips) + 1) * clips.shape[1])

    @property
    def pixels(self) -> Frames:
        """uint8 [F, H, W, C]."""
        if not isinstance(self._pixels, tuple):
            return self._pixels
        if self._mapped is None:
            path, shape = self._pixels
            self._mapped = np.memmap(path, np.uint8, "r", shape=shape).view(np.ndarray)
        return self._mapped

    def __len__(self) -> int:
        return len(self.starts) - 1

    def frames(self, video: int) -> int:
        """How many frames it has."""
        return int(self.starts[video + 1] - self.starts[video])

    def read(self, video: int, numbers: NDArray[np.int64]) -> Frames:
        """Frames, a copy."""
        return self.pixels[self.starts[video] + numbers]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": None}


class FileVideos:
    """Files and folders of frames.

    Args:
        paths: of each video.
        films: what decoding each of them told.
        look: size and channels that frames are brought to.
        rate: frames a second that they are read at, 0 for all that there are (:func:`timeline`).
    """

    def __init__(self, paths: Sequence[Path], films: Sequence[Film], look: Look, rate: float = 0.0) -> None:
        self.paths, self.films, self.look, self.rate = list(paths), list(films), look, rate
        self.lines = [timeline(film, rate) for film in films]

    def __len__(self) -> int:
        return len(self.paths)

    def frames(self, video: int) -> int:
        """How many frames it has at the rate."""
        return len(self.lines[video])

    def read(self, video: int, numbers: NDArray[np.int64]) -> Frames:
        """Frames, decoded from the key frame before them."""
        chosen = self.lines[video][numbers]
        found = read_frames(self.paths[video], self.films[video], chosen, self.look.channels)
        shaped = {at: self.look.shape(image) for at, image in found.items()}
        return np.stack([shaped[at] for at in chosen.tolist()])

    def identity(self) -> list[Any]:
        """JSON that changes whenever a video does, or the way that it is read."""
        look = self.look
        return [identity(self.paths), look.channels, look.size, look.fit, self.rate]


def timeline(film: Film, rate: float) -> NDArray[np.int64]:
    """Numbers of the frames that are on the screen 0, 1 / rate, 2 / rate ... seconds after the first [T].

    With rate 0 every frame as it is stored. A rate above the film's own repeats frames, one below leaves some
    out; videos of a variable frame rate become steady.
    """
    if not rate or film.times is None:
        return np.arange(film.frames)
    times = film.times
    last = float(np.median(np.diff(times))) if len(times) > 1 else 0.0  # how long the last frame stands
    count = max(1, int(np.floor((times[-1] + last) * rate * (1 + 1e-9))))
    ticks = np.arange(count) / rate
    return np.searchsorted(times, ticks + 1e-6 / rate, side="right") - 1


def identity(paths: Sequence[Path]) -> list[Any]:
    """Paths, sizes and times of files; of folders those of their pictures."""
    return [_one(path) for path in paths]


def _one(path: Path) -> list[Any]:
    try:
        if path.is_dir():
            return [str(path.absolute()), [[name, *_one(path / name)[1:]] for name in frame_files(path)]]
        stat = path.stat()
        return [str(path.absolute()), stat.st_size, stat.st_mtime_ns]
    except OSError:
        return [str(path), 0, 0]
