"""What a detector gives, and objects as it learns them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

NOTHING, IGNORED = -1, -2
"""Labels of padding, and of boxes that do not count: those of ``attncli.data.boxes.batches``."""


class Objects(NamedTuple):
    """Objects of a batch, padded."""

    boxes: Tensor
    """float32 [B, M, 4], pixels of the frame."""
    labels: Tensor
    """int64 [B, M]: class, NOTHING or IGNORED."""

    @property
    def there(self) -> Tensor:
        """Which are objects: bool [B, M]."""
        return self.labels >= 0

    @property
    def ignored(self) -> Tensor:
        """Which do not count: bool [B, M]."""
        return self.labels == IGNORED


def some(objects: Objects) -> Objects:
    """With room for one object at least, so that there is something to take the best of."""
    if objects.labels.shape[1]:
        return objects
    boxes = objects.boxes.new_zeros(len(objects.boxes), 1, 4)
    return Objects(boxes, objects.labels.new_full((len(boxes), 1), NOTHING))


class Detections(NamedTuple):
    """Boxes found in one picture, the surest first."""

    boxes: Tensor
    """float32 [K, 4], pixels of the frame."""
    scores: Tensor
    """float32 [K]."""
    labels: Tensor
    """int64 [K]."""
    source: Tensor
    """int64 [K]: the proposal or query that it comes from."""


def object_counts(labels: Tensor) -> float:
    """What losses of objects are divided by: objects and pictures, so that an empty picture counts too."""
    return float((labels >= 0).sum()) + len(labels)
