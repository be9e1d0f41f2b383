"""One video: a file by PyAV, or a folder of pictures. Its frames by number, exact; what is wrong says why.

A video is first decoded from end to end (:func:`survey`), which finds every fault and tells the time of each
frame. Frames are then read by number: from the key frame before them, and by their times, never by guessing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from attncli.data.images.reading import ENDINGS as PICTURES
from attncli.data.images.reading import MOST_PIXELS, Channels, Pixels, Unreadable, grey_of, read_image

ENDINGS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv",
    ".3gp", ".ogv", ".y4m", ".gif",
)  # fmt: skip
"""Endings by which a file in a folder is taken for a video."""
MOST_FRAMES = 1_000_000
"""Longer videos are refused: nine hours at 30 frames a second."""

# Containers of pixels only: play lists and the like, which name other files and addresses, are not opened.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,yuv4mpegpipe,"
    "gif,apng,webp_anim,mjpeg,ivf,nut,dv"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}


@dataclass(frozen=True)
class Film:
    """What decoding a whole video told."""

    size: tuple[int, int]
    """Height and width as shown."""
    grey: bool
    times: NDArray[np.float64] | None
    """Seconds of each frame since the first [N], ascending; None of pictures in a folder, which have none."""
    stamps: NDArray[np.int64] | None
    """Time stamps of the frames [N] in the file's own unit; None where it has no usable ones."""
    keys: NDArray[np.int64] | None
    """Time stamps of the frames that decoding can begin at [K]."""
    frames: int


class Frame:
    """A decoded frame; its pixels are made when they are asked for."""

    def __init__(self, raw: Any, turns: int, size: tuple[int, int]) -> None:
        self._raw, self._turns, self.size = raw, turns, size

    def pixels(self, channels: Channels | None = None) -> Pixels:
        """uint8 [H, W, C], upright, with square pixels."""
        found = self._raw.to_ndarray(format="rgb24")
        if self._turns:
            found = np.rot90(found, self._turns)
        if found.shape[:2] != self.size:  # pixels that are not square
            from attncli.data.images.shaping import resize

            found = resize(np.ascontiguousarray(found), self.size)
        found = np.ascontiguousarray(found)
        return grey_of(found) if channels == "grey" else found


def survey(path: Path) -> Film:
    """Decode a video from end to end, keep nothing of it, and tell what it is.

    Raises:
        Unreadable: no video, one without frames, a truncated or damaged one; the reason in a few words.
    """
    return _survey_folder(path) if path.is_dir() else _survey_file(path)


def frames_of(path: Path, channels: Channels | None = None) -> Iterator[Pixels]:
    """All frames in their order, uint8 [H, W, C]; raises Unreadable where one cannot be decoded."""
    if path.is_dir():
        for name in frame_files(path):
            yield _picture(path, name, channels)
        return
    with _opened(path) as stream:
        for frame, _ in _decoded(stream):
            yield frame.pixels(channels)


def read_frames(
    path: Path, film: Film, numbers: NDArray[np.int64], channels: Channels | None = None
) -> dict[int, Pixels]:
    """The frames of those numbers, each once: number to uint8 [H, W, C].

    Raises:
        Unreadable: a frame cannot be decoded (any more).
    """
    wanted = sorted(set(numbers.tolist()))
    if path.is_dir():
        names = frame_files(path)
        if len(names) != film.frames:
            raise Unreadable(f"held {film.frames} frames when it was surveyed, and holds {len(names)} now")
        return {at: _picture(path, names[at], channels) for at in wanted}
    if film.stamps is None:
        return _from_the_start(path, wanted, channels)
    found: dict[int, Pixels] = {}
    number_of = {int(film.stamps[at]): at for at in wanted}
    with _opened(path) as stream:
        left = wanted
        while left:
            first = int(film.stamps[left[0]])
            before = film.keys[film.keys <= first] if film.keys is not None else ()
            if len(before):
                stream.container.seek(int(before[-1]), stream=stream, backward=True)
            elif found:
                break
            for frame, stamp in _decoded(stream):
                if stamp in number_of and number_of[stamp] not in found:
                    found[number_of[stamp]] = frame.pixels(channels)
                if stamp is not None and stamp >= first:
                    left = [at for at in left if at not in found]
                    if not left or _worth_seeking(film, stamp, int(film.stamps[left[0]])):
                        break
            if left and int(film.stamps[left[0]]) == first:
                break  # not where its time says: decode from the start
            left = [at for at in left if at not in found]
    if len(found) < len(wanted):
        return _from_the_start(path, wanted, channels)
    return found


def _worth_seeking(film: Film, here: int, there: int) -> bool:
    """Whether decoding can begin somewhere between two time stamps."""
    return film.keys is not None and bool(((film.keys > here) & (film.keys <= there)).any())


def _from_the_start(path: Path, wanted: list[int], channels: Channels | None) -> dict[int, Pixels]:
    found: dict[int, Pixels] = {}
    left = set(wanted)
    with _opened(path) as stream:
        for number, (frame, _) in enumerate(_decoded(stream)):
            if number in left:
                found[number] = frame.pixels(channels)
                left.remove(number)
                if not left:
                    return found
    raise Unreadable(f"frame {min(left)} cannot be found any more")


def _survey_file(path: Path) -> Film:
    stamps: list[int | None] = []
    size, grey = None, False
    with _opened(path) as stream:
        promised = stream.frames
        packets: list[Any] = []
        for frame, stamp in _decoded(stream, packets):
            if size is not None and frame.size != size:
                raise Unreadable(
                    f"changes its size at frame {len(stamps)}, from {_by(size)} to {_by(frame.size)}"
                )
            size = frame.size
            stamps.append(stamp)
            if len(stamps) > MOST_FRAMES:
                raise Unreadable(f"has more than {MOST_FRAMES:,} frames")
        grey = stream.codec_context.pix_fmt in ("gray", "gray10le", "gray12le", "gray16le", "monob", "monow")
        unit = float(stream.time_base or 0)
        rate = float(stream.average_rate or 0)
    if size is None:
        raise Unreadable("has no frame")
    if promised and len(packets) < promised:
        raise Unreadable(f"is truncated: {len(packets)} frames of {promised}")
    known = np.array([-1 if stamp is None else stamp for stamp in stamps], np.int64)
    if None in stamps or not (np.diff(known) > 0).all() or not unit:
        times = np.arange(len(stamps)) / rate if rate else None
        return Film(size, grey, times, None, None, len(stamps))
    keys = np.unique([p for p, key in packets if key and p is not None]).astype(np.int64)
    return Film(size, grey, (known - known[0]) * unit, known, keys, len(stamps))


def _decoded(stream: Any, packets: list[Any] | None = None) -> Iterator[tuple[Frame, int | None]]:
    """Frames of an open stream with their time stamps, from where it stands; ``packets`` collects those."""
    count = 0
    for packet in stream.container.demux(stream):
        if packet.size:
            if packet.is_corrupt:
                raise Unreadable(f"is damaged near frame {count}")
            if packets is not None:
                packets.append((packet.pts, packet.is_keyframe))
        try:
            decoded = packet.decode()
        except av.error.FFmpegError as error:
            raise Unreadable(f"is damaged near frame {count}: {_reason(error)}") from None
        for raw in decoded:
            if raw.is_corrupt:
                raise Unreadable(f"is damaged at frame {count}")
            yield Frame(raw, *_upright(raw, stream)), raw.pts
            count += 1


def _upright(raw: Any, stream: Any) -> tuple[int, tuple[int, int]]:
    """Quarter turns counterclockwise that the file asks for, and the size as shown."""
    angle = getattr(raw, "rotation", 0) or 0
    turns = round(angle / 90) % 4
    height, width = raw.height, raw.width
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1 and 1 / 16 < ratio < 16:
        width = max(1, round(width * float(ratio)))
    return turns, (width, height) if turns % 2 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The video stream of a file; whatever the decoder raises is Unreadable."""
    av.logging.set_level(av.logging.PANIC)  # it writes to standard error by itself otherwise
    try:
        if not path.exists():
            raise Unreadable("there is no such file")
        if not path.stat().st_size:
            raise Unreadable("is empty (no bytes)")
        with av.open(f"file:{path.absolute()}", options=_OPTIONS) as container:
            if not container.streams.video:
                other = "sound only" if container.streams.audio else "none"
                raise Unreadable(f"has no video stream ({other})")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise Unreadable("holds a kind of video that nothing here decodes")
            if context.width * context.height > MOST_PIXELS:
                most = f"{MOST_PIXELS / 1e6:.0f} million pixels"
                raise Unreadable(f"has frames of {context.width}x{context.height}, more than {most}")
            context.options = {"err_detect": "explode"}
            context.thread_count = 1
            yield stream
    except Unreadable:
        raise
    except PermissionError:
        raise Unreadable("may not be read (permission denied)") from None
    except av.error.FFmpegError as error:
        with path.open("rb") as handle:
            if handle.read(24).startswith(b"version https://git-lfs"):
                raise Unreadable("is a pointer to a file that git lfs has not fetched") from None
        raise Unreadable(f"is no video that can be read: {_reason(error)}") from None
    except MemoryError:
        raise Unreadable("does not fit in memory") from None
    except Exception as error:  # decoders raise whatever their formats make of damaged bytes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unreadable(f"cannot be decoded: {reason}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or type(error).__name__)


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


# Folders of frames


def frame_files(path: Path) -> list[str]:
    """Names of the pictures in a folder, numbers in them counted as numbers: 2.png before 10.png."""
    names = [
        entry.name
        for entry in path.iterdir()
        if entry.suffix.lower() in PICTURES and not entry.name.startswith(".") and entry.is_file()
    ]
    return sorted(names, key=natural)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers within names by their value."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _picture(path: Path, name: str, channels: Channels | None) -> Pixels:
    try:
        return read_image(path / name, channels)
    except Unreadable as error:
        raise Unreadable(f"frame {name} {error.reason}") from None


def _survey_folder(path: Path) -> Film:
    names = frame_files(path)
    if not names:
        raise Unreadable("has no frame")
    size, grey = None, True
    for name in names:
        found = _picture(path, name, None)
        if size is not None and found.shape[:2] != size:
            raise Unreadable(f"changes its size at frame {name}, from {_by(size)} to {_by(found.shape[:2])}")
        size, grey = found.shape[:2], grey and found.shape[2] == 1
    return Film(size, grey, None, None, None, len(names))
