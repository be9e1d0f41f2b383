"""Moving digits: the motion is the label, and no single frame knows it."""

import itertools

import numpy as np
import pytest

from attncli.data.clips.builtin import COUNTS, FRAMES, MOTIONS, SIDE, draw, moving_digits, path_of


@pytest.fixture
def digit():
    return np.random.default_rng(3).integers(1, 256, (16, 16), np.uint8)


def frames_from_everywhere(digit, motion, speed, phase, at, side=20):
    """The frame number ``at`` of a motion from each start, as a sorted list of bytes."""
    path = path_of(motion, speed, phase)[at : at + 1]
    return sorted(
        draw(digit, start, path, side)[0].tobytes() for start in itertools.product(range(side), repeat=2)
    )


@pytest.mark.parametrize("at", [0, 1, 7, FRAMES - 1])
def test_a_single_frame_is_distributed_alike_in_all_motions(digit, at):
    """Starts are uniform, so frames are equally likely where each start gives one of the same set."""
    small = digit[:5, :5]
    still = frames_from_everywhere(small, "up", 0.0, 0.0, 0)
    assert len(set(still)) == 400
    for motion in MOTIONS:
        for speed, phase in ((1.0, 0.0), (1.7, 2.1)):
            assert frames_from_everywhere(small, motion, speed, phase, at) == still


@pytest.mark.parametrize("speed", [1.0, 1.37, 2.21])
@pytest.mark.parametrize(("one", "other"), [("up", "down"), ("right", "left")])
def test_lines_backwards_are_the_opposite_lines(one, other, speed):
    for within in (0.1137, 0.5071, 0.9313):
        path = path_of(one, speed, 0.0, (within, within))
        step = {"up": (-1, 0), "right": (0, 1)}[one]
        end = within + (FRAMES - 1) * speed * np.array(step)
        back = path_of(other, speed, 0.0, end - np.floor(end))
        assert (path[::-1] - path[-1] == back).all()


def test_circles_backwards_are_the_opposite_circles():
    last = 2 * np.pi * (FRAMES - 1) / FRAMES
    for phase, within in ((0.4, (0.3, 0.8)), (2.9, (0.05, 0.5))):
        path = path_of("clockwise", 1.3, phase, within)
        assert (path[::-1] == path_of("counterclockwise", 1.3, phase + last, within)).all()


def test_clips_follow_from_the_seed_and_are_balanced():
    found = moving_digits("validation")
    count = COUNTS["validation"]
    assert found.frames.shape == (count, FRAMES, SIDE, SIDE, 1)
    assert (np.bincount(found.labels) == count // len(MOTIONS)).all()
    assert found.digits.shape == (count, 2)
    again = moving_digits.__wrapped__("validation")
    assert (found.frames == again.frames).all()
    assert (found.labels == again.labels).all()


def test_the_mean_of_the_frames_of_each_motion_is_the_same_within_chance():
    found = moving_digits("validation")
    means = np.array(
        [found.frames[found.labels == label, 5].mean((1, 2, 3)) for label in range(len(MOTIONS))]
    )
    spread = means.std() / np.sqrt(means.shape[1])
    assert np.abs(means.mean(1) - means.mean()).max() < 4 * spread
