"""``attn detect RUN PICTURE...``: boxes drawn into pictures, and COCO's results, as they come."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.training import RunFolder

_SHOWN = 20
"""Pictures of which each gets a table of its boxes; of more a line each."""


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    out: Path | None = None,
    threshold: float | None = None,
    no_pictures: bool = False,
) -> None:
    """Apply ``run`` to picture files, folders of them, or names on standard input.

    A picture that cannot be read is told and the others are done; then the command fails.
    """
    if not inputs and not sys.stdin.isatty():
        inputs = ["-"]
    if not inputs:
        raise RecipeError(
            "an input is missing: a picture, a folder of pictures, or - for names on standard input",
            then=f"attn {command} {run.path} PICTURE",
        )
    check_inputs(inputs)
    least = loaded.recipe.evaluate.threshold if threshold is None else threshold
    loaded.recipe.evaluate.least = min(loaded.recipe.evaluate.least, least)
    from attncli.reports.detection import draw_boxes
    from attncli.tasks.detect_results import coco_rows
    from attncli.training import measuring

    task, device = load_task(run, loaded, data=False)
    folder = out or run.path / "detected"
    if not no_pictures:
        folder.mkdir(parents=True, exist_ok=True)
    found_all: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    skipped: list[Problem] = []
    many = len(inputs) > _SHOWN or any(text == "-" or Path(text).is_dir() for text in inputs)
    with (
        console.Progress("finding", unit="pictures", total=None if many else 0) as bar,
        measuring(task.model, run),
    ):
        for batch in _batches(read_pictures(inputs, skipped), task.recipe.evaluate.batch):
            detected = task.detect(task.prepared([image for _, image in batch]), device)
            for (name, image), one in zip(batch, detected, strict=True):
                one = one._replace(**{key: getattr(one, key)[one.scores >= least] for key in one._fields})
                number = len(found_all) + 1
                told = {"picture": name, "image_id": number, "detections": _told(task, one)}
                if not no_pictures:
                    target = folder / _free(Path(name).stem, taken)
                    draw_boxes(image, one, task.classes.names).save(target)
                    told["drawn"] = str(target)
                found_all.append(told)
                rows += coco_rows(one, number, task.classes)
                counts.update(row["class"] for row in told["detections"])
                if not console.json_mode():
                    _show(told, many)
                bar.advance(1, units=1)
    if not no_pictures:
        results = folder / "results.json"
        results.write_text(json.dumps(rows) + "\n", encoding="utf-8")
        names = [{"id": one["image_id"], "file_name": one["picture"]} for one in found_all]
        (folder / "pictures.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
        console.say(f"drawn in {folder}; results.json there is in COCO's format, pictures.json names them")
    console.document({"run": str(run.path), "threshold": least, "counts": dict(counts), "results": found_all})
    if skipped:
        raise DataError(*skipped[:20])


def _told(task: Any, found: Any) -> list[dict[str, Any]]:
    return [
        {
            "class": task.classes.names[int(label)],
            "score": float(score),
            "box": [round(float(side), 2) for side in box],
        }
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


def _show(told: dict[str, Any], many: bool) -> None:
    rows = told["detections"]
    if many:
        counts = Counter(row["class"] for row in rows)
        said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"
        console.result(f"{told['picture']}\t{said}")
        return
    columns = ["class", "score", "x0", "y0", "x1", "y1"]
    values = [(row["class"], row["score"], *(round(side) for side in row["box"])) for row in rows]
    console.table(columns, values, title=f"{told['picture']}: {len(rows)} found", right=columns[1:])
    if "drawn" in told:
        console.result(told["drawn"])


def check_inputs(inputs: list[str]) -> None:
    """Every input that is neither a file nor a folder is named."""
    from attncli.data.files import near_path

    wrong = []
    for text in inputs:
        path = Path(text)
        if text != "-" and not path.exists():
            near = near_path(path)
            wrong.append(Problem("there is no such file or folder", text, near and f"did you mean {near}?"))
    if wrong:
        raise DataError(*wrong)


def read_pictures(inputs: list[str], skipped: list[Problem]) -> Iterator[tuple[str, Any]]:
    """Name and pixels (uint8 [H, W, 3]) of each picture; what cannot be read is noted in ``skipped``."""
    from attncli.data.images.reading import Unreadable, read_image

    for path in _paths(inputs):
        try:
            yield str(path), read_image(path, "rgb")
        except Unreadable as error:
            skipped.append(Problem(error.reason, str(path)))
            console.warn(f"{path}: {error.reason}; passed over")


def _paths(inputs: list[str]) -> Iterator[Path]:
    from attncli.data.boxes.layouts import pictures_in

    for text in inputs:
        if text == "-":
            yield from (Path(line.strip()) for line in sys.stdin if line.strip())
        elif Path(text).is_dir():
            found = pictures_in(Path(text))
            if not found:
                raise DataError(Problem("no picture is in it or below it", text))
            yield from found
        else:
            yield Path(text)


def _batches(pictures: Iterator[tuple[str, Any]], size: int) -> Iterator[list[tuple[str, Any]]]:
    """Neighbours of one shape together, as many as fit in a batch: so that no padding is computed."""
    held: list[tuple[str, Any]] = []
    for one in pictures:
        if held and (len(held) == size or held[0][1].shape != one[1].shape):
            yield held
            held = []
        held.append(one)
    if held:
        yield held


def _free(stem: str, taken: set[str]) -> str:
    number, name = 2, f"{stem}.png"
    while name in taken:
        name, number = f"{stem}-{number}.png", number + 1
    taken.add(name)
    return name
