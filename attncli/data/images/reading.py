"""One picture from a file or its bytes: pixels, size, class indices. What cannot be decoded says why."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""[H, W, C] with C = 1 (grey) or 3 (red, green, blue)."""
Channels = Literal["grey", "rgb"]
Source = Path | str | bytes

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".jp2", ".avif",
)  # fmt: skip
"""Endings by which a file in a folder is taken for a picture."""
_PLUGINS = {
    "JPEG": "Jpeg", "PNG": "Png", "BMP": "Bmp", "GIF": "Gif", "WEBP": "WebP", "TIFF": "Tiff", "PPM": "Ppm",
    "JPEG2000": "Jpeg2K", "AVIF": "Avif",
}  # fmt: skip
MOST_PIXELS = 1 << 27
"""Larger pictures are refused by their header, before anything is decoded."""

_GREY = ("1", "L", "LA", "La", "I", "F")


def _known() -> tuple[str, ...]:
    for plugin in _PLUGINS.values():
        with suppress(ImportError):  # an older Pillow
            import_module(f"PIL.{plugin}ImagePlugin")
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


FORMATS = _known()
"""What is decoded. None of them runs another program, and the ending of a name counts for nothing."""

# The limit here is asked of every header; Pillow's own would only warn.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Unreadable(ValueError):
    """A file that is no picture, or one that is damaged or too large; ``reason`` in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """What the first bytes of a file tell: sides in pixels as the picture is shown, and its colours."""

    height: int
    width: int
    grey: bool
    indexed: bool = False
    """Whether pixels are numbers of a palette's colours."""


@dataclass(frozen=True)
class _Opened:
    image: Image.Image
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether the sides change places."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown."""
        width, height = self.image.size
        return (width, height) if self.turned else (height, width)

    def load(self) -> Image.Image:
        """Decoded and upright."""
        self.image.load()
        turn = _TURNS.get(self.orientation)
        return self.image if turn is None else self.image.transpose(turn)


def read_header(source: Source, most: int = MOST_PIXELS) -> Header:
    """Size and colours, nothing decoded.

    Raises:
        Unreadable: no picture, or of more than ``most`` pixels.
    """
    with _open(source, most) as opened:
        mode = opened.image.mode
        return Header(*opened.size, mode in _GREY or mode.startswith("I;"), mode in ("P", "PA"))


def read_size(source: Source, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Height and width, nothing decoded; raises as :func:`read_header` does."""
    return read_header(source, most)[:2]


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
    with _open(source, most) as opened:
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
    with _open(source, most) as opened:
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


@contextmanager
def _open(source: Source, most: int) -> Iterator[_Opened]:
    """The file with its header read and its size checked; whatever a decoder raises is Unreadable."""
    try:
        if isinstance(source, bytes):
            if not source:
                raise Unreadable("is empty (no bytes)")
            handle: Any = io.BytesIO(source)
        else:
            handle = open(source, "rb")  # noqa: SIM115 - closed below
        with handle, Image.open(handle, formats=FORMATS) as image:
            width, height = image.size
            if width < 1 or height < 1:
                raise Unreadable(f"has {width}x{height} pixels")
            if width * height > most:
                raise Unreadable(
                    f"would decode to {width}x{height} pixels, more than the {most / 1e6:.0f} million allowed"
                )
            yield _Opened(image, _orientation(image))
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable(_no_picture(source)) from None
    except FileNotFoundError:
        raise Unreadable("there is no such file") from None
    except IsADirectoryError:
        raise Unreadable("is a folder") from None
    except PermissionError:
        raise Unreadable("may not be read (permission denied)") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"would decode to more than the {most / 1e6:.0f} million pixels allowed") from None
    except MemoryError:
        raise Unreadable("does not fit in memory") from None
    except Exception as error:  # decoders raise whatever their formats make of damaged bytes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unreadable(f"cannot be decoded: {reason}") from None


def _no_picture(source: Source) -> str:
    if not isinstance(source, bytes):
        with open(source, "rb") as handle:
            source = handle.read(64)
    if not source:
        return "is empty (no bytes)"
    if source.startswith(b"version https://git-lfs"):
        return "is a pointer to a file that git lfs has not fetched"
    if source[:64].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "is a web page or drawing (HTML or SVG), no picture of pixels"
    return "is no picture (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF)"


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF's number for how the picture is held; 1, upright, where it tells nothing."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1  # asked for it, Pillow would decode the picture to look behind its pixels
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged notes beside sound pixels
        return 1


def _pixels(image: Image.Image, channels: Channels | None) -> Pixels:
    mode = image.mode
    if mode == "F":
        raise Unreadable("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    if mode == "I" or mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(np.array(image)))
    elif mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _over_black(image)
    wanted = "L" if (channels or ("grey" if mode in _GREY else "rgb")) == "grey" else "RGB"
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
