"""Labelled videos: read, checked, their labels and size found, decoded once where they fit in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import cache_folder
from attncli.data.clips.decoding import Film, survey
from attncli.data.clips.folders import open_folder
from attncli.data.clips.keeping import decoded_bytes, keep_decoded, survey_all
from attncli.data.clips.lists import Row
from attncli.data.clips.raw import COMMAND, RawSets, open_raw, read_part, shared_groups
from attncli.data.clips.sets import VideoSet, VideoSets, builtin_sets, format_of
from attncli.data.clips.store import FileVideos
from attncli.data.example_parts import no_part, open_parts, single_part
from attncli.data.faults import Faults, quoted
from attncli.data.images.format import PictureFormat
from attncli.data.images.reading import Unreadable
from attncli.data.images.shaping import Look
from attncli.data.images.survey import in_order
from attncli.data.labels import Labels, find_labels, targets_of
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.video import ClipSection, VideoData


def prepare_videos(
    section: VideoData,
    clip: ClipSection,
    progress: Progress | None = None,
    labels: Labels | None = None,
    *,
    form: PictureFormat | None = None,
) -> VideoSets:
    """Everything that a classifier of videos learns from.

    Every video is decoded from end to end before anything else happens (once; what that told is kept), so
    that all that cannot be decoded is known. Sets that fit in ``data.memory`` together are kept decoded.

    Args:
        section: the ``data`` section.
        clip: size, channels, fit, normalisation, rate.
        progress: called with what is being done, videos and bytes.
        labels: of a run that goes on or is measured; found in the training part where it is None.
        form: likewise, what the run's frames are brought to.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with its place and reason.
    """
    if section.path == "builtin":
        return builtin_sets(section, clip, form)
    faults = Faults()
    found = open_raw(section, faults, progress)
    if labels is None:
        whole = found.by_name["train"] + (found.by_name["validation"] if found.held else [])
        labels = find_labels(section, whole, faults)  # type: ignore[arg-type]
    keeper = _Keeper(section, clip, faults, progress)
    parts = {name: keeper.look_at(name, rows, labels) for name, rows in found.by_name.items()}
    keeper.check()
    if labels.kind == "single" and len(labels.names) < 2:
        what = f"{found.where}: the training part has one label only, {labels.names[0]!r}"
        raise DataError(Problem(what, hint="a classifier needs two or more"))
    look = (
        form.look() if form else _look([film for part in parts.values() for film in part.films], parts, clip)
    )
    sets = {name: keeper.open(part, look) for name, part in parts.items()}
    if form is None:
        form = format_of(look, clip, sets["train"].videos)
    train, validation = sets.pop("train"), sets.pop("validation")
    shared = [] if section.fold is not None else shared_groups(found)
    return VideoSets(
        train, validation, list(sets.values()), labels, form, found.where, keeper.kept, keeper.skipped, shared
    )


def read_video_set(
    section: VideoData,
    clip: ClipSection,
    labels: Labels,
    form: PictureFormat,
    name: str,
    *,
    part: bool,
    progress: Progress | None = None,
) -> VideoSet:
    """Videos to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    if part:
        name = {"val": "validation", "valid": "validation", "dev": "validation"}.get(name, name)
        if section.path == "builtin":
            sets = builtin_sets(section, clip, form)
            named = {"train": sets.train, "validation": sets.validation} | {t.name: t for t in sets.tests}
            if name not in named:
                what = f"the built-in set has no part {name!r}"
                raise DataError(Problem(what, hint=f"it has {', '.join(named)}"))
            return named[name]
        found: RawSets = open_raw(section, faults, progress)
        if name not in found.by_name:
            raise no_part(open_parts(section, "", folders=open_folder), name)
        rows = found.by_name[name]
    else:
        other = single_part(name, "--data", section.path, folders=open_folder)
        name, rows = other.name, read_part(section, other, faults)
    keeper = _Keeper(section, clip, faults, progress)
    looked = keeper.look_at(name, rows, labels)
    keeper.check()
    return keeper.open(looked, form.look())


def unlabelled_videos(
    paths: Sequence[Path], labels: Labels, clip: ClipSection, form: PictureFormat
) -> tuple[VideoSet, dict[int, str]]:
    """Videos that are to be labelled, and why others, by their number, cannot be decoded."""
    films: list[Film] = []
    found: list[Path] = []
    wrong: dict[int, str] = {}

    def take(at: int, film: Film | Unreadable) -> None:
        if isinstance(film, Unreadable):
            wrong[at] = film.reason
        elif clip.rate and film.times is None:
            wrong[at] = f"is a folder of pictures, without the times that clip.rate={clip.rate:g} needs"
        else:
            films.append(film)
            found.append(paths[at])

    in_order(lambda at: survey(paths[at]), len(paths), take, "reading", None)
    videos = FileVideos(found, films, form.look(), clip.rate)
    return VideoSet("input", videos, labels.blank(len(found)), [str(path) for path in found]), wrong


# Reading


@dataclass(frozen=True)
class _Looked:
    """A part whose videos are known to be sound."""

    name: str
    rows: list[Row]
    films: list[Film]
    targets: NDArray[Any]


class _Keeper:
    """Opens the parts of one data set: counts what is left out, and what memory is left for decoded ones."""

    def __init__(
        self, section: VideoData, clip: ClipSection, faults: Faults, progress: Progress | None
    ) -> None:
        self.section, self.clip, self.faults, self.progress = section, clip, faults, progress
        self.cache = cache_folder(section.cache) / "videos"
        self.left = section.memory << 20
        self.kept = True
        self.skipped = 0
        self._broken = False

    def check(self) -> None:
        """Raise what was found, with the way on where there are damaged files among it."""
        try:
            self.faults.check()
        except DataError as error:
            self._explain(error)
            raise

    def _explain(self, error: DataError) -> None:
        if self._broken and error.then is None:
            error.then = f"{COMMAND.format(path=self.section.path)} data.corrupt=skip"

    def look_at(self, name: str, rows: list[Row], labels: Labels) -> _Looked:
        """Targets, and what decoding tells; what is wrong goes to the faults."""
        targets = targets_of([(row.label, row.where) for row in rows], labels, self.faults, name)
        found = survey_all([row.path for row in rows], self.cache, self.progress)
        sound = []
        for at, (row, film) in enumerate(zip(rows, found, strict=True)):
            if not isinstance(film, Unreadable):
                sound.append(at)
                if self.clip.rate and film.times is None:
                    hint = "clip.rate is of video files: set clip.rate=0"
                    self.faults.add("is a folder of pictures, which have no times", str(row.path), hint)
            elif self.section.corrupt == "skip":
                self.skipped += 1
            else:
                self._refuse(row, film)
        if not sound and rows and self.section.corrupt == "skip":
            what = f"none of the {len(rows):,} videos of the {name} part can be decoded"
            self.faults.add(what, str(rows[0].path), found[0].reason)  # type: ignore[union-attr]
        chosen = [rows[at] for at in sound]
        return _Looked(name, chosen, [found[at] for at in sound], targets[np.array(sound, np.int64)])  # type: ignore[misc]

    def _refuse(self, row: Row, error: Unreadable) -> None:
        self._broken = True
        place = str(row.path) if row.where == str(row.path) else f"{row.path} ({row.where})"
        try:
            self.faults.add(error.reason, place)
        except DataError as raised:
            self._explain(raised)
            raise

    def open(self, part: _Looked, look: Look) -> VideoSet:
        """Its videos as ``look`` says, decoded where they fit."""
        videos = FileVideos([row.path for row in part.rows], part.films, look, self.clip.rate)
        places = [str(path) for path in videos.paths]
        needed = decoded_bytes(videos)
        if needed > self.left:
            self.kept = False
            return VideoSet(part.name, videos, part.targets, places)
        self.left -= needed
        try:
            kept = keep_decoded(videos, self.cache, self.progress)
        except Unreadable as error:
            raise DataError(Problem(error.reason, hint="it was sound a moment ago; try again")) from None
        return VideoSet(part.name, kept, part.targets, places)


def _look(films: list[Film], parts: dict[str, _Looked], clip: ClipSection) -> Look:
    """Size and channels of the frames.

    Raises:
        DataError: sizes differ, and the recipe sets none.
    """
    grey = all(film.grey for film in parts["train"].films)
    channels = {"auto": "grey" if grey else "rgb"}.get(clip.channels, clip.channels)
    if clip.size:
        return Look(channels, (clip.size[0], clip.size[-1]), clip.fit)  # type: ignore[arg-type]
    sizes = Counter(film.size for film in films)
    if len(sizes) > 1:
        told = [f"{count:,} of {h}x{w}" for (h, w), count in sizes.most_common()]
        (height, width), _ = sizes.most_common(1)[0]
        what = f"the videos have {len(sizes):,} sizes (height x width): {quoted(told, 4)}"
        raise DataError(Problem(what, hint=f"set clip.size, for example clip.size=[{height},{width}]"))
    return Look(channels, next(iter(sizes)), clip.fit)  # type: ignore[arg-type]
