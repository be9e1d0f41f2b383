"""Segmentation: overlap of masks over a whole set, and how well their borders meet.

Definitions, with ``n[t, p]`` the pixels of true class t that were given class p, ignored ones left out, and
``true``, ``found`` its sums by row and by column:

    IoU of c   n[c, c] / (true[c] + found[c] - n[c, c])          Dice of c   2 n[c, c] / (true[c] + found[c])
    accuracy   n[c, c] / true[c]                                 pixel accuracy   trace(n) / sum(n)

``n`` is added up over **all** images before anything is divided, as PASCAL VOC does (Everingham et al. 2015,
https://doi.org/10.1007/s11263-014-0733-5): means over batches or images would depend on how the set is cut.

Degenerate cases: a class that is neither true nor found anywhere has no IoU and no Dice, one that is nowhere
true has no accuracy; they are NaN and left out of the means. A class that is found though it is nowhere true
has IoU and Dice 0 and counts. Where no class is left, as when every pixel is ignored, the mean is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""Label of the pixels that do not count."""


def confusion(truth: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Pixels by true and found class, int64 [K, K], of label arrays of one shape; ignored ones left out.

    Raises ValueError for shapes that differ and for labels that are no class.
    """
    if truth.shape != found.shape:
        raise ValueError(f"masks of shape {truth.shape} and {found.shape} cannot be compared")
    counted = truth != IGNORED
    true, given = truth[counted].astype(np.int64), found[counted].astype(np.int64)
    if true.size and (min(true.min(), given.min()) < 0 or max(true.max(), given.max()) >= classes):
        raise ValueError(f"labels must be from 0 to {classes - 1}, or {IGNORED} in the truth")
    return np.bincount(true * classes + given, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Overlap:
    """What follows from a confusion matrix. Arrays are float64 [K], NaN where a class has no value."""

    iou: NDArray[np.float64]
    dice: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    """Share of a class's pixels that were found: its recall."""
    pixel_accuracy: float

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that have an IoU."""
        return mean(self.iou)

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that have a Dice coefficient."""
        return mean(self.dice)

    @property
    def mean_accuracy(self) -> float:
        """Mean over the classes that are somewhere true."""
        return mean(self.accuracy)


def overlap(matrix: NDArray[np.integer]) -> Overlap:
    """IoU, Dice and accuracy of a confusion matrix [K, K] of the whole set."""
    matrix = matrix.astype(np.float64)
    hit, true, found = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    total = matrix.sum()
    return Overlap(
        iou=_divide(hit, true + found - hit),
        dice=_divide(2 * hit, true + found),
        accuracy=_divide(hit, true),
        pixel_accuracy=float(hit.sum() / total) if total else float("nan"),
    )


def mean(values: NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    real = values[~np.isnan(values)]
    return float(real.mean()) if real.size else float("nan")


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


# Borders


@dataclass(frozen=True)
class BoundaryScore:
    """Boundary F1 of some images: sums over them, which add up."""

    total: NDArray[np.float64]
    """Sum of the F1 of each class over the images that have one, [K]."""
    images: NDArray[np.float64]
    """Images in which a class has an F1, [K]."""

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        return BoundaryScore(self.total + other.total, self.images + other.images)

    @property
    def by_class(self) -> NDArray[np.float64]:
        """Mean F1 of each class over its images, NaN where there is none."""
        return _divide(self.total, self.images)

    @property
    def mean(self) -> float:
        """Mean over the classes that have a value."""
        return mean(self.by_class)


def boundary_f1(
    truth: NDArray[np.integer], found: NDArray[np.integer], classes: int, tolerance: float
) -> BoundaryScore:
    """How well the borders of each class meet in one image; label arrays [H, W].

    A pixel is on the border of its class when it counts (its truth is not ignored) and one of its four
    neighbours counts and has another class; the image's rim is no border. Precision of a class is the share
    of the border pixels that were found which lie at most ``tolerance`` pixels (Euclidean distance of
    centres) from a true border pixel of that class, recall the share of the true ones that lie so near one
    that was found; F1 is their harmonic mean, 0 where both are 0 or only one of the two borders exists. A
    class without either border has no F1 in this image.

    After Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?",
    http://www.bmva.org/bmvc/2013/Papers/paper0032/paper0032.pdf, who take 0.75 % of the image's diagonal as
    tolerance.
    """
    if truth.shape != found.shape or truth.ndim != 2:
        raise ValueError(f"masks of shape {truth.shape} and {found.shape} cannot be compared")
    counted = truth != IGNORED
    true, given = (_border(labels, counted, classes) for labels in (truth, found))  # bool [K, H, W]
    near_true, near_given = (_dilated(border, tolerance) for border in (true, given))
    trues, givens = true.sum((1, 2)), given.sum((1, 2))
    precision = (given & near_true).sum((1, 2)) / np.maximum(givens, 1)
    recall = (true & near_given).sum((1, 2)) / np.maximum(trues, 1)
    both = precision + recall
    f1 = np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0.0)
    has = (trues + givens) > 0
    return BoundaryScore(np.where(has, f1, 0.0), has.astype(np.float64))


def tolerance_of(shape: tuple[int, int]) -> float:
    """0.75 % of the diagonal of an image of height and width ``shape``, in pixels, and at least 1."""
    return max(1.0, 0.0075 * float(np.hypot(*shape)))


def _border(labels: NDArray[np.integer], counted: NDArray[np.bool_], classes: int) -> NDArray[np.bool_]:
    """Border pixels of each class, bool [K, H, W]."""
    edge = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (labels[one] != labels[other]) & counted[one] & counted[other]
        edge[one] |= differ
        edge[other] |= differ
    return edge & (labels == np.arange(classes)[:, None, None])


def _dilated(border: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Pixels within ``radius`` of a border pixel of the same class, [K, H, W]."""
    _, height, width = border.shape
    near = np.zeros_like(border)
    present = np.flatnonzero(border.any((1, 2)))
    source, target = border[present], np.zeros((len(present), height, width), bool)
    for down, right in _disk(radius):
        if abs(down) >= height or abs(right) >= width:
            continue
        target[:, _to(down), _to(right)] |= source[:, _to(-down), _to(-right)]
    near[present] = target
    return near


def _to(shift: int) -> slice:
    """Where things are after a shift along an axis."""
    return slice(shift, None) if shift >= 0 else slice(None, shift)


@cache
def _disk(radius: float) -> list[tuple[int, int]]:
    """Offsets of the pixels within ``radius``."""
    whole = int(radius)
    steps = range(-whole, whole + 1)
    return [(y, x) for y in steps for x in steps if y * y + x * x <= radius * radius]
