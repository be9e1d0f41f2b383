"""``attn inspect`` of a segmenter: gates and attention drawn over each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.data.images.reading import Unreadable, read_image
from attncli.errors import DataError, Problem
from attncli.reports.gates import draw_gates
from attncli.reports.masks import overlay
from attncli.training import RunFolder, measuring


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """A picture of every gate's and attention layer's map for each input, and a table of their values."""
    from attncli.tasks.segment_use import look

    task, _ = load_task(run, loaded, data=False)
    channels = "grey" if task.pixels.channels == 1 else "rgb"
    read, problems = [], []
    for text in inputs:
        try:
            read.append((text, read_image(Path(text).expanduser(), channels)))
        except Unreadable as error:
            problems.append(Problem(error.reason, text))
    if problems:
        raise DataError(*problems)
    found = []
    for number, (text, image) in enumerate(read, 1):
        with measuring(task.model, run):
            seen = look(task, image)
        path = out or run.path / "attention.png"
        if len(read) > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = overlay(seen.image, seen.mask, task.classes.palette())
        draw_gates(seen.image, shown, seen.maps, path, title=text)
        rows = [
            (
                name,
                "x".join(map(str, values.shape)),
                float(values.mean()),
                float(values.min()),
                float(values.max()),
            )
            for name, values in seen.maps
        ]
        keys = ("name", "shape", "mean", "least", "most")
        found.append(
            {"image": text, "picture": str(path), "maps": [dict(zip(keys, row, strict=True)) for row in rows]}
        )
        if not console.json_mode():
            columns = ["attention", "places or channels", "mean", "least", "most"]
            if rows:
                console.table(columns, rows, title=text, right=columns[1:])
            else:
                console.result(f"{text}: this model has no attention to show")
            console.result(str(path))
    console.document({"run": str(run.path), "inputs": found})
