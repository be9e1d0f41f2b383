"""``attn classify RUN IMAGE...``: label pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attncli.commands.label_files import Kind, label_files
from attncli.errors import RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.training import RunFolder


def _below(folder: Path) -> list[Path]:
    from attncli.data.images.folders import picture_files

    return sorted(picture_files(folder))


PICTURES = Kind(
    name="image",
    plural="images",
    chunk=1024,
    first=32,
    wanted="a picture, a folder",
    is_one=lambda path: not path.is_dir(),
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
    """Label picture files, folders with all below them, or ``-`` for paths on standard input, one a line."""
    if context is not None:
        raise RecipeError("--context is of question answering; this run labels pictures")
    label_files(PICTURES, command, run, loaded, inputs, nbest)
