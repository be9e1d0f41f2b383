"""Pictures with masks by number: in files, or decoded in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.geometry import IGNORED
from attncli.data.images.mask_folders import Pair
from attncli.data.images.masks import Mask, MaskClasses
from attncli.data.images.reading import Channels, Pixels, Unreadable, read_image, read_mask
from attncli.data.images.shaping import Fit, Size, fit, resize, resize_mask


@dataclass(frozen=True)
class PairLook:
    """How pictures and masks are brought to one shape.

    Attributes:
        channels: grey or rgb; None keeps the picture's own.
        size: height and width; None keeps the picture's own.
        fit: how a picture of another shape becomes ``size``; what ``pad`` adds is ignored in the mask.
        room: above 1, pictures keep up to so many times ``size``, for random cut-outs.
    """

    channels: Channels | None = None
    size: Size | None = None
    fit: Fit = "stretch"
    room: float = 1.0

    def shape(self, image: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
        """A picture [H, W, C] and its mask [H, W] in the wanted shape."""
        if self.size is None or image.shape[:2] == self.size:
            return image, mask
        if self.fit == "crop":
            image, mask = _middle(image, self.size), _middle(mask, self.size)
        size = self.size
        if self.room > 1:
            scale = max(1.0, min(self.room, image.shape[0] / size[0], image.shape[1] / size[1]))
            size = round(size[0] * scale), round(size[1] * scale)
        if self.fit != "pad":
            return resize(image, size), resize_mask(mask, size)
        height, width = mask.shape
        scale = min(size[0] / height, size[1] / width)
        inner = min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        padded = np.full(size, IGNORED, np.uint8)
        padded[top : top + inner[0], left : left + inner[1]] = resize_mask(mask, inner)
        return fit(image, size, "pad"), padded


def _middle(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The largest middle of an array [H, W, ...] with the aspect of ``size``."""
    height, width = array.shape[:2]
    scale = min(height / size[0], width / size[1])
    tall, wide = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    return array[top : top + tall, left : left + wide]


class Paired(Protocol):
    """Pictures with masks by number."""

    def __len__(self) -> int:
        """How many."""
        ...

    def read(self, at: int) -> tuple[Pixels, Mask]:
        """uint8 [H, W, C] and uint8 [H, W]; Unreadable where something is wrong with either."""
        ...

    def place(self, at: int) -> str:
        """Where it is, for messages."""
        ...

    def take(self, chosen: Sequence[int]) -> Paired:
        """Some of them."""
        ...


class FilePairs:
    """A file for each picture and for each mask."""

    def __init__(self, pairs: Sequence[Pair], classes: MaskClasses, look: PairLook) -> None:
        self.pairs, self.classes, self.look = list(pairs), classes, look

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, at: int) -> tuple[Pixels, Mask]:
        """uint8 [H, W, C] and uint8 [H, W]."""
        pair = self.pairs[at]
        image = read_image(pair.image, self.look.channels)
        try:
            mask, unknown = self.classes.read(read_mask(pair.mask))
        except Unreadable as error:
            raise Unreadable(f"its mask {pair.mask} {error.reason}") from None
        if unknown:
            raise Unreadable(f"its mask {pair.mask} {_joined(unknown)}")
        if mask.shape != image.shape[:2]:
            sizes = (f"{shape[0]}x{shape[1]}" for shape in (image.shape, mask.shape))
            raise Unreadable("is {} pixels high and wide, and its mask {}".format(*sizes))
        return self.look.shape(image, mask)

    def place(self, at: int) -> str:
        """The picture's path."""
        return str(self.pairs[at].image)

    def take(self, chosen: Sequence[int]) -> FilePairs:
        """Some of them."""
        return FilePairs([self.pairs[at] for at in chosen], self.classes, self.look)


def _joined(told: list[str]) -> str:
    text = "; ".join(told)
    return text if text.startswith("is ") else f"holds {text}"


class HeldPairs:
    """Decoded ones in memory."""

    def __init__(
        self, images: Sequence[Pixels], masks: Sequence[Mask], places: Sequence[str] | None = None
    ) -> None:
        self.images, self.masks = images, masks
        self.places = places

    def __len__(self) -> int:
        return len(self.images)

    def read(self, at: int) -> tuple[Pixels, Mask]:
        """uint8 [H, W, C] and uint8 [H, W]."""
        return self.images[at], self.masks[at]

    def place(self, at: int) -> str:
        """Its path, or its number."""
        return self.places[at] if self.places is not None else f"picture {at + 1}"

    def take(self, chosen: Sequence[int]) -> HeldPairs:
        """Some of them."""
        places = [self.place(at) for at in chosen]
        return HeldPairs([self.images[at] for at in chosen], [self.masks[at] for at in chosen], places)
