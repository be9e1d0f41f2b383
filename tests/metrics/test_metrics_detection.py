"""COCO's average precision: against pycocotools on files, and against a slow formula; confusion."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.metrics.detection import Found, Truth, coco_scores, confusion, corners_to_sides, overlaps


def scene(rng, classes=3, crowds=True):
    """A picture's objects, and detections of which some are on them."""
    count = int(rng.integers(0, 7))
    low = rng.uniform(0, 400, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 200, (count, 2))], 1)
    labels = rng.integers(0, classes, count)
    ignored = rng.uniform(size=count) < (0.15 if crowds else 0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * rng.uniform(0.5, 1, count)
    near = boxes + rng.normal(0, 12, boxes.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    wild = rng.uniform(0, 300, (3, 2))
    found = np.concatenate([near, np.concatenate([wild, wild + 60], 1)])
    kinds = np.concatenate([labels, rng.integers(0, classes, 3)])
    kinds = np.where(rng.uniform(size=len(kinds)) < 0.2, rng.integers(0, classes, len(kinds)), kinds)
    return Truth(boxes, labels, ignored, areas), Found(found, rng.uniform(size=len(found)), kinds)


def by_the_tool(truths, found, folder, classes):
    """pycocotools' own summary, from files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    marks, rows = [], []
    for image, truth in enumerate(truths, 1):
        for box, label, ignored, area in zip(corners_to_sides(truth.boxes), *truth[1:], strict=True):
            mark = {"id": len(marks) + 1, "image_id": image, "category_id": int(label) + 1, "area": area}
            marks.append({**mark, "bbox": box.tolist(), "iscrowd": int(ignored)})
        one = found[image - 1]
        for box, score, label in zip(corners_to_sides(one.boxes), one.scores, one.labels, strict=True):
            row = {"image_id": image, "category_id": int(label) + 1, "bbox": box.tolist()}
            rows.append({**row, "score": float(score)})
    told = {
        "images": [{"id": n} for n in range(1, len(truths) + 1)],
        "annotations": marks,
        "categories": [{"id": n + 1, "name": str(n)} for n in range(classes)],
    }
    (folder / "truth.json").write_text(json.dumps(told))
    (folder / "found.json").write_text(json.dumps(rows))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        judge = COCOeval(truth, truth.loadRes(str(folder / "found.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def test_equals_pycocotools_exactly(tmp_path, capfd):
    rng = np.random.default_rng(0)
    truths, found = zip(*(scene(rng) for _ in range(40)), strict=True)
    scores = coco_scores(truths, found, ["a", "b", "c"])
    assert capfd.readouterr().out == ""
    stats = by_the_tool(truths, found, tmp_path, 3)
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    for name, value in zip(names, stats[:6], strict=True):
        assert scores.metrics.get(name, -1.0) == value, name
    assert scores.metrics["recall"] == stats[8]
    assert set(scores.classes) == {"a", "b", "c"}
    assert np.mean([one["map"] for one in scores.classes.values()]) == pytest.approx(scores.metrics["map"])


def slow_average_precision(truths, found, label, threshold):
    """Average precision at one IoU, written from COCO's description: 101 recalls, no crowds."""
    rows, total = [], 0
    for number, (truth, one) in enumerate(zip(truths, found, strict=True)):
        total += int((truth.labels == label).sum())
        rows += [(s, number, b) for b, s, k in zip(*one, strict=True) if k == label]
    if not total:
        return None
    rows.sort(key=lambda row: -row[0])
    taken, hits = set(), []
    for _, number, box in rows:
        mine = [at for at in range(len(truths[number].labels)) if truths[number].labels[at] == label]
        shared = [(overlaps([box], [truths[number].boxes[at]])[0, 0], at) for at in mine]
        open_ = [pair for pair in shared if (number, pair[1]) not in taken and pair[0] >= threshold]
        if open_:
            taken.add((number, max(open_)[1]))
        hits.append(bool(open_))
    hits = np.array(hits, float)
    right, wrong = np.cumsum(hits), np.cumsum(1 - hits)
    precision, recall = right / np.maximum(right + wrong, 1e-12), right / total
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return np.mean([precision[i] if i < len(precision) else 0.0 for i in at])


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_equals_the_description(seed):
    rng = np.random.default_rng(seed)
    truths, found = zip(*(scene(rng, crowds=False) for _ in range(8)), strict=True)
    scores = coco_scores(truths, found, ["a", "b", "c"])
    for name, threshold in (("map50", 0.5), ("map75", 0.75)):
        each = [slow_average_precision(truths, found, label, threshold) for label in range(3)]
        known = [value for value in each if value is not None]
        assert scores.metrics[name] == pytest.approx(np.mean(known) if known else 0.0, abs=1e-9)


def test_nothing_found_and_nothing_there():
    empty = Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0))
    none = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    one = Truth(np.array([[0, 0, 50, 50.0]]), np.array([0]), np.array([False]), np.array([2500.0]))
    scores = coco_scores([one, empty], [none, none], ["a", "b"])
    assert scores.metrics == {"map": 0, "map50": 0, "map75": 0, "recall": 0, "map_medium": 0}
    assert set(scores.classes) == {"a"}
    assert coco_scores([empty], [none], ["a"]).metrics["map"] == 0
    right = Found(one.boxes, np.array([0.9]), np.array([0]))
    perfect = coco_scores([one, empty], [right, none], ["a", "b"])
    assert perfect.metrics["map"] == pytest.approx(1)
    assert perfect.precisions["a"].tolist() == pytest.approx([1] * 101)


def test_confusion_by_hand():
    truth = Truth(
        np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60], [70, 70, 90, 90]], float),
        np.array([0, 1, 1, 0]),
        np.array([False, False, False, True]),
        np.full(4, 100.0),
    )
    found = Found(
        np.array(
            [
                [0, 0, 10, 10],
                [20, 20, 30, 30],
                [0, 0, 10, 11],
                [80, 0, 90, 10],
                [70, 70, 90, 90],
                [0, 0, 1, 1],
            ],
            float,
        ),
        np.array([0.9, 0.8, 0.7, 0.6, 0.9, 0.1]),
        np.array([0, 0, 0, 1, 1, 1]),
    )
    table = confusion([truth], [found], 2, threshold=0.5, overlap=0.5)
    # a found as a; b found as a; b missed; a second box on a, and one on nothing; on an ignored one: nothing
    assert table.tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
