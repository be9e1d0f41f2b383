"""From pictures of any shape to the shape that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncli.data.images.reading import Channels, Pixels, Source, picture, pixels, read_image

Fit = Literal["crop", "pad", "stretch"]
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Look:
    """How a picture is read.

    Attributes:
        channels: grey or rgb; None keeps the picture's own.
        size: height and width; None keeps the picture's own.
        fit: how a picture of another shape becomes ``size``: its middle is cut out, its rim filled with
            zeros, or it is stretched.
        room: above 1, a picture keeps its shape and is only reduced, so far that its sides are still
            ``room`` times those of ``size``: for random cut-outs.
    """

    channels: Channels | None = None
    size: Size | None = None
    fit: Fit = "crop"
    room: float = 1.0

    def read(self, source: Source) -> Pixels:
        """uint8 [H, W, C]; :class:`~attncli.data.images.reading.Unreadable` where it cannot be decoded."""
        return self.shape(read_image(source, self.channels, least=self.least))

    @property
    def least(self) -> Size | None:
        """Height and width of which no more is needed."""
        if self.size is None:
            return None
        return math.ceil(self.size[0] * self.room), math.ceil(self.size[1] * self.room)

    def shape(self, image: Pixels) -> Pixels:
        """A picture that was read in some other way."""
        if self.size is None:
            return image
        if self.room > 1:
            return resize(image, self.shaped(*image.shape[:2]))
        return fit(image, self.size, self.fit)

    def shaped(self, height: int, width: int) -> Size:
        """The size that a picture of this height and width gets."""
        if self.size is None:
            return height, width
        if self.room == 1:
            return self.size
        least = self.least or (1, 1)
        scale = min(1.0, max(least[0] / height, least[1] / width))
        return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Pixels, size: Size) -> Pixels:
    """Bilinear, each pixel the mean of those that it stands for."""
    if image.shape[:2] == size:
        return image
    return pixels(picture(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_mask(mask: NDArray[Any], size: Size) -> NDArray[Any]:
    """Class numbers [H, W] or colours [H, W, 3] of another size, none of them new: the nearest pixel's."""
    rows = _nearest(mask.shape[0], size[0])
    columns = _nearest(mask.shape[1], size[1])
    return mask[rows[:, None], columns]


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    return np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(np.int64), old - 1)


def fit(image: Pixels, size: Size, how: Fit = "crop") -> Pixels:
    """A picture of exactly ``size``."""
    if image.shape[:2] == size:
        return image
    height, width = image.shape[:2]
    if how == "stretch":
        return resize(image, size)
    if how == "pad":
        scale = min(size[0] / height, size[1] / width)
        inner = min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        out = np.zeros((*size, image.shape[2]), np.uint8)
        out[top : top + inner[0], left : left + inner[1]] = resize(image, inner)
        return out
    scale = min(height / size[0], width / size[1])
    cut = scale * size[0], scale * size[1]
    top, left = (height - cut[0]) / 2, (width - cut[1]) / 2
    box = (left, top, left + cut[1], top + cut[0])
    return pixels(picture(image).resize(size[::-1], Image.Resampling.BILINEAR, box=box))
