"""How training clips are varied: as pictures are, and all frames of a clip alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.augment import Augmentation, vary
from attncli.data.images.mixing import mix
from attncli.data.images.shaping import Size


def vary_clip(
    frames: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation, size: Size
) -> NDArray[np.uint8]:
    """A clip [T, H, W, C] varied in every way but mixing.

    What is drawn is drawn once: each frame is varied with a generator that begins anew from one seed, so that
    a mirrored clip is mirrored throughout and a cut-out stays where it is.
    """
    seed = int(rng.integers(2**63))
    return np.stack(
        [vary(frame, np.random.Generator(np.random.PCG64(seed)), how, size)[0] for frame in frames]
    )


def mix_clips(
    clips: NDArray[np.uint8], targets: NDArray, rng: np.random.Generator, how: Augmentation
) -> dict[str, NDArray]:
    """Clips [B, T, H, W, C] mixed with each other, all frames of two clips alike; ``images`` as ``clips``."""
    batch, time, height, width, channels = clips.shape
    deep = clips.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, time * channels)
    made = mix(deep, targets, rng, how.mixup, how.cutmix)
    mixed = made.pop("images").reshape(batch, height, width, time, channels)
    return {"clips": mixed.transpose(0, 3, 1, 2, 4), **made}


def changes(how: Augmentation) -> bool:
    """Whether anything is done to single clips."""
    return replace(how, mixup=0.0, cutmix=0.0, magnitude=9) != Augmentation()
