"""Mixup and CutMix: each picture of a batch with another of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def mix(
    images: NDArray[np.uint8], labels: NDArray[Any], rng: np.random.Generator, mixup: float, cutmix: float
) -> Arrays:
    """A batch mixed by mixup or by CutMix; by one of the two at even chances where both are above 0.

    Args:
        images: uint8 [B, H, W, C].
        labels: [B] or [B, L].
        rng: what is drawn comes from.
        mixup: a of Beta(a, a); 0 is off.
        cutmix: likewise.

    Returns:
        ``images`` uint8 [B, H, W, C]; ``labels`` as given; ``other``, the labels of what was mixed in;
        ``share`` float32 [B], the weight of ``labels``, where ``other`` weighs 1 - share.
    """
    if not mixup and not cutmix:
        other, share = np.arange(len(images)), np.ones(len(images), np.float32)
    else:
        other = rng.permutation(len(images))
        chooses = rng.random()
        if mixup and (not cutmix or chooses < 0.5):
            images, share = mixed_up(images, images[other], rng, mixup)
        else:
            images, share = cut_mixed(images, images[other], rng, cutmix)
    return {"images": images, "labels": labels, "other": labels[other], "share": share}


def mixed_up(
    images: NDArray[np.uint8], others: NDArray[np.uint8], rng: np.random.Generator, a: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weighted sums of two [B, H, W, C] with weights of Beta(a, a), and the weights [B] of the first.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
    """
    share = rng.beta(a, a, len(images)).astype(np.float32)
    weight = share[:, None, None, None]
    first = images.astype(np.float32)
    mixed = others.astype(np.float32)
    first -= mixed
    first *= weight
    mixed += first
    mixed += 0.5  # rounds
    return mixed.astype(np.uint8), share


def cut_mixed(
    images: NDArray[np.uint8], others: NDArray[np.uint8], rng: np.random.Generator, a: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A rectangle of each [B, H, W, C] from another picture, and the shares [B] of the area that stayed.

    The rectangle's area is 1 - Beta(a, a) where it does not reach over the rim. Yun et al. 2019,
    https://arxiv.org/abs/1905.04899.
    """
    count, height, width = images.shape[:3]
    side = np.sqrt(1 - rng.beta(a, a, count))
    middle = rng.random((2, count))
    tops, bottoms = _edges(side, middle[0], height)
    lefts, rights = _edges(side, middle[1], width)
    out = images.copy()
    for at, (top, bottom, left, right) in enumerate(
        zip(tops.tolist(), bottoms.tolist(), lefts.tolist(), rights.tolist(), strict=True)
    ):
        out[at, top:bottom, left:right] = others[at, top:bottom, left:right]
    share = 1 - (bottoms - tops) * (rights - lefts) / (height * width)
    return out, share.astype(np.float32)


def _edges(
    side: NDArray[np.float64], middle: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    cut = np.rint(side * length).astype(np.int64)
    first = (middle * length).astype(np.int64) - cut // 2
    return np.clip(first, 0, length), np.clip(first + cut, 0, length)
