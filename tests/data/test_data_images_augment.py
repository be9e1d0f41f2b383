"""Variations: what they do to pixels, that masks move along, and that a seed decides all of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_support import noise

from attncli.data.images.augment import (
    IGNORED,
    Augmentation,
    erase,
    flip,
    jitter,
    mix,
    rand_augment,
    resized_crop,
    scaled_crop,
    shift,
    vary,
    vary_batch,
)
from attncli.data.images.mixing import cut_mixed, mixed_up
from attncli.data.images.rand_augment import COLOURS, MOVES, OPERATIONS, apply
from attncli.recipe.vision import AugmentSection

ALL = Augmentation(flip=0.5, shift=3, scale=0.2, operations=2, erase=0.5, brightness=0.3, hue=0.1)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_settings_are_those_of_the_recipe():
    how = Augmentation.of(AugmentSection(flip=0.5, operations=2, cutmix=1.0))
    assert (how.flip, how.operations, how.cutmix, how.hue) == (0.5, 2, 1.0, 0.0)
    assert how.mixes
    assert not Augmentation().mixes


def test_flip_and_shift_move_picture_and_mask_together():
    image = np.maximum(noise(9, 7, 1), 1)
    mask = image[..., 0]
    for seed in range(20):
        moved, moved_mask = flip(image, rng(seed), 0.5, mask)
        assert (moved[..., 0] == moved_mask).all()
        moved, moved_mask = shift(image, rng(seed), 3, mask, ignored=0)
        assert (moved[..., 0] == moved_mask).all()
        assert (moved == 0).sum() <= 9 * 7 - 6 * 4
    far, _ = shift(image, rng(), 10_000)
    assert not far.any()
    assert (flip(image, rng(), 1.0)[0] == image[:, ::-1]).all()
    assert flip(image, rng(), 0.0)[1] is None


def test_a_shift_is_a_crop_of_the_padded_picture():
    image = noise(6, 5)
    wide = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = [wide[y : y + 6, x : x + 5] for y in range(5) for x in range(5)]
    found = {
        next(at for at, w in enumerate(windows) if (w == shift(image, rng(seed), 2)[0]).all())
        for seed in range(400)
    }
    assert len(found) == 25


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 1), (1, 1, 3), (200, 2, 3), (2, 200, 1)])
def test_cut_outs_have_the_size_that_is_asked(shape):
    image = noise(*shape)
    mask = rng().integers(0, 3, shape[:2]).astype(np.uint8)
    for seed in range(30):
        cut, cut_mask = resized_crop(image, rng(seed), (8, 9), 0.1, mask=mask)
        assert cut.shape == (8, 9, shape[2])
        assert cut_mask.shape == (8, 9)
        assert set(np.unique(cut_mask)) <= {0, 1, 2}
        cut, cut_mask = scaled_crop(image, rng(seed), (16, 24), 0.5, 2.0, mask=mask)
        assert cut.shape == (16, 24, shape[2])
        assert ((cut_mask == IGNORED) | (cut_mask < 3)).all()


def test_scale_jitter_keeps_picture_and_mask_aligned():
    image = np.zeros((40, 60, 1), np.uint8)
    image[10:30, 20:40] = 200
    mask = (image[..., 0] > 0).astype(np.uint8)
    for seed in range(40):
        cut, cut_mask = scaled_crop(image, rng(seed), (40, 60), 0.5, 2.0, mask=mask)
        inside = cut_mask != IGNORED
        assert (cut[~inside] == 0).all()
        agree = (cut[..., 0] > 100) == (cut_mask == 1)
        assert agree[inside].mean() > 0.97


def test_cut_outs_cover_what_their_scale_says():
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], 64, 1)
    spans = [
        np.ptp(resized_crop(ramp, rng(seed), (32, 32), 0.25, (1, 1))[0].astype(int)) for seed in range(200)
    ]
    assert 110 < min(spans) < 140
    assert max(spans) > 240


# RandAugment


def test_there_are_the_fourteen_operations():
    assert len(OPERATIONS) == 14
    assert set(OPERATIONS) == {"identity", *COLOURS, *MOVES}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_the_shape_and_is_nothing_at_level_0(name, channels):
    image = noise(12, 17, channels)
    mask = rng().integers(0, 4, (12, 17)).astype(np.uint8)
    for sign in (1, -1):
        changed, moved = apply(image, [(name, sign)], 0.9, mask)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert ((moved < 4) | (moved == IGNORED)).all()
        assert (moved is mask or (moved == mask).all()) == (name not in MOVES)
        if name not in ("identity", "auto_contrast", "equalize") and not (name == "color" and channels == 1):
            assert (changed != image).any()
        if name not in ("auto_contrast", "equalize"):
            assert (apply(image, [(name, sign)], 0.0, mask)[0] == image).all()
            assert (apply(image, [(name, sign)], 0.0, mask)[1] == mask).all()


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_moves_take_the_mask_along(name, kind):
    mask = np.zeros((40, 60), kind)
    mask[10:30, 20:40] = 7
    image = np.where(mask[..., None] == 7, 230, 20).astype(np.uint8)
    changed, moved = apply(image, [(name, 1)], 0.7, mask)
    assert moved.dtype == kind
    inside = moved != IGNORED
    assert 0.3 < inside.mean() < 1
    assert ((changed[..., 0] > 125) == (moved == 7))[inside].mean() > 0.97


def test_strengths_at_the_ends_of_their_ranges():
    grey = np.full((20, 20, 1), 100, np.uint8)
    assert (apply(grey, [("brightness", 1)], 1.0)[0] == 190).all()
    assert (apply(grey, [("brightness", -1)], 1.0)[0] == 10).all()
    assert (apply(grey, [("posterize", 1)], 1.0)[0] == 96).all()
    assert (apply(grey, [("solarize", 1)], 1.0)[0] == 155).all()
    assert (apply(grey, [("solarize", 1)], 0.5)[0] == 100).all()
    image = noise(20, 20)
    moved = apply(image, [("translate_x", 1)], 1.0)[0]
    assert np.abs(moved[:, :11].astype(int) - image[:, 9:]).max() <= 1
    assert (moved[:, 11:] == 128).all()


def test_every_operation_is_drawn():
    image = noise(8, 8)
    assert len({rand_augment(image, rng(seed), 1, 9)[0].tobytes() for seed in range(300)}) >= 20
    assert (rand_augment(image, rng(), 0, 9)[0] == image).all()


# Erasing and colours


def test_erasing_fills_a_rectangle_with_noise():
    image = np.full((40, 40, 3), 7, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    shares = []
    for seed in range(100):
        changed, moved = erase(image, rng(seed), 1.0, mask)
        rows, columns = np.flatnonzero((moved == IGNORED).any(1)), np.flatnonzero((moved == IGNORED).any(0))
        box = np.zeros_like(mask, bool)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert (box == (moved == IGNORED)).all()
        assert (changed[~box] == 7).all()
        shares.append(box.mean())
    assert 0.01 < min(shares) < 0.06
    assert 0.25 < max(shares) < 0.36
    assert (image == 7).all()
    assert (erase(image, rng(), 0.0)[0] == 7).all()


def test_colour_jitter_changes_what_it_is_told_to():
    image = noise(16, 16)
    assert (jitter(image, rng()) == image).all()
    brighter = jitter(np.full((4, 4, 3), 100, np.uint8), rng(3), brightness=0.5)
    assert 50 <= brighter[0, 0, 0] <= 150
    turned = jitter(image, rng(1), hue=0.5)
    assert np.abs(turned.max(2).astype(int) - image.max(2)).max() <= 3
    assert (turned != image).any()
    grey = noise(16, 16, 1)
    assert (jitter(grey, rng(), saturation=0.9, hue=0.5) == grey).all()
    assert jitter(grey, rng(), brightness=0.9).shape == grey.shape


# All together


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_picture_can_be_varied_and_a_seed_decides(height, width, channels, seed):
    image = noise(height, width, channels, seed)
    mask = rng(seed).integers(0, 9, (height, width)).astype(np.uint8)
    before = image.copy(), mask.copy()
    first = vary(image, rng(seed), ALL, (11, 13), mask)
    second = vary(image, rng(seed), ALL, (11, 13), mask)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert first[0].shape == (11, 13, channels)
    assert ((first[1] < 9) | (first[1] == IGNORED)).all()
    assert (image == before[0]).all()
    assert (mask == before[1]).all()


def test_a_batch_is_varied_like_its_pictures():
    images = np.stack([noise(10, 10, 3, seed) for seed in range(32)])
    before = images.copy()
    nothing = vary_batch(images, rng(), Augmentation())
    assert (nothing == images).all()
    assert nothing is not images
    flipped = vary_batch(images, rng(), Augmentation(flip=0.5))
    turned = [(one == old[:, ::-1]).all() for one, old in zip(flipped, images, strict=True)]
    assert 6 < sum(turned) < 26
    assert all(t or (one == old).all() for t, one, old in zip(turned, flipped, images, strict=True))
    moved = vary_batch(images, rng(), Augmentation(shift=2))
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for one, old in zip(moved, wide, strict=True):
        assert any((one == old[y : y + 10, x : x + 10]).all() for y in range(5) for x in range(5))
    how = Augmentation(flip=0.5, shift=2, operations=2, erase=0.5, saturation=0.4)
    assert (vary_batch(images, rng(4), how) == vary_batch(images, rng(4), how)).all()
    assert (vary_batch(images, rng(4), how) != vary_batch(images, rng(5), how)).any()
    assert (images == before).all()


# Mixing


def test_mixup_is_the_weighted_sum():
    images = np.stack([noise(6, 6, 3, seed) for seed in range(64)])
    mixed, share = mixed_up(images, images[::-1], rng(), 0.8)
    exact = images * share[:, None, None, None].astype(float) + images[::-1] * (
        1 - share[:, None, None, None]
    )
    assert np.abs(mixed - exact).max() <= 0.51
    assert share.dtype == np.float32
    assert share.min() < 0.1
    assert share.max() > 0.9


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.1, 5), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_cutmix_shares_are_those_of_the_pixels(height, width, a, seed):
    images = np.zeros((8, height, width, 1), np.uint8)
    mixed, share = cut_mixed(images, images + 1, rng(seed), a)
    assert mixed.reshape(8, -1).mean(1) == pytest.approx(1 - share, abs=1e-6)
    assert not images.any()


def test_a_mixed_batch_says_what_was_mixed_in():
    images = np.stack([np.full((8, 8, 1), n, np.uint8) for n in range(40)])
    labels = np.arange(40)
    kinds = set()
    for seed in range(12):
        made = mix(images, labels, rng(seed), 0.8, 1.0)
        assert (made["labels"] == labels).all()
        assert sorted(made["other"]) == list(range(40))
        mean = made["images"].reshape(40, -1).mean(1)
        expected = labels * made["share"] + made["other"] * (1 - made["share"])
        kinds.add(bool((np.abs(mean - expected) < 1e-3).all()))  # mixup rounds
        assert np.abs(mean - expected).max() <= 0.51
    assert kinds == {True, False}
    alone = mix(images, labels, rng(), 0, 0)
    assert (alone["share"] == 1).all()
    assert (alone["images"] == images).all()
    several = np.eye(40, dtype=np.float32)
    assert mix(images, several, rng(), 0.8, 0)["other"].shape == (40, 40)
