"""Losses of masks, summed, with what they are divided by: the same however a batch is cut.

Every term is a sum over pixels, or over pairs of a picture and a class that it holds, so that sums and
counts of the parts of a batch add up to those of the whole. Dice and Lovasz are therefore of each picture
on its own: over a whole batch they would depend on which pictures are seen together.

Legend: B pictures, L classes, H and W pixels of a side; ``masks`` int [B, H, W] with 255 for ignored pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attncli.recipe.segment import LossSection

IGNORED = 255
TERMS = ("cross_entropy", "focal", "dice", "lovasz")


def chosen_terms(section: LossSection) -> list[str]:
    """The terms with a weight above 0."""
    return [name for name in TERMS if getattr(section, name) > 0]


def mask_counts(
    masks: Tensor, section: LossSection, weights: Tensor | None, classes: int
) -> dict[str, float]:
    """What each term is divided by.

    Cross-entropy and focal loss: the weights of the pixels that count. Dice and Lovasz: pairs of a picture
    and a class that at least one of its pixels has.
    """
    pixels = _histogram(masks)[:, :classes]  # [B, L]
    weighted = pixels if weights is None else pixels * weights.to(pixels.device, torch.float64)
    pairs = (pixels > 0).sum()
    return {
        name: float(weighted.sum() if name in ("cross_entropy", "focal") else pairs)
        for name in chosen_terms(section)
    }


def mask_losses(
    logits: Tensor, masks: Tensor, section: LossSection, weights: Tensor | None
) -> dict[str, Tensor]:
    """Each chosen term summed, times its weight in the recipe; ``logits`` [B, L, H, W]."""
    terms, found = chosen_terms(section), {}
    wide = torch.promote_types(logits.dtype, torch.float32)
    log_chance = F.log_softmax(logits.to(wide), 1)  # [B, L, H, W]
    labels = masks.long()
    counted = labels != IGNORED
    weights = None if weights is None else weights.to(log_chance.dtype)
    if "cross_entropy" in terms:
        loss = F.nll_loss(log_chance, labels, weights, ignore_index=IGNORED, reduction="sum")
        if section.smoothing:
            spread = log_chance if weights is None else log_chance * weights[:, None, None]
            even = -(spread.sum(1) * counted).sum() / logits.shape[1]
            loss = (1 - section.smoothing) * loss + section.smoothing * even
        found["cross_entropy"] = section.cross_entropy * loss
    if "focal" in terms:
        nll = F.nll_loss(log_chance, labels, ignore_index=IGNORED, reduction="none")  # [B, H, W]
        factor = (1 - torch.exp(-nll)).clamp(min=0).pow(section.gamma) if section.gamma else 1.0
        if weights is not None:
            factor = factor * weights[labels.clamp(max=len(weights) - 1)]
        found["focal"] = section.focal * (factor * nll * counted).sum()
    if "dice" in terms or "lovasz" in terms:
        chance = log_chance.exp()
        if "dice" in terms:
            found["dice"] = section.dice * dice_sum(chance, labels)
        if "lovasz" in terms:
            found["lovasz"] = section.lovasz * lovasz_sum(chance, labels)
    return found


def dice_sum(chance: Tensor, labels: Tensor) -> Tensor:
    """``1 - 2 sum(p t) / (sum(p) + sum(t))`` summed over the classes of each picture; p [B, L, H, W].

    Sums are over the picture's pixels that count. Milletari et al. 2016, "V-Net",
    https://arxiv.org/abs/1606.04797, without squares.
    """
    batch, classes = chance.shape[:2]
    counted = labels != IGNORED
    safe = torch.where(counted, labels, 0)
    true = _histogram(labels)[:, :classes].to(chance.dtype)  # [B, L]
    right = chance.gather(1, safe.unsqueeze(1)).squeeze(1) * counted  # [B, H, W]
    place = torch.arange(batch, device=labels.device)[:, None, None] * classes + safe
    both = chance.new_zeros(batch * classes).index_add(0, place.flatten(), right.flatten())
    given = (chance * counted.unsqueeze(1)).sum((2, 3))  # [B, L]
    share = 2 * both.view(batch, classes) / (given + true).clamp(min=1e-12)
    return ((1 - share) * (true > 0)).sum()


def lovasz_sum(chance: Tensor, labels: Tensor) -> Tensor:
    """Lovasz extension of 1 - IoU, summed over the classes of each picture.

    Berman et al. 2018, "The Lovasz-Softmax Loss", https://arxiv.org/abs/1705.08790. Sorts every class of
    every picture, which takes about as long as the model on a CPU.
    """
    total = chance.sum() * 0.0
    for image, mask in zip(chance, labels, strict=True):
        counted = mask != IGNORED
        here, true = image[:, counted], mask[counted]  # [L, N], [N]
        present = torch.unique(true)
        if not len(present):
            continue
        inside = true == present.unsqueeze(1)  # [P, N]
        error = (inside.to(here.dtype) - here[present]).abs()
        error, order = error.sort(1, descending=True)
        inside = inside.gather(1, order).to(here.dtype)
        size = inside.sum(1, keepdim=True)
        missed = size - inside.cumsum(1)
        jaccard = 1 - missed / (size + (1 - inside).cumsum(1))  # [P, N]
        step = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1)
        total = total + (error * step).sum()
    return total


def _histogram(masks: Tensor) -> Tensor:
    """Pixels of each value in each mask, int64 [B, 256]."""
    batch = masks.shape[0]
    place = torch.arange(batch, device=masks.device)[:, None, None] * 256 + masks.long()
    return torch.bincount(place.flatten(), minlength=batch * 256).view(batch, 256)


def class_weights(how: str, counts: NDArray[np.int64]) -> Tensor | None:
    """A weight for each class from the pixels of each training picture and class [N, L]; None for equal ones.

    The weights are scaled so that their mean over the training pixels is 1; a class without pixels has 1.
    ``balanced``: 1 over the share of the pixels. ``sqrt``: the root of that. ``median_frequency``: the
    median of the frequencies over the class's, where a frequency is the share of the class in the pictures
    that hold it (Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734).
    """
    if how == "none":
        return None
    totals = counts.sum(0).astype(np.float64)
    there = totals > 0
    if how == "median_frequency":
        beside = ((counts > 0) * counts.sum(1, keepdims=True)).sum(0)
    else:
        beside = np.full(len(totals), totals.sum())
    frequency = np.where(there, totals / np.maximum(beside, 1), 1.0)
    weights = 1 / frequency
    if how == "sqrt":
        weights = np.sqrt(weights)
    weights = np.where(there, weights / ((weights * totals).sum() / totals.sum()), 1.0)
    return torch.from_numpy(weights).float()
