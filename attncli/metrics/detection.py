"""Average precision of boxes as COCO measures it, by pycocotools; and which class is taken for which.

Boxes are (x0, y0, x1, y1) in pixels. Nothing is printed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class Truth(NamedTuple):
    """What is in a picture."""

    boxes: Floats
    """[n, 4]."""
    labels: NDArray[np.int64]
    """[n], from 0."""
    ignored: NDArray[np.bool_]
    """[n]: neither finding nor missing it counts (COCO's crowds)."""
    areas: Floats
    """[n] square pixels, by which an object is small (below 32x32), medium or large (from 96x96)."""


class Found(NamedTuple):
    """What was found in a picture."""

    boxes: Floats
    """[k, 4]."""
    scores: Floats
    """[k], higher is surer."""
    labels: NDArray[np.int64]
    """[k]."""


@dataclass
class Scores:
    """What COCO's evaluation says, between 0 and 1."""

    metrics: dict[str, float]
    """map (mean over IoU 0.5 to 0.95), map50, map75; map_small, map_medium, map_large where there are such
    objects; recall (mean, with all detections that count)."""
    classes: dict[str, dict[str, float]]
    """map, map50 and the number of objects by class; classes without objects are not there."""
    recalls: Floats = field(default_factory=lambda: np.zeros(0))
    """[101], where precisions are measured."""
    precisions: dict[str, Floats] = field(default_factory=dict)
    """[101] at IoU 0.5 by class."""


def coco_scores(
    truths: Sequence[Truth], found: Sequence[Found], names: Sequence[str], most: int = 100
) -> Scores:
    """Average precision over pictures; ``most`` detections of each count, the best ones.

    Lin et al. 2014, https://arxiv.org/abs/1405.0312; https://cocodataset.org/#detection-eval
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_truth(truths, names), None, "bbox")
        judge.cocoDt = _results(judge.cocoGt, found)
        judge.params.imgIds = list(range(1, len(truths) + 1))
        judge.params.catIds = list(range(1, len(names) + 1))
        judge.params.maxDets = [1, 10, most]
        judge.evaluate()
        judge.accumulate()
    # precision [IoU, recall, class, area, most], recall [IoU, class, area, most]; -1 without any object
    precision, recall, params = judge.eval["precision"], judge.eval["recall"], judge.params
    at = {round(float(iou), 2): number for number, iou in enumerate(params.iouThrs)}
    metrics = {
        "map": _mean(precision[:, :, :, 0, 2]),
        "map50": _mean(precision[at[0.5], :, :, 0, 2]),
        "map75": _mean(precision[at[0.75], :, :, 0, 2]),
        "recall": _mean(recall[:, :, 0, 2]),
    }
    for number, name in enumerate(("small", "medium", "large"), 1):
        value = _mean(precision[:, :, :, number, 2])
        if value >= 0:
            metrics[f"map_{name}"] = value
    metrics = {name: max(value, 0.0) for name, value in metrics.items()}
    scores = Scores(metrics, {}, np.asarray(params.recThrs))
    counts = np.bincount(
        np.concatenate([truth.labels[~truth.ignored] for truth in truths] or [np.zeros(0, np.int64)]),
        minlength=len(names),
    )
    for number, name in enumerate(names):
        if counts[number]:
            mean, half = (_mean(precision[i, :, number, 0, 2]) for i in (slice(None), at[0.5]))
            scores.classes[name] = {"map": mean, "map50": half, "objects": int(counts[number])}
            scores.precisions[name] = precision[at[0.5], :, number, 0, 2]
    return scores


def _mean(values: NDArray[Any]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _truth(truths: Sequence[Truth], names: Sequence[str]) -> Any:
    from pycocotools.coco import COCO

    marks = []
    for image, truth in enumerate(truths, 1):
        boxes = corners_to_sides(truth.boxes)
        for box, label, ignored, area in zip(boxes, truth.labels, truth.ignored, truth.areas, strict=True):
            marks.append(
                {
                    "id": len(marks) + 1,
                    "image_id": image,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(ignored),
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "annotations": marks,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    truth.createIndex()
    return truth


def _results(truth: Any, found: Sequence[Found]) -> Any:
    rows = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": box.tolist(), "score": float(score)}
        for image, one in enumerate(found, 1)
        for box, score, label in zip(corners_to_sides(one.boxes), one.scores, one.labels, strict=True)
    ]
    if rows:
        return truth.loadRes(rows)
    from pycocotools.coco import COCO

    nothing = COCO()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def corners_to_sides(boxes: Floats) -> Floats:
    """(x0, y0, x1, y1) [n, 4] as COCO writes boxes: x, y, width, height, in float64."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def overlaps(a: Floats, b: Floats) -> NDArray[np.float64]:
    """IoU [n, m] of boxes [n, 4] and [m, 4]."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(-1)
    whole = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def confusion(
    truths: Sequence[Truth], found: Sequence[Found], classes: int, *, threshold: float, overlap: float
) -> NDArray[np.int64]:
    """Which class is taken for which: int64 [C + 1, C + 1], true by found, the last for nothing.

    Detections with a score of ``threshold`` and more, the best first, each take the free object that they
    overlap most, whatever its class, by ``overlap`` (IoU) or more. What is left on either side is nothing's;
    detections on ignored objects are not counted.
    """
    table = np.zeros((classes + 1, classes + 1), np.int64)
    for truth, one in zip(truths, found, strict=True):
        order = np.argsort(-np.asarray(one.scores), kind="stable")
        order = order[np.asarray(one.scores)[order] >= threshold]
        shared = overlaps(one.boxes[order], truth.boxes) if len(truth.boxes) else np.zeros((len(order), 0))
        free = ~truth.ignored
        for row, at in enumerate(order):
            label = int(one.labels[at])
            open_ = np.where(free, shared[row], -1.0)
            best = int(open_.argmax()) if len(open_) else -1
            if best >= 0 and open_[best] >= overlap:
                free[best] = False
                table[int(truth.labels[best]), label] += 1
            elif not (shared[row][truth.ignored] >= overlap).any():
                table[classes, label] += 1
        for label in truth.labels[free]:
            table[int(label), classes] += 1
    return table
