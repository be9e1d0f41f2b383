"""Overlap and borders of masks against definitions written out pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from attncli.metrics.segmentation import (
    IGNORED,
    BoundaryScore,
    boundary_f1,
    confusion,
    mean,
    overlap,
    tolerance_of,
)


def brute_overlap(pairs, classes):
    """IoU, Dice, accuracy by class and pixel accuracy over all pairs of masks, by sets of pixels."""
    true = {c: set() for c in range(classes)}
    found = {c: set() for c in range(classes)}
    pixels = right = 0
    for number, (truth, given_) in enumerate(pairs):
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if truth[y, x] == IGNORED:
                    continue
                pixels += 1
                right += int(truth[y, x] == given_[y, x])
                true[int(truth[y, x])].add((number, y, x))
                found[int(given_[y, x])].add((number, y, x))
    ious, dices, accuracies = [], [], []
    for c in range(classes):
        both, either = true[c] & found[c], true[c] | found[c]
        ious.append(len(both) / len(either) if either else math.nan)
        total = len(true[c]) + len(found[c])
        dices.append(2 * len(both) / total if total else math.nan)
        accuracies.append(len(both) / len(true[c]) if true[c] else math.nan)
    return ious, dices, accuracies, right / pixels if pixels else math.nan


def brute_boundary(truth, found, classes, tolerance):
    """F1 of each class's border by distances between all pairs of border pixels; None where there is none."""
    height, width = truth.shape

    def border(labels, c):
        cells = []
        for y in range(height):
            for x in range(width):
                if truth[y, x] == IGNORED or labels[y, x] != c:
                    continue
                for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    v, u = y + dy, x + dx
                    if 0 <= v < height and 0 <= u < width and truth[v, u] != IGNORED and labels[v, u] != c:
                        cells.append((y, x))
                        break
        return cells

    def share(ones, others):
        if not ones:
            return 0.0
        near = sum(any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in others) for y, x in ones)
        return near / len(ones)

    scores = []
    for c in range(classes):
        true, given_ = border(truth, c), border(found, c)
        if not true and not given_:
            scores.append(None)
            continue
        precision, recall = share(given_, true), share(true, given_)
        both = precision + recall
        scores.append(2 * precision * recall / both if both else 0.0)
    return scores


def masks(classes, ignored=True):
    labels = [*range(classes), *([IGNORED] if ignored else [])]
    return nps.arrays(np.uint8, (6, 7), elements=st.sampled_from(labels))


def plain_mean(values):
    real = [v for v in values if v is not None and not math.isnan(v)]
    return sum(real) / len(real) if real else math.nan


def same(one, other):
    assert (math.isnan(one) and math.isnan(other)) or abs(one - other) < 1e-9


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_overlap_over_a_whole_set_is_that_of_its_pixels(data):
    classes = data.draw(st.integers(2, 4))
    pairs = data.draw(
        st.lists(st.tuples(masks(classes), masks(classes, ignored=False)), min_size=1, max_size=3)
    )
    matrix = sum(confusion(t, f, classes) for t, f in pairs)
    measured = overlap(matrix)
    ious, dices, accuracies, pixel = brute_overlap(pairs, classes)
    for mine, other in ((measured.iou, ious), (measured.dice, dices), (measured.accuracy, accuracies)):
        for one, two in zip(mine.tolist(), other, strict=True):
            same(one, two)
    same(measured.pixel_accuracy, pixel)
    same(measured.mean_iou, plain_mean(ious))
    same(measured.mean_dice, plain_mean(dices))
    same(measured.mean_accuracy, plain_mean(accuracies))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boundary_f1_is_that_of_all_pairs_of_border_pixels(data):
    classes = data.draw(st.integers(2, 4))
    tolerance = data.draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 2.9, 9.0]))
    pairs = data.draw(
        st.lists(st.tuples(masks(classes), masks(classes, ignored=False)), min_size=1, max_size=2)
    )
    total = BoundaryScore(np.zeros(classes), np.zeros(classes))
    each = []
    for truth, found in pairs:
        total += boundary_f1(truth, found, classes, tolerance)
        each.append(brute_boundary(truth, found, classes, tolerance))
    by_class = [plain_mean(column) for column in zip(*each, strict=True)]
    for one, two in zip(total.by_class.tolist(), by_class, strict=True):
        same(one, two)
    same(total.mean, plain_mean(by_class))


def test_a_perfect_mask_is_perfect_and_an_ignored_one_has_no_value():
    truth = np.array([[0, 0, 1], [0, 1, 1], [IGNORED, 1, 1]], np.uint8)
    found = np.where(truth == IGNORED, 0, truth)
    measured = overlap(confusion(truth, found, 3))
    assert measured.mean_iou == measured.mean_dice == measured.mean_accuracy == measured.pixel_accuracy == 1
    assert math.isnan(measured.iou[2])
    assert boundary_f1(truth, found, 3, 1).mean == 1
    nothing = np.full((3, 3), IGNORED, np.uint8)
    measured = overlap(confusion(nothing, found, 3))
    assert math.isnan(measured.mean_iou)
    assert math.isnan(measured.pixel_accuracy)
    assert math.isnan(boundary_f1(nothing, found, 3, 1).mean)


def test_a_class_found_where_there_is_none_counts_as_zero():
    truth, found = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    found[0, 0] = 1
    measured = overlap(confusion(truth, found, 3))
    assert measured.iou.tolist()[:2] == [15 / 16, 0]
    assert measured.mean_iou == pytest.approx(15 / 32)
    assert measured.mean_accuracy == 15 / 16  # of the classes that are true
    one_class = boundary_f1(truth, found, 3, 1)
    assert one_class.images.tolist() == [1, 1, 0]
    assert one_class.mean == 0  # borders where there should be none


def test_a_set_is_not_the_mean_of_its_parts():
    small = np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8)
    large = np.zeros((9, 11), np.uint8), np.zeros((9, 11), np.uint8)
    both = confusion(*small, 2) + confusion(*large, 2)
    assert overlap(both).iou[0] == pytest.approx(99 / 100)


def test_one_pixel_off_is_within_a_tolerance_of_one():
    truth = np.zeros((8, 8), np.uint8)
    truth[:, 4:] = 1
    found = np.roll(truth, 1, 1)
    found[:, 0] = 0
    assert boundary_f1(truth, found, 2, 0.5).mean < 0.6
    assert boundary_f1(truth, found, 2, 1.0).mean == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="labels"):
        confusion(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8), 2)
    with pytest.raises(ValueError, match="shape"):
        boundary_f1(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 2, 1)


def test_the_usual_tolerance_and_means():
    assert tolerance_of((360, 480)) == pytest.approx(4.5)
    assert tolerance_of((8, 8)) == 1
    assert mean(np.array([np.nan, 0.5, 1.0])) == 0.75
    assert math.isnan(mean(np.array([np.nan])))
