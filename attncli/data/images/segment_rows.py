"""Batches of pictures with masks as arrays: a pure function of which ones and of a generator.

No torch here, nor anything that imports it: worker processes start with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.masks import Mask
from attncli.data.images.paired import Paired
from attncli.data.images.piece import cut_piece
from attncli.data.images.reading import Pixels
from attncli.data.images.shaping import Size
from attncli.recipe.segment import SegmentAugment

Arrays = dict[str, NDArray[Any]]


class Pieces:
    """Training pieces; an epoch has one of each picture (the loader's ``Examples``).

    A batch has ``images`` uint8 [B, C, H, W] (laid out with the channels last), ``masks`` uint8 [B, H, W]
    with 255 for ignored pixels, and ``index`` int64 [B].

    Args:
        pairs: pictures with masks.
        how: how they are varied.
        piece: height and width of a piece.
        mean: of the pixels, from 0 to 1: fills what lies outside.
        meant: the size that pictures stand for, where they are held larger; None is their own.
        batch: most pieces in a batch; batches of an epoch differ by one at most.
    """

    shelves = 1

    def __init__(
        self,
        pairs: Paired,
        how: SegmentAugment,
        piece: Size,
        mean: Sequence[float],
        meant: Size | None,
        batch: int,
    ) -> None:
        self.pairs, self.how, self.piece, self.meant, self.batch = pairs, how, piece, meant, batch
        self.fill = round(255 * sum(mean) / len(mean))

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Numbers of the pictures of each batch."""
        count = len(self.pairs)
        return np.array_split(rng.permutation(count), -(-count // self.batch))

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Arrays:
        """One global batch."""
        images, masks = [], []
        for at, one in zip(item.tolist(), rng.spawn(len(item)), strict=True):
            image, mask = self.pairs.read(at)
            room = (1.0, 1.0)
            if self.meant is not None:
                room = (image.shape[0] / self.meant[0], image.shape[1] / self.meant[1])
            image, mask = cut_piece(image, mask, one, self.how, self.piece, room, self.fill)
            images.append(image)
            masks.append(mask)
        return _batch(images, masks, item)


class Whole:
    """Whole pictures with their masks, those of one size together (the loader's ``Examples``).

    ``sizes`` [N, 2] are their heights and widths; batches are as those of :class:`Pieces`.
    """

    shelves = 1

    def __init__(self, pairs: Paired, sizes: NDArray[np.int64], batch: int) -> None:
        self.pairs, self.sizes, self.batch = pairs, sizes, batch

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Numbers of the pictures of each batch."""
        _, kind = np.unique(self.sizes, axis=0, return_inverse=True)
        found: list[NDArray[np.int64]] = []
        for number in range(int(kind.max()) + 1 if len(kind) else 0):
            same = np.flatnonzero(kind.ravel() == number)
            found += [same[at : at + self.batch] for at in range(0, len(same), self.batch)]
        return found

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Arrays:
        """One batch."""
        read = [self.pairs.read(at) for at in item.tolist()]
        return _batch([image for image, _ in read], [mask for _, mask in read], item)


def _batch(images: list[Pixels], masks: list[Mask], item: NDArray[np.int64]) -> Arrays:
    return {
        "images": np.stack(images).transpose(0, 3, 1, 2),
        "masks": np.stack(masks),
        "index": np.asarray(item, np.int64),
    }
