"""Pictures with masks by number: in files, or decoded in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

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


class EncodedPairs(Paired, Protocol):
    """Ones that are decoded when they are asked for."""

    look: PairLook

    def seen(self, look: PairLook) -> EncodedPairs:
        """The same, read in another way."""
        ...

    def identity(self) -> list[Any]:
        """JSON that changes whenever a picture, a mask or what is read of it does."""
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

    def seen(self, look: PairLook) -> FilePairs:
        """The same, read in another way."""
        return FilePairs(self.pairs, self.classes, look)

    def identity(self) -> list[Any]:
        """Files with their sizes and times, classes and look."""
        paths = [path for pair in self.pairs for path in (pair.image, pair.mask)]
        return [files_identity(paths), asdict(self.classes), asdict(self.look)]


def files_identity(paths: Sequence[Path]) -> list[Any]:
    """Paths, sizes and times."""
    found: list[Any] = []
    for path in paths:
        try:
            stat = path.stat()
            found.append([str(path.absolute()), stat.st_size, stat.st_mtime_ns])
        except OSError:
            found.append([str(path), 0, 0])
    return found


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


class KeptPairs:
    """Decoded ones in a file that is mapped into memory: each picture, then its mask.

    Args:
        path: the file.
        shapes: int64 [N, 3], height, width and channels of all in the file.
        places: of those chosen, for messages.
        chosen: numbers of those that count; None is all.
    """

    def __init__(
        self,
        path: Path,
        shapes: NDArray[np.int64],
        places: Sequence[str],
        chosen: NDArray[np.int64] | None = None,
    ) -> None:
        self.path, self.shapes, self.places = path, shapes, list(places)
        self.chosen = np.arange(len(shapes)) if chosen is None else chosen
        self._ends = np.cumsum(shapes[:, 0] * shapes[:, 1] * (shapes[:, 2] + 1))
        self._data: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, at: int) -> tuple[Pixels, Mask]:
        """uint8 [H, W, C] and uint8 [H, W]."""
        if self._data is None:
            self._data = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        number = int(self.chosen[at])
        height, width, channels = self.shapes[number].tolist()
        end, pixels = int(self._ends[number]), height * width
        start = end - pixels * (channels + 1)
        image = self._data[start : end - pixels].reshape(height, width, channels)
        return image, self._data[end - pixels : end].reshape(height, width)

    def place(self, at: int) -> str:
        """Its path."""
        return self.places[at]

    def take(self, chosen: Sequence[int]) -> KeptPairs:
        """Some of them."""
        numbers = np.asarray(chosen, np.int64)
        return KeptPairs(self.path, self.shapes, [self.places[at] for at in numbers], self.chosen[numbers])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}
