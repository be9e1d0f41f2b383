"""The built-in pictures: the handwritten digits that come with scikit-learn."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PARTS = {"train": 1197, "validation": 300, "test": 300}
"""Digits of each part; which are which is drawn once and for all."""


@lru_cache(maxsize=1)
def digits() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]]:
    """Pictures uint8 [N, 8, 8, 1], what they show (0-9) [N], and their numbers in the original, by part.

    The 1,797 of the UCI test set (Alpaydin and Kaynak 1998, CC BY 4.0): 1,197 for training, 300 for
    validation and 300 for the test, by a permutation with a fixed seed. Their 17 shades are spread over
    0-255.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    order = np.random.Generator(np.random.PCG64(1797)).permutation(len(pictures))
    parts, first = {}, 0
    for name, count in PARTS.items():
        chosen = np.sort(order[first : first + count])
        parts[name] = pictures[chosen], found.target[chosen].astype(np.int64), chosen
        first += count
    return parts
