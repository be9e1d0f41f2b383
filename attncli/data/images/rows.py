"""Batches of pictures as arrays: a pure function of which ones and of a generator.

No torch here, nor anything that imports it: worker processes start with this module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.augment import Augmentation, mix, vary, vary_batch
from attncli.data.images.reading import Pixels, Unreadable
from attncli.data.images.shaping import Size
from attncli.data.images.store import ArrayPictures, FilePictures, Pictures, RaggedPictures
from attncli.errors import DataError, Problem

Arrays = dict[str, NDArray[Any]]


class ImageRows:
    """What :class:`~attncli.data.order.EpochBatches` draws from: pictures, varied, with their targets.

    A batch has ``images`` uint8 [B, C, H, W] (laid out with the channels last), ``labels`` [B] or [B, L] and
    ``index`` int64 [B]; where pictures are mixed also ``other``, the labels of what was mixed in, and
    ``share`` float32 [B], the weight of ``labels``.

    Args:
        pictures: of one size, or of any where ``how`` takes random cut-outs.
        targets: [N] or [N, L].
        batch: most examples in a batch; batches of an epoch differ by one example at most.
        size: height and width of what a batch holds.
        how: how pictures are varied; None leaves them as they are.
        shuffle: whether each epoch has an order of its own.
        skip: whether pictures that turn out to be unreadable are left out of their batch, not refused.
    """

    shelves = 1

    def __init__(
        self,
        pictures: Pictures,
        targets: NDArray[Any],
        *,
        batch: int,
        size: Size,
        how: Augmentation | None = None,
        shuffle: bool = False,
        skip: bool = False,
    ) -> None:
        self.pictures, self.targets, self.batch, self.size = pictures, targets, batch, size
        self.how, self.shuffle, self.skip = how, shuffle, skip
        self.threads = min(4, os.cpu_count() or 1)
        """Threads that decode pictures of a batch; one in a worker process."""
        self._pool: ThreadPoolExecutor | None = None

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The batches of an epoch, each as the numbers of its examples."""
        count = len(self.pictures)
        order = rng.permutation(count) if self.shuffle else np.arange(count)
        return np.array_split(order, -(-count // self.batch)) if count else []

    def make(self, item: NDArray[np.int64], rng: np.random.Generator) -> Arrays:
        """One global batch."""
        if isinstance(self.pictures, ArrayPictures) and (self.how is None or self.how.scale == 1):
            images = self.pictures.many(item)
            if self.how is not None:
                images = vary_batch(images, rng, self.how)
        else:
            item, found = self._read(item)
            if self.how is not None:
                found = [vary(image, rng, self.how, self.size)[0] for image in found]
            images = np.stack(found)
        made = {"images": images, "labels": self.targets[item]}
        if self.how is not None and self.how.mixes:
            made = mix(images, self.targets[item], rng, self.how.mixup, self.how.cutmix)
        made["images"] = made["images"].transpose(0, 3, 1, 2)  # [B, C, H, W]
        return made | {"index": np.array(item)}

    def _read(self, item: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[Pixels]]:
        """The pictures, and the numbers of those that could be read."""
        decoded = isinstance(self.pictures, ArrayPictures | RaggedPictures)
        many = map if decoded or self.threads == 1 else self._threads().map
        found = list(many(self._try, item.tolist()))
        good = np.array([not isinstance(one, Unreadable) for one in found])
        if not good.all() and (not self.skip or not good.any()):
            bad = {int(at): one for at, one in zip(item, found, strict=True) if isinstance(one, Unreadable)}
            hint = "set data.corrupt=skip to leave such pictures out" if not self.skip else None
            raise DataError(*(Problem(one.reason, self._name(at), hint) for at, one in bad.items()))
        return item[good], [one for one in found if not isinstance(one, Unreadable)]

    def _try(self, at: int) -> Pixels | Unreadable:
        try:
            return self.pictures.read(at)
        except Unreadable as error:
            return error

    def _name(self, at: int) -> str:
        pictures = self.pictures
        return pictures.paths[at] if isinstance(pictures, FilePictures) else f"picture {at + 1}"

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "attn-decode")
        return self._pool

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None, "threads": 1}
