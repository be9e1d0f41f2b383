"""``attn classify RUN CLIP...``: label videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attncli.commands.label_files import Kind, label_files
from attncli.errors import RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.training import RunFolder


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


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    nbest: int | None = None,
    context: str | None = None,
) -> None:
    """Label video files, folders of frames, folders with all below them, or ``-`` for paths, one a line."""
    if context is not None:
        raise RecipeError("--context is of question answering; this run labels videos")
    label_files(VIDEOS, command, run, loaded, inputs, nbest)
