"""Which frames make a clip: exact, uniform, complete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.data.clips.sampling import evenly, room, sample, span

sizes = {
    "length": st.integers(1, 80),
    "frames": st.integers(1, 12),
    "stride": st.integers(1, 6),
    "place": st.floats(0, 1, exclude_max=True),
}


@given(**sizes)
def test_a_clip_has_its_stride_and_stays_inside(length, frames, stride, place):
    numbers, keep = sample(length, frames, [stride], place)
    assert len(numbers) == len(keep) == frames
    assert numbers.min() >= 0
    assert numbers.max() < length
    assert (np.diff(numbers[keep]) == stride).all()
    assert keep.sum() == min(frames, -(-length // stride)) or length >= span(frames, stride)
    assert keep.all() == (length >= span(frames, stride)) or not keep.all()
    assert (numbers[~keep] == length - 1).all()


def test_every_offset_is_equally_likely():
    offsets = room(20, 4, [3])
    assert offsets == 11
    places = (np.arange(1100) + 0.5) / 1100
    starts = [int(sample(20, 4, [3], place).numbers[0]) for place in places]
    assert np.bincount(starts).tolist() == [100] * 11


@given(
    length=st.integers(1, 80), frames=st.integers(1, 12), stride=st.integers(1, 6), clips=st.integers(1, 6)
)
def test_clips_of_a_test_are_spread_evenly_and_differ(length, frames, stride, clips):
    places = evenly(length, frames, [stride], clips)
    starts = [int(sample(length, frames, [stride], place).numbers[0]) for place in places]
    assert len(set(starts)) == len(starts) == min(clips, room(length, frames, [stride]))
    if len(starts) > 1:
        assert starts[0] == 0
        assert starts[-1] == room(length, frames, [stride]) - 1
        assert np.ptp(np.diff(starts)) <= 1


def test_scales_share_their_middle():
    numbers, keep = sample(41, 5, [1, 4], 0.5)
    fast, slow = numbers[:5], numbers[5:]
    assert keep.all()
    assert fast[2] == slow[2]
    assert (np.diff(fast) == 1).all()
    assert (np.diff(slow) == 4).all()


@given(length=st.integers(1, 200), frames=st.integers(1, 16), place=st.floats(0, 1, exclude_max=True))
def test_stride_0_spreads_over_the_whole_video(length, frames, place):
    numbers, keep = sample(length, frames, [0], place)
    assert keep.all()
    assert (np.diff(numbers) >= 0).all()
    assert numbers[0] <= length / frames
    assert numbers[-1] >= length - 1 - length / frames
    assert numbers[-1] < length


def test_short_videos_are_seen_from_their_beginning():
    numbers, keep = sample(3, 4, [2], 0.9)
    assert numbers.tolist() == [0, 2, 2, 2]
    assert keep.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="without frames"):
        sample(0, 4, [1], 0.0)
