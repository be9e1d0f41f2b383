"""Small videos whose frames are known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def level(number: int) -> int:
    """The grey level of a frame."""
    return 20 + (number * 37) % 200


def frame(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame that tells its number by its level, brighter at the top left: uint8 [H, W, 3]."""
    pixels = np.full((*size, 3), level(number), np.uint8)
    pixels[: size[0] // 4, : size[1] // 4] = 250
    return pixels


def write_video(
    path: Path,
    frames: list[np.ndarray] | int = 12,
    *,
    codec: str = "libx264",
    times: list[float] | None = None,
    rate: int = 12,
    gop: int = 5,
    bframes: int = 2,
    rotation: int = 0,
    sound: bool = False,
) -> Path:
    """A file of frames; ``times`` in seconds where they do not come at an even rate."""
    frames = [frame(n) for n in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        stream.codec_context.gop_size = gop
        if codec in ("libx264", "mpeg4"):
            stream.codec_context.max_b_frames = bframes
        if codec == "libx264":
            stream.options = {"crf": "8", "preset": "ultrafast", "bf": str(bframes), "x264-params": "log=-1"}
        if codec == "mpeg4":
            stream.codec_context.bit_rate = 4_000_000
        if rotation:
            stream.metadata["rotate"] = str(rotation)
        unit = Fraction(1, 1000) if times is not None else Fraction(1, rate)
        if times is not None:
            stream.codec_context.time_base = unit
        other = container.add_stream("aac", rate=44100) if sound else None
        for at, pixels in enumerate(frames):
            raw = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            raw.pts, raw.time_base = (at if times is None else round(1000 * times[at])), unit
            container.mux(stream.encode(raw))
        container.mux(stream.encode())
        if other is not None:
            sample = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sample.rate, sample.pts = 44100, 0
            container.mux(other.encode(sample))
            container.mux(other.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file without pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for at in range(8):
            raw = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            raw.rate, raw.pts = 44100, 1024 * at
            container.mux(stream.encode(raw))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, count: int = 12) -> Path:
    """A folder of pictures, numbered without leading zeros."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(frame(number)).save(folder / f"frame{number}.png")
    return folder


def levels(pixels: np.ndarray) -> list[int]:
    """The level of each frame [T, H, W, C], read at its bottom right."""
    return [round(float(one[-12:, -12:].mean())) for one in pixels]
