"""``attn inspect`` of a detector: what proposals, queries and scales attend to, drawn over the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from attncli import console
from attncli.commands.apply_detect import check_inputs, read_pictures
from attncli.commands.trained import load_task
from attncli.errors import DataError, Problem
from attncli.reports.detection import draw_boxes
from attncli.reports.detection_attention import draw_looked
from attncli.training import RunFolder, measuring


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """A picture of every attention map for each input, and a table of what each detection attends to."""
    check_inputs(inputs)
    from attncli.tasks.detect_use import look

    task, _ = load_task(run, loaded, data=False)
    skipped: list[Problem] = []
    pictures = list(read_pictures(inputs, skipped))
    threshold = task.recipe.evaluate.threshold
    told = []
    for number, (name, image) in enumerate(pictures, 1):
        with measuring(task.model, run):
            seen = look(task, image, threshold)
        path = out or run.path / "attention.png"
        if len(pictures) > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = draw_boxes(image, seen.found, task.classes.names)
        draw_looked(image, drawn, seen, path, title=name)
        rows = [_row(task, seen, at) for at in range(len(seen.found.scores))]
        told.append(
            {
                "picture": name,
                "drawn": str(path),
                "detections": rows,
                "maps": [_about(p) for p in seen.panels],
            }
        )
        if not console.json_mode():
            _show(name, rows, told[-1]["maps"])
            console.result(str(path))
    console.document({"run": str(run.path), "inputs": told})
    if skipped:
        raise DataError(*skipped)


def _row(task: Any, seen: Any, at: int) -> dict[str, Any]:
    """A detection, and of each layer of links the box it attends to most besides its own."""
    found = seen.found
    row: dict[str, Any] = {
        "class": task.classes.names[int(found.labels[at])],
        "score": float(found.scores[at]),
        "box": [round(float(side), 1) for side in found.boxes[at]],
        "links": {},
    }
    for panel in seen.panels:
        if not hasattr(panel, "boxes") or at >= len(panel.source):
            continue
        weights = panel.weights[at].copy()
        own = float(weights[panel.source[at]])
        weights[panel.source[at]] = -1
        other = int(np.argmax(weights))
        row["links"][panel.name] = {
            "itself": own,
            "strongest": float(weights[other]),
            "box": [round(float(side), 1) for side in panel.boxes[other]],
        }
    return row


def _about(panel: Any) -> dict[str, Any]:
    values = panel.values if hasattr(panel, "values") else panel.weights
    if not values.size:
        return {"name": panel.name, "shape": list(values.shape)}
    return {
        "name": panel.name,
        "shape": list(values.shape),
        "mean": float(values.mean()),
        "least": float(values.min()),
        "most": float(values.max()),
    }


def _show(name: str, rows: list[dict[str, Any]], maps: list[dict[str, Any]]) -> None:
    linked = [
        (
            row["class"],
            row["score"],
            layer,
            link["itself"],
            link["strongest"],
            "box " + ", ".join(str(round(side)) for side in link["box"]),
        )
        for row in rows
        for layer, link in row["links"].items()
    ]
    if linked:
        columns = ["class", "score", "layer", "to itself", "strongest", "link"]
        console.table(columns, linked, title=name, right=["score", "to itself", "strongest"])
    about = [(m["name"], "x".join(map(str, m["shape"])), m.get("mean"), m.get("most")) for m in maps]
    if about:
        console.table(["attention", "shape", "mean", "most"], about, title=name, right=["mean", "most"])
    else:
        console.result(f"{name}: this model has no attention besides its proposals")
        console.say("trained with model.pyramid.fusion=attention or model.regions.relation=1 it has some")
