"""How training pictures are varied: which changes, one picture at a time or a batch of one size at once.

Everything is drawn from the generator that is given, so that a batch is the same whichever process makes it.
Moves serve masks too (:mod:`~attncli.data.images.geometry`, :func:`vary`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from attncli.data.images.geometry import IGNORED, Mask, Moved, flip, resized_crop, scaled_crop, shift
from attncli.data.images.mixing import mix
from attncli.data.images.rand_augment import rand_augment
from attncli.data.images.reading import Pixels, picture, pixels
from attncli.data.images.shaping import Size

__all__ = [
    "IGNORED",
    "Augmentation",
    "erase",
    "flip",
    "jitter",
    "mix",
    "rand_augment",
    "resized_crop",
    "scaled_crop",
    "shift",
    "vary",
    "vary_batch",
]


@dataclass(frozen=True)
class Augmentation:
    """What is done; the settings of ``train.augment``, and colour jitter besides."""

    flip: float = 0.0
    shift: int = 0
    scale: float = 1.0
    operations: int = 0
    magnitude: int = 9
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    @classmethod
    def of(cls, section: Any) -> Augmentation:
        """What a recipe section says, as far as it says it."""
        return cls(**{f.name: getattr(section, f.name) for f in fields(cls) if hasattr(section, f.name)})

    @property
    def mixes(self) -> bool:
        """Whether pictures of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def colours(self) -> bool:
        """Whether colours are jittered."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))


def vary(
    image: Pixels,
    rng: np.random.Generator,
    how: Augmentation,
    size: Size | None = None,
    mask: Mask | None = None,
    ignored: int = IGNORED,
) -> Moved:
    """One picture [H, W, C], and its mask [H, W] where there is one, varied in every way but mixing.

    ``size``: what a random cut-out is resized to; needed where ``how.scale`` is below 1.
    """
    if how.scale < 1:
        assert size is not None
        image, mask = resized_crop(image, rng, size, how.scale, mask=mask)
    if how.flip:
        image, mask = flip(image, rng, how.flip, mask)
    if how.shift:
        image, mask = shift(image, rng, how.shift, mask, ignored)
    if how.operations:
        image, mask = rand_augment(image, rng, how.operations, how.magnitude, mask, ignored)
    if how.colours:
        image = jitter(image, rng, how.brightness, how.contrast, how.saturation, how.hue)
    if how.erase:
        image, mask = erase(image, rng, how.erase, mask, ignored)
    return image, mask


def vary_batch(images: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation) -> NDArray[np.uint8]:
    """Pictures of one size [B, H, W, C] varied in every way but cut-outs and mixing, a copy."""
    count, height, width, _ = images.shape
    flipped = rng.random(count) < how.flip
    out = images.copy()
    out[flipped] = images[flipped, :, ::-1]
    if how.shift:
        most = how.shift
        wide = np.pad(out, ((0, 0), (most, most), (most, most), (0, 0)))
        for at, (down, right) in enumerate(rng.integers(0, 2 * most + 1, (count, 2)).tolist()):
            out[at] = wide[at, down : down + height, right : right + width]
    if how.operations or how.colours:
        for at in range(count):
            image: Pixels = out[at]
            if how.operations:
                image, _ = rand_augment(image, rng, how.operations, how.magnitude)
            if how.colours:
                image = jitter(image, rng, how.brightness, how.contrast, how.saturation, how.hue)
            out[at] = image
    if how.erase:
        _erase(out, None, rng, how.erase, IGNORED)
    return out


def erase(
    image: Pixels,
    rng: np.random.Generator,
    share: float = 0.25,
    mask: Mask | None = None,
    ignored: int = IGNORED,
) -> Moved:
    """A rectangle of noise in ``share`` of the pictures; in a mask it is ``ignored``.

    2 to 33 hundredths of the area, sides of 0.3 to 3.3 to each other. Zhong et al. 2020,
    https://arxiv.org/abs/1708.04896.
    """
    out = image[None].copy()
    masks = None if mask is None else mask[None].copy()
    _erase(out, masks, rng, share, ignored)
    return out[0], None if masks is None else masks[0]


def _erase(
    images: NDArray[np.uint8], masks: Mask | None, rng: np.random.Generator, share: float, ignored: int
) -> None:
    """In place, [B, H, W, C] and [B, H, W]."""
    count, height, width, channels = images.shape
    chosen = np.flatnonzero(rng.random(count) < share)
    area = height * width * rng.uniform(0.02, 1 / 3, len(chosen))
    ratio = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3), len(chosen)))
    heights = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
    widths = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
    tops = (rng.random(len(chosen)) * (height - heights + 1)).astype(np.int64)
    lefts = (rng.random(len(chosen)) * (width - widths + 1)).astype(np.int64)
    for at, top, left, tall, wide in zip(
        *(a.tolist() for a in (chosen, tops, lefts, heights, widths)), strict=True
    ):
        noise = np.frombuffer(rng.bytes(tall * wide * channels), np.uint8)
        images[at, top : top + tall, left : left + wide] = noise.reshape(tall, wide, channels)
        if masks is not None:
            masks[at, top : top + tall, left : left + wide] = ignored


def jitter(
    image: Pixels,
    rng: np.random.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Pixels:
    """Each property by a factor of 1 - x to 1 + x, the hue by up to ``hue`` (0-0.5) of its circle.

    The order is drawn too.
    """
    order, draws = rng.permutation(4), rng.uniform(-1, 1, 4)
    shown = picture(image)
    ranges = (brightness, contrast, saturation, hue)
    for at in order:
        if not ranges[at] or (shown.mode == "L" and at > 1):
            continue
        change = float(draws[at]) * ranges[at]
        if at == 3:
            shown = _hue(shown, change)
        else:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[at]
            shown = enhancer(shown).enhance(max(0.0, 1 + change))
    return pixels(shown)


def _hue(image: Image.Image, change: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int16) + round(change * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")
