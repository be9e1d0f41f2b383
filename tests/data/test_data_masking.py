import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.data.masking import choose_tokens, choose_words, corrupt


@given(st.integers(0, 99), st.floats(0.01, 0.9), st.booleans())
def test_share_of_each_row(seed, share, words):
    rng = np.random.default_rng(seed)
    candidates = rng.random((8, 50)) < rng.random((8, 1))
    starts = rng.random((8, 50)) < 0.6
    chosen = choose_words(candidates, starts, share, rng) if words else choose_tokens(candidates, share, rng)
    assert not (chosen & ~candidates).any()
    assert (chosen.any(1) == candidates.any(1)).all()  # at least one
    if not words:
        wanted = np.maximum(share * candidates.sum(1), candidates.any(1))
        assert (np.abs(chosen.sum(1) - wanted) < 1).all()


@pytest.mark.parametrize("words", [False, True])
def test_share_is_met_on_average_and_positions_are_uniform(words):
    rng = np.random.default_rng(0)
    candidates = np.ones((4000, 125), bool)
    starts = np.tile(np.arange(125) % 3 != 1, (4000, 1))
    chosen = choose_words(candidates, starts, 0.15, rng) if words else choose_tokens(candidates, 0.15, rng)
    assert chosen.mean() == pytest.approx(0.15, abs=0.0005)
    assert np.abs(chosen.mean(0) - 0.15).max() < 0.025
    if not words:
        assert set(chosen.sum(1).tolist()) == {18, 19}


@given(st.integers(0, 199))
def test_words_are_whole(seed):
    rng = np.random.default_rng(seed)
    candidates = rng.random((6, 40)) < 0.9
    starts = rng.random((6, 40)) < 0.5
    chosen = choose_words(candidates, starts, 0.3, rng)
    for row in range(6):
        for at in range(1, 40):
            if candidates[row, at] and candidates[row, at - 1] and not starts[row, at]:
                assert chosen[row, at] == chosen[row, at - 1]


def test_no_candidates():
    none = np.zeros((3, 5), bool)
    rng = np.random.default_rng(0)
    assert not choose_tokens(none, 0.15, rng).any()
    assert not choose_words(none, none, 0.15, rng).any()


def test_eighty_ten_ten():
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 60, size=(1000, 500))
    before = tokens.copy()
    chosen = choose_tokens(np.ones(tokens.shape, bool), 0.15, rng)
    ordinary = np.arange(7, 60)
    at, labels = corrupt(tokens, chosen, 4, ordinary, rng)
    flat = tokens.reshape(-1)
    assert (np.diff(at) > 0).all()
    assert np.array_equal(labels, before.reshape(-1)[at])
    assert np.array_equal(tokens[~chosen], before[~chosen])
    masked, kept = (flat[at] == 4).mean(), (flat[at] == labels).mean()
    assert masked == pytest.approx(0.8, abs=0.006)
    assert kept == pytest.approx(0.1 + 0.1 / len(ordinary), abs=0.006)
    random = flat[at][(flat[at] != 4) & (flat[at] != labels)]
    assert random.min() >= 7
    assert np.bincount(random, minlength=60)[7:].min() > 50
