"""``attn segment RUN IMAGE|FOLDER...``: a mask and an overlay of each picture, as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.data.images.reading import ENDINGS, Unreadable, read_image
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.training import RunFolder

_SHOWN = 3
"""Classes shown of each picture in a line."""


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    out: Path | None = None,
    flip: bool = False,
) -> None:
    """Segment pictures; folders are walked and their pictures read one at a time.

    Writes ``NAME.png`` (class numbers with a palette), ``NAME-overlay.png`` and ``classes.json`` into
    ``out``. A picture that cannot be read is told and the others are done; then the command fails.
    """
    if not inputs:
        raise RecipeError(
            "a picture is missing: a file, or a folder of pictures", then=f"attn {command} {run.path} IMAGE"
        )
    chosen, total = _listed(inputs)
    from attncli.reports.masks import draw_overlay, write_mask
    from attncli.tasks.segment_use import segment
    from attncli.training import measuring

    if flip:
        loaded.recipe.evaluate.flip = True
    task, _ = load_task(run, loaded, data=False)
    folder = out or run.path / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    palette, names = task.classes.palette(), task.names
    listing = [{"class": n, "number": at, "colour": palette[at]} for at, n in enumerate(names)]
    (folder / "classes.json").write_text(
        json.dumps(listing, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    told: list[dict[str, Any]] = []
    problems: list[Problem] = []
    channels = "grey" if task.pixels.channels == 1 else "rgb"
    with (
        console.Progress("segmenting", unit="images", total=total) as bar,
        measuring(task.model, run),
    ):
        for source, name in chosen:
            try:
                shown = read_image(source, "rgb")
                image = shown if channels == "rgb" else read_image(source, "grey")
            except Unreadable as error:
                problems.append(Problem(error.reason, str(source)))
                continue
            mask, shares = segment(task, image)
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            masked, over = (
                target.with_name(f"{target.name}.png"),
                target.with_name(f"{target.name}-overlay.png"),
            )
            write_mask(mask, palette, masked)
            draw_overlay(shown, mask, palette, over)
            one = {
                "image": str(source),
                "height": mask.shape[0],
                "width": mask.shape[1],
                "mask": str(masked),
                "overlay": str(over),
                "shares": {names[at]: share for at, share in shares},
            }
            told.append(one)
            bar.advance(1, units=1)
            if not console.json_mode():
                parts = [f"{names[at]} {100 * share:.1f} %" for at, share in shares[:_SHOWN]]
                console.result(f"{source}\t{', '.join(parts)}\t{over}")
                sys.stdout.flush()
    console.document({"run": str(run.path), "classes": names, "results": told})
    if problems:
        raise DataError(*problems[:20], *(["..."] if len(problems) > 20 else []))
    console.say(f"masks and overlays: {folder}")


def _listed(inputs: list[str]) -> tuple[Iterator[tuple[Path, str]], int | None]:
    """Each picture with the name of what is written for it, and how many there are where that is known.

    Raises DataError for what is not there.
    """
    problems = []
    for text in inputs:
        path = Path(text).expanduser()
        if not path.exists():
            problems.append(Problem(f"{text}: there is no such file or folder"))
        elif path.is_dir() and not any(_pictures(path)):
            problems.append(Problem(f"{text}: no picture in this folder", hint=f"read: {' '.join(ENDINGS)}"))
    if problems:
        raise DataError(*problems)
    return _walk(inputs), len(inputs) if not any(
        Path(text).expanduser().is_dir() for text in inputs
    ) else None


def _walk(inputs: list[str]) -> Iterator[tuple[Path, str]]:
    used: set[str] = set()
    for text in inputs:
        path = Path(text).expanduser()
        for source in _pictures(path) if path.is_dir() else [path]:
            name = (
                (source.relative_to(path) if path.is_dir() else Path(source.name)).with_suffix("").as_posix()
            )
            free, number = name, 2
            while free in used:
                free, number = f"{name}-{number}", number + 1
            used.add(free)
            yield source, free


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith("."):
            yield path
