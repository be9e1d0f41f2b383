"""Sets of labelled videos, and the built-in ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.clips.builtin import MOTIONS, moving_digits
from attncli.data.clips.sampling import span
from attncli.data.clips.store import ArrayVideos, Videos
from attncli.data.faults import quoted
from attncli.data.images.format import PictureFormat, normalisation
from attncli.data.images.reading import picture
from attncli.data.images.shaping import Look
from attncli.data.images.store import ArrayPictures
from attncli.data.labels import Labels
from attncli.errors import DataError, Problem
from attncli.recipe.video import ClipSection, VideoData


@dataclass
class VideoSet:
    """Videos with what is to be said of them."""

    name: str
    videos: Videos
    targets: NDArray[Any]
    """int64 [N], float32 [N, L] of 0 and 1, or float32 [N]."""
    places: list[str] = field(default_factory=list)
    """Where each is found."""

    def __len__(self) -> int:
        return len(self.videos)


@dataclass
class VideoSets:
    """What a classifier of videos learns from and is measured on."""

    train: VideoSet
    validation: VideoSet
    tests: list[VideoSet]
    labels: Labels
    format: PictureFormat
    where: str
    kept: bool = True
    """Whether all are decoded and mapped into memory; else frames are decoded when they are asked for."""
    skipped: int = 0
    """Videos left out because they cannot be decoded."""
    shared: list[str] = field(default_factory=list)
    """Groups that stand in several parts, by the data's own splits."""

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        text = f"{self.where}: {counts}{tests} videos, {self.format.describe()}"
        if not self.kept:
            text += ", decoded as they are needed"
        if self.skipped:
            text += f"; {self.skipped:,} that cannot be decoded are left out"
        if self.shared:
            text += f"; groups on more than one side: {quoted(self.shared, 3)}"
        return f"{text}; {self.labels.describe()}"

    def shorter(self, clip: ClipSection) -> int:
        """Training videos that have fewer frames than a clip spans."""
        widest = max(span(clip.frames, stride) for stride in clip.stride)
        return sum(self.train.videos.frames(at) < widest for at in range(len(self.train)))


def write_examples(examples: VideoSet, labels: Labels, folder: Path) -> None:
    """A clip of each label as a folder of frames, for what reads files."""
    for number, name in enumerate(labels.names):
        (found,) = np.flatnonzero(examples.targets == number)[:1]
        (folder / name).mkdir(parents=True)
        frames = examples.videos.read(int(found), np.arange(examples.videos.frames(int(found))))
        for at, frame in enumerate(frames):
            picture(frame).save(folder / name / f"{at:02}.png")


def format_of(look: Look, clip: ClipSection, videos: Videos) -> PictureFormat:
    """What frames are to a model: size, channels, and what they are normalised with."""
    channels = 1 if look.channels == "grey" else 3
    if isinstance(videos, ArrayVideos):
        pixels = videos.pixels
    else:  # the middle frames of at most 200 videos
        chosen = np.unique(np.linspace(0, len(videos) - 1, min(200, len(videos))).astype(np.int64))
        pixels = np.concatenate(
            [videos.read(int(at), np.array([videos.frames(int(at)) // 2])) for at in chosen]
        )
    mean, std = normalisation(clip.normalise, channels, ArrayPictures(pixels))
    return PictureFormat(*look.size, channels, clip.fit, tuple(mean), tuple(std))


def builtin_sets(section: VideoData, clip: ClipSection, form: PictureFormat | None) -> VideoSets:
    """The moving digits."""
    problems = []
    if section.fold is not None:
        problems.append(Problem("data.fold: the built-in clips have no folds", hint="give --data"))
    if clip.rate:
        problems.append(Problem("clip.rate: the built-in clips have no times", hint="set clip.rate=0"))
    if problems:
        raise DataError(*problems)
    sets = {}
    for part in ("train", "validation", "test"):
        found = moving_digits(part)
        most = section.limit if section.limit and part == "train" else len(found.labels)
        places = [f"built-in {part} clip {at + 1}" for at in range(len(found.labels[:most]))]
        sets[part] = VideoSet(
            part, ArrayVideos.of(_shaped(found.frames[:most], clip, form)), found.labels[:most], places
        )
    train = sets["train"].videos
    assert isinstance(train, ArrayVideos)
    size, channels = train.pixels.shape[1:3], train.pixels.shape[3]
    look = Look("grey" if channels == 1 else "rgb", size, clip.fit)
    form = form or format_of(look, clip, train)
    labels = Labels("single", list(MOTIONS))
    return VideoSets(
        sets["train"], sets["validation"], [sets["test"]], labels, form, "built-in moving digits"
    )


def _shaped(clips: NDArray[np.uint8], clip: ClipSection, form: PictureFormat | None) -> NDArray[np.uint8]:
    """Built-in clips [N, T, H, W, 1] in the size and channels that are asked for."""
    size = form.size if form else (clip.size[0], clip.size[-1]) if clip.size else clips.shape[2:4]
    rgb = form.channels == 3 if form else clip.channels == "rgb"
    if size != clips.shape[2:4]:
        look = Look("grey", size, clip.fit)
        shaped = np.stack([look.shape(frame) for frame in clips.reshape(-1, *clips.shape[2:])])
        clips = shaped.reshape(*clips.shape[:2], *shaped.shape[1:])
    return np.repeat(clips, 3, 4) if rgb else clips
