"""A trained segmenter applied to pictures of any size and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.attention import record
from attncli.data.images.reading import Pixels
from attncli.data.images.shaping import resize
from attncli.tasks.segment import SegmentTask
from attncli.tasks.segmenting import LARGE, enlarge, fill


def working_size(task: SegmentTask, height: int, width: int) -> tuple[int, int]:
    """Height and width at which a picture is read: near those of training, in its own shape unless
    stretched."""
    sides, how = task.recipe.image.size, task.recipe.image.fit
    if not sides:
        return height, width
    wanted = sides[0], sides[-1]
    if how == "stretch":
        return wanted
    scales = wanted[0] / height, wanted[1] / width
    scale = max(scales) if how == "crop" else min(scales)
    return max(1, round(height * scale)), max(1, round(width * scale))


def segment(task: SegmentTask, image: Pixels) -> tuple[NDArray[np.uint8], list[tuple[int, float]]]:
    """The class of each pixel of ``image`` [H, W, C], uint8 [H, W], and the share of each class, largest
    first.

    Called in eval mode, under no_grad and autocast.
    """
    height, width = image.shape[:2]
    logits = picture_logits(task, image)
    if logits.shape[2] * logits.shape[3] < height * width:
        logits = logits.softmax(1)  # so that what is blended between pixels are probabilities
    mask = enlarge(logits, (height, width)).argmax(1)[0].to(torch.uint8).cpu().numpy()
    shares = np.bincount(mask.ravel(), minlength=len(task.names)) / mask.size
    order = np.argsort(-shares, kind="stable")
    return mask, [(int(at), float(shares[at])) for at in order if shares[at] > 0]


def picture_logits(task: SegmentTask, image: Pixels) -> Any:
    """Logits [1, L, h, w] at the working size."""
    device = next(task.model.parameters()).device
    size = working_size(task, *image.shape[:2])
    small = np.array(resize(image, size))
    given = torch.from_numpy(small).permute(2, 0, 1).unsqueeze(0).to(device)
    least = 2 ** (getattr(task.model.config, "step", 1).bit_length() - 1)
    if min(size) < least:  # a picture smaller than one place of the lowest level
        given = fill(given, (max(least, size[0]), max(least, size[1])))
    return task.logits(given)[:, :, : size[0], : size[1]]


@dataclass
class Looked:
    """What a segmenter attended to in a picture."""

    mask: NDArray[np.uint8]
    """Classes [h, w] at the working size."""
    image: Pixels
    """The picture [h, w, C] at that size."""
    maps: list[tuple[str, NDArray[np.float32]]]
    """Factors of gates by place [h', w'], of feature attention by channel [C] or place, and how much each
    place of the lowest level is attended to [h', w'] (mean over heads and places)."""


def look(task: SegmentTask, image: Pixels) -> Looked:
    """Segment a picture and keep what the attention let pass; called as :func:`segment` is.

    A picture that would be read in windows is brought to the training size instead.
    """
    model, device = task.model, next(task.model.parameters()).device
    size = working_size(task, *image.shape[:2])
    if model.config.fixed or size[0] * size[1] > LARGE:
        size = task.pixels.size
    small = np.array(resize(image, size))
    given = torch.from_numpy(small).permute(2, 0, 1).unsqueeze(0).to(device)
    with record(model) as recorded:
        logits = model(given)[0]
    step = getattr(model.config, "step", 1)
    padded = tuple(-(-side // step) * step for side in size)
    maps = []
    for name, factor in recorded.maps:
        values = factor[0].float().cpu().numpy()  # [C|1, h, w]
        if values.shape[0] == 1 and values.shape[1:] != (1, 1):
            rows, columns = (
                -(-side * have // whole)
                for side, have, whole in zip(size, values.shape[1:], padded, strict=True)
            )
            maps.append((name, values[0, :rows, :columns]))
        else:
            maps.append((name, values[:, 0, 0]))
    for name, weights in recorded.weights:
        seen = weights[0].float().mean((0, 1)).cpu().numpy()  # [N]
        grid = model.config.grid
        maps.append((name, seen[-grid[0] * grid[1] :].reshape(grid) * len(seen)))
    return Looked(logits.argmax(1)[0].to(torch.uint8).cpu().numpy(), small, maps)
