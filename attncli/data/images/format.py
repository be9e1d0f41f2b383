"""What pictures are to a model: size, channels, fit, and the mean and deviation they are normalised with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.reading import Unreadable
from attncli.data.images.shaping import Fit, Look, Size
from attncli.data.images.store import ArrayPictures, Pictures, RaggedPictures
from attncli.errors import CheckpointError, Problem

_FILE = "pictures.json"
_MOST = 10_000, 1_000
"""Pictures that mean and deviation are taken from, spread evenly: decoded ones, and those that have to be."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_GREY = (0.449,), (0.226,)


@dataclass(frozen=True)
class PictureFormat:
    """How a picture becomes what the model sees: a tensor [C, H, W], ``(value / 255 - mean) / std``.

    Batches hold uint8; the model or task normalises them.
    """

    height: int
    width: int
    channels: int
    """1 or 3."""
    fit: Fit
    mean: tuple[float, ...]
    """Of each channel, of values between 0 and 1."""
    std: tuple[float, ...]

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    def look(self, room: float = 1.0) -> Look:
        """How pictures are read; ``room`` for random cut-outs."""
        return Look("grey" if self.channels == 1 else "rgb", self.size, self.fit, room)

    def describe(self) -> str:
        """Words for the console."""
        return f"{self.height}x{self.width} {'grey' if self.channels == 1 else 'RGB'}"

    def save(self, folder: Path) -> None:
        """Write ``pictures.json``."""
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> PictureFormat:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            height, width, channels = int(told["height"]), int(told["width"]), int(told["channels"])
            mean, std = (tuple(float(value) for value in told[name]) for name in ("mean", "std"))
            sound = min(height, width) > 0 and channels in (1, 3) and len(mean) == len(std) == channels
            if not sound or told["fit"] not in ("crop", "pad", "stretch") or not all(s > 0 for s in std):
                raise ValueError("no sizes, channels and deviations that can be")
            return cls(height, width, channels, told["fit"], mean, std)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


def statistics(pictures: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over pixels, of values between 0 and 1.

    Of more than 10,000 pictures so many, spread evenly (1,000 where they have to be decoded). A channel that
    never changes deviates by 1.

    Raises:
        Unreadable: none of them can be decoded.
    """
    decoded = isinstance(pictures, ArrayPictures | RaggedPictures)
    most, count = _MOST[0 if decoded else 1], len(pictures)
    chosen = np.arange(count) if count <= most else np.arange(most) * count // most
    counts: NDArray[np.int64] | None = None
    step = 256 if isinstance(pictures, ArrayPictures) else 1
    wrong = Unreadable("there is no picture")
    for first in range(0, len(chosen), step):
        at = chosen[first : first + step]
        try:
            part = pictures.many(at) if isinstance(pictures, ArrayPictures) else pictures.read(int(at[0]))
        except Unreadable as error:  # found again, and told with its place, when it is needed
            wrong = error
            continue
        flat = part.reshape(-1, part.shape[-1])
        found = np.stack([np.bincount(channel, minlength=256) for channel in flat.T])  # [C, 256]
        counts = found if counts is None else counts + found
    if counts is None:
        raise wrong
    return _moments(counts)


def _moments(counts: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of how often each of 256 values occurs [C, 256]."""
    values = np.arange(256) / 255
    total = counts.sum(1)
    mean = counts @ values / total
    deviation = np.sqrt((counts * (values[None] - mean[:, None]) ** 2).sum(1) / total)
    std = np.where(deviation > 1e-6, deviation, 1.0)
    return _rounded(mean), _rounded(std)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)


def normalisation(kind: str, channels: int, pictures: Pictures) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of each channel that ``image.normalise`` names: data, half or imagenet."""
    if kind == "half":
        return (0.5,) * channels, (0.5,) * channels
    if kind == "imagenet":
        return _IMAGENET_GREY if channels == 1 else _IMAGENET
    return statistics(pictures)
