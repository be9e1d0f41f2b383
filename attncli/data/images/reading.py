"""One picture from a file or its bytes: pixels, or class numbers. What cannot be decoded says why."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncli.data.images.decoding import (
    ENDINGS,
    FORMATS,
    GREY,
    MOST_PIXELS,
    Header,
    Source,
    Unreadable,
    check,
    open_picture,
    read_header,
    read_size,
)

__all__ = [
    "ENDINGS", "FORMATS", "MOST_PIXELS", "Channels", "Header", "Pixels", "Source", "Unreadable", "check",
    "grey_of", "picture", "pixels", "read_header", "read_image", "read_mask", "read_size",
]  # fmt: skip

Pixels = NDArray[np.uint8]
"""[H, W, C] with C = 1 (grey) or 3 (red, green, blue)."""
Channels = Literal["grey", "rgb"]


def read_image(
    source: Source,
    channels: Channels | None = None,
    *,
    least: tuple[int, int] | None = None,
    most: int = MOST_PIXELS,
) -> Pixels:
    """The pixels as a person sees them: EXIF orientation applied, the first frame of an animation.

    Transparent pixels are shown over black, the zeros that also fill what augmentation moves in. 16-bit grey
    is brought from 0-65535 to 0-255. CMYK, palettes and other colour spaces become red, green and blue.

    Args:
        source: a path, or the bytes of a file.
        channels: grey or rgb; None keeps the picture's own.
        least: height and width of which no more is needed: a JPEG is then decoded at an eighth, quarter or
            half of its size where that is still no smaller.
        most: pixels beyond which a picture is refused.

    Returns:
        uint8 [H, W, C].

    Raises:
        Unreadable: no picture, a damaged one, or one that is too large.
    """
    with open_picture(source, most) as opened:
        image = opened.image
        if least is not None and image.format in ("JPEG", "MPO"):
            height, width = least[::-1] if opened.turned else least
            image.draft(None, (width, height))
        return _pixels(opened.load(), channels)


def read_mask(source: Source, most: int = MOST_PIXELS) -> NDArray[Any]:
    """A mask: class numbers [H, W] (uint8, or int32 of 16-bit files), or colours uint8 [H, W, 3].

    A palette's pixels are their numbers, not its colours. Black and white files are 0 and 1. The colours of
    RGB files are given as they are, to be looked up; transparency is left out.

    Raises:
        Unreadable: as :func:`read_image`.
    """
    with open_picture(source, most) as opened:
        image = opened.load()
        if image.mode in ("P", "L"):
            return np.array(image)
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        if image.mode == "PA":
            return np.array(image)[..., 0]
        if image.mode == "I" or image.mode.startswith("I;16"):
            return np.array(image).astype(np.int32)
        if image.mode == "F":
            raise Unreadable("holds fractions where a mask holds whole numbers")
        if image.mode in ("LA", "La"):
            return np.array(image.getchannel(0))
        return np.array(image.convert("RGB"))


def grey_of(image: Pixels) -> Pixels:
    """[H, W, 1] of [H, W, 3] by the luma of ITU-R 601, as :func:`read_image` makes it; grey stays."""
    if image.shape[2] == 1:
        return image
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def picture(image: Pixels) -> Image.Image:
    """Pixels as Pillow's image."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def pixels(image: Image.Image) -> Pixels:
    """Pillow's image of mode L or RGB as pixels."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _pixels(image: Image.Image, channels: Channels | None) -> Pixels:
    mode = image.mode
    if mode == "F":
        raise Unreadable("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    if mode == "I" or mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(np.array(image)))
    elif mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _over_black(image)
    wanted = "L" if (channels or ("grey" if mode in GREY else "rgb")) == "grey" else "RGB"
    if mode.startswith("I;") and channels is None:
        wanted = "L"
    if image.mode != wanted:
        image = image.convert(wanted)
    array = np.array(image)
    return array[:, :, None] if wanted == "L" else array


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise Unreadable("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _over_black(image: Image.Image) -> Image.Image:
    grey = image.mode in ("L", "LA", "La")
    clear = image.convert("RGBA")
    under = Image.new("RGBA", clear.size, (0, 0, 0, 255))
    under.alpha_composite(clear)
    return under.convert("L" if grey else "RGB")
