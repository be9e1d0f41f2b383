"""``attn classify RUN CLIP...``: label videos."""

from __future__ import annotations

from pathlib import Path

from attncli.commands.label_files import Kind


def _is_one(path: Path) -> bool:
    """Whether a path is a single video: a file, or a folder of frames."""
    from attncli.data.clips.folders import is_frames

    return not path.is_dir() or is_frames(path)


def _below(folder: Path) -> list[Path]:
    from attncli.data.clips.decoding import natural
    from attncli.data.clips.folders import videos_below

    return sorted(videos_below(folder), key=lambda path: natural(str(path)))


VIDEOS = Kind(
    name="video",
    plural="videos",
    chunk=32,
    first=4,
    wanted="a video, a folder of frames, a folder of videos",
    is_one=_is_one,
    below=_below,
)
apply = VIDEOS.apply
