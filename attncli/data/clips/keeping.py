"""Every video is decoded once before training: to find what is wrong, and to keep it in a small set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import entry, key_of
from attncli.data.clips.decoding import Film, frames_of, survey
from attncli.data.clips.store import ArrayVideos, FileVideos, Frames, identity
from attncli.data.images.reading import Unreadable
from attncli.data.images.survey import in_order
from attncli.data.sources import Progress

VERSION = 1
"""Part of the cache keys: raise it when reading or shaping changes what comes out."""
_THREADS = min(8, os.cpu_count() or 1)


def survey_all(paths: list[Path], cache: Path, progress: Progress | None = None) -> list[Film | Unreadable]:
    """Decode every video from end to end; what that tells of each. Kept in ``cache``, for the same files.

    What could not be decoded then is tried again: the reason may be gone.
    """

    def build(aside: Path) -> None:
        told: list[dict[str, Any]] = []
        arrays: dict[str, list[NDArray[Any]]] = {"times": [], "stamps": [], "keys": []}

        def take(at: int, found: Film | Unreadable) -> None:
            if isinstance(found, Unreadable):
                told.append({"reason": found.reason})
                return
            lengths = {}
            for name, parts in arrays.items():
                values = getattr(found, name)
                lengths[name] = None if values is None else len(values)
                if values is not None:
                    parts.append(values)
            told.append({"size": list(found.size), "grey": found.grey, "frames": found.frames, **lengths})

        in_order(lambda at: survey(paths[at]), len(paths), take, "looking through videos", progress, _THREADS)
        for name, parts in arrays.items():
            kind = "<f8" if name == "times" else "<i8"
            np.concatenate([np.zeros(0), *parts]).astype(kind).tofile(aside / f"{name}.bin")
        (aside / "films.json").write_text(json.dumps(told))

    target = entry(cache, f"films-{key_of(VERSION, identity(paths))}", build)
    kinds = {"times": "<f8", "stamps": "<i8", "keys": "<i8"}
    arrays = {name: np.fromfile(target / f"{name}.bin", kind) for name, kind in kinds.items()}
    at = dict.fromkeys(kinds, 0)
    films: list[Film | Unreadable] = []
    for told in json.loads((target / "films.json").read_text()):
        if "reason" in told:
            films.append(_again(paths[len(films)]))
            continue
        parts: dict[str, Any] = {}
        for name in kinds:
            count = told[name]
            parts[name] = None if count is None else arrays[name][at[name] : at[name] + count]
            at[name] += count or 0
        films.append(Film(tuple(told["size"]), told["grey"], frames=told["frames"], **parts))
    return films


def _again(path: Path) -> Film | Unreadable:
    try:
        return survey(path)
    except Unreadable as error:
        return error


def keep_decoded(videos: FileVideos, cache: Path, progress: Progress | None = None) -> ArrayVideos:
    """All frames of ``videos`` as their look and rate say, in a file of ``cache`` that is mapped into memory.

    Raises:
        Unreadable: a video changed since it was surveyed.
    """

    def build(aside: Path) -> None:
        with (aside / "pixels.bin").open("wb") as file:

            def take(at: int, found: Frames | Unreadable) -> None:
                if isinstance(found, Unreadable):
                    raise Unreadable(f"{videos.paths[at]} {found.reason}")
                file.write(found)

            in_order(lambda at: _whole(videos, at), len(videos), take, "decoding videos", progress, _THREADS)

    target = entry(cache, f"decoded-{key_of(VERSION, videos.identity())}", build)
    starts = np.cumsum([0, *(videos.frames(at) for at in range(len(videos)))])
    size, channels = videos.look.size, 1 if videos.look.channels == "grey" else 3
    shape = (int(starts[-1]), size[0], size[1], channels)
    return ArrayVideos((target / "pixels.bin", shape), starts)


def _whole(videos: FileVideos, at: int) -> Frames:
    """Every frame of a video: decoded in one go, those that the rate leaves out not shaped."""
    line = videos.lines[at]
    wanted, found = set(line.tolist()), {}
    for number, image in enumerate(frames_of(videos.paths[at], videos.look.channels)):
        if number in wanted:
            found[number] = videos.look.shape(image)
    if len(found) < len(wanted):
        raise Unreadable("has fewer frames than when it was surveyed")
    return np.stack([found[number] for number in line.tolist()])


def decoded_bytes(videos: FileVideos) -> int:
    """What all frames take."""
    size, channels = videos.look.size, 1 if videos.look.channels == "grey" else 3
    return sum(map(len, videos.lines)) * size[0] * size[1] * channels
