"""Files of pictures opened safely: formats, limits, headers, and why one cannot be read."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

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

GREY = ("1", "L", "LA", "La", "I", "F")


def _known() -> tuple[str, ...]:
    for plugin in _PLUGINS.values():
        with suppress(ImportError):  # an older Pillow
            import_module(f"PIL.{plugin}ImagePlugin")
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


FORMATS = _known()
"""What is decoded. None of them runs another program, and the ending of a name counts for nothing."""

# The limit here is asked of every header, where Pillow's own would only warn; what Pillow warns of in damaged
# files is told by the error, if there is one.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


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
class Opened:
    """A file whose header is read."""

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
    with open_picture(source, most) as opened:
        return _header(opened)


def check(source: Source, most: int = MOST_PIXELS) -> Header:
    """The header of a picture that is not cut short: one that does not end as its format does is decoded.

    That takes little longer than :func:`read_header`. Damage in the middle of a file is not found.

    Raises:
        Unreadable: as :func:`read_image`.
    """
    with open_picture(source, most) as opened:
        header = _header(opened)
        if not _ends(opened.image):
            opened.load()
        return header


def read_size(source: Source, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Height and width, nothing decoded; raises as :func:`read_header` does."""
    return read_header(source, most)[:2]


@contextmanager
def open_picture(source: Source, most: int) -> Iterator[Opened]:
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
            yield Opened(image, _orientation(image))
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


def _header(opened: Opened) -> Header:
    mode = opened.image.mode
    return Header(*opened.size, mode in GREY or mode.startswith("I;"), mode in ("P", "PA"))


_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\x3b"}


def _ends(image: Image.Image) -> bool:
    """Whether the file ends as its format does, where that can be told."""
    file: Any = image.fp  # type: ignore[attr-defined]
    mark, at = _ENDS.get(image.format or ""), file.tell()
    try:
        if mark is not None:
            file.seek(-len(mark), os.SEEK_END)
            return file.read() == mark
        if image.format == "WEBP":
            size = file.seek(0, os.SEEK_END)
            file.seek(4)
            return int.from_bytes(file.read(4), "little") + 8 <= size
        return True
    finally:
        file.seek(at)


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
