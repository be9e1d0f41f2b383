"""Losses of masks: against formulas, and the same however a batch is cut."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attncli.recipe.segment import LossSection
from attncli.tasks.segment_losses import (
    class_weights,
    dice_sum,
    lovasz_sum,
    mask_counts,
    mask_losses,
)

ALL = LossSection(cross_entropy=1.0, dice=0.7, focal=0.5, lovasz=0.3)


def example(batch=4, classes=3, size=9, seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(batch, classes, size, size, dtype=torch.float64, requires_grad=True)
    masks = torch.randint(0, classes, (batch, size, size)).to(torch.uint8)
    masks[:, :2] = 255
    masks[1] = 255  # nothing counts
    masks[2][masks[2] == 1] = 0  # a class is absent
    return logits, masks


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_pytorchs(weighted, smoothing):
    logits, masks = example()
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64) if weighted else None
    section = LossSection(smoothing=smoothing)
    loss = mask_losses(logits, masks, section, weights)["cross_entropy"]
    count = mask_counts(masks, section, weights, 3)["cross_entropy"]
    expected = F.cross_entropy(logits, masks.long(), weights, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(loss / count, expected)


def test_focal_with_gamma_zero_is_cross_entropy_and_above_it_passes_over_the_easy():
    logits, masks = example()
    plain = mask_losses(logits, masks, LossSection(cross_entropy=1, focal=1, gamma=0), None)
    torch.testing.assert_close(plain["focal"], plain["cross_entropy"])
    chance = logits.softmax(1).gather(1, masks.long().clamp(max=2).unsqueeze(1)).squeeze(1)
    counted = masks != 255
    expected = (-((1 - chance) ** 2) * chance.log())[counted].sum()
    torch.testing.assert_close(mask_losses(logits, masks, LossSection(focal=1), None)["focal"], expected)


def brute_dice(chance, masks):
    total, pairs = 0.0, 0
    for image, mask in zip(chance, masks, strict=True):
        counted = mask != 255
        for c in range(image.shape[0]):
            true = (mask == c) & counted
            if true.any():
                pairs += 1
                total += 1 - 2 * image[c][true].sum() / (image[c][counted].sum() + true.sum())
    return total, pairs


def brute_lovasz(chance, masks):
    """The extension by its definition: errors in falling order times the growth of 1 - IoU."""
    total = 0.0
    for image, mask in zip(chance.detach().numpy(), masks.numpy(), strict=True):
        counted = mask != 255
        for c in range(image.shape[0]):
            true = (mask == c)[counted]
            if not true.any():
                continue
            error = np.abs(true - image[c][counted])
            order = np.argsort(-error, kind="stable")
            before, wrong = 0.0, np.zeros(len(true), bool)
            for at in order:
                wrong[at] = True
                missed, extra = (wrong & true).sum(), (wrong & ~true).sum()
                value = 1 - (true.sum() - missed) / (true.sum() + extra)
                total += error[at] * (value - before)
                before = value
    return total


def test_dice_and_lovasz_by_their_definitions():
    logits, masks = example()
    chance = logits.softmax(1)
    total, pairs = brute_dice(chance, masks)
    torch.testing.assert_close(dice_sum(chance, masks.long()), total)
    assert mask_counts(masks, ALL, None, 3)["dice"] == pairs == 8
    assert float(lovasz_sum(chance, masks.long()).detach()) == pytest.approx(brute_lovasz(chance, masks))


def test_sums_and_counts_of_parts_add_up():
    logits, masks = example(batch=6)
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    whole, counts = mask_losses(logits, masks, ALL, weights), mask_counts(masks, ALL, weights, 3)
    for cut in ((1, 5), (2, 2, 2), (3, 3)):
        parts = [
            mask_losses(lo, ma, ALL, weights)
            for lo, ma in zip(logits.split(cut), masks.split(cut), strict=True)
        ]
        parted = [mask_counts(ma, ALL, weights, 3) for ma in masks.split(cut)]
        for name in whole:
            torch.testing.assert_close(sum(part[name] for part in parts), whole[name])
            assert sum(part[name] for part in parted) == pytest.approx(counts[name])


def test_a_batch_without_a_pixel_that_counts_is_zero_with_a_graph():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    masks = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    losses = mask_losses(logits, masks, ALL, None)
    assert set(mask_counts(masks, ALL, None, 3).values()) == {0.0}
    sum(losses.values()).backward()
    assert all(float(loss) == 0 for loss in losses.values())
    assert torch.count_nonzero(logits.grad) == 0


def test_every_loss_falls_to_zero_on_a_sure_and_right_answer():
    _, masks = example()
    sure = 40 * F.one_hot(masks.long().clamp(max=2), 3).permute(0, 3, 1, 2).double()
    for loss in mask_losses(sure, masks, ALL, None).values():
        assert float(loss) == pytest.approx(0, abs=1e-6)


def test_class_weights():
    counts = np.array([[90, 10, 0, 0], [50, 0, 50, 0]])
    assert class_weights("none", counts) is None
    balanced = class_weights("balanced", counts).double().numpy()
    totals = counts.sum(0)
    assert (balanced * totals).sum() == pytest.approx(totals.sum())
    assert balanced[1] / balanced[0] == pytest.approx(14, rel=1e-5)
    assert balanced[3] == 1  # a class without pixels
    root = class_weights("sqrt", counts).double().numpy()
    assert root[1] / root[0] == pytest.approx(14**0.5, rel=1e-5)
    median = class_weights("median_frequency", counts).double().numpy()
    assert median[1] / median[2] == pytest.approx(0.5 / 0.1, rel=1e-5)
