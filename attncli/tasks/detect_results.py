"""What a detector found, in the picture's own pixels, and as COCO's results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from attncli.data.boxes.classes import Classes
from attncli.data.boxes.scenes import BoxSet
from attncli.metrics.detection import Found, Scores, corners_to_sides
from attncli.models.vision.detection.detections import Detections

_PLACES = 3  # digits of coordinates that processes send each other and files keep


def unscaled(found: Detections, scale: float) -> Found:
    """From the frame's pixels to the picture's own."""
    boxes = (found.boxes.double() / scale).cpu().numpy().round(_PLACES)
    return Found(boxes, found.scores.double().cpu().numpy(), found.labels.cpu().numpy())


def found_of(boxes: Any, scores: Any, labels: Any) -> Found:
    """Of lists, as processes send them."""
    return Found(
        np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64), np.array(labels, np.int64)
    )


def coco_rows(found: Found, number: int, classes: Classes) -> list[dict[str, Any]]:
    """Detections in the picture ``number`` as COCO writes results."""
    return [
        {
            "image_id": number,
            "category_id": classes.numbers[int(label)],
            "bbox": [round(float(side), _PLACES) for side in box],
            "score": float(score),
        }
        for box, score, label in zip(corners_to_sides(found.boxes), found.scores, found.labels, strict=True)
    ]


def write_results(
    folder: Path, examples: BoxSet, found: list[Found], scores: Scores, classes: Classes
) -> None:
    """``NAME.json`` in COCO's format, ``NAME-pictures.json``, files, and ``NAME-classes.json``, scores."""
    folder.mkdir(exist_ok=True)

    def write(name: str, values: Any, **layout: Any) -> None:
        text = json.dumps(values, ensure_ascii=False, **layout)
        (folder / name).write_text(text + "\n", encoding="utf-8")

    numbered = zip(examples.numbers, found, strict=True)
    write(f"{examples.name}.json", [row for at, one in numbered for row in coco_rows(one, at, classes)])
    files = zip(examples.numbers, examples.names, strict=True)
    write(f"{examples.name}-pictures.json", [{"id": at, "file_name": name} for at, name in files])
    write(f"{examples.name}-classes.json", {"metrics": scores.metrics, "classes": scores.classes}, indent=2)
