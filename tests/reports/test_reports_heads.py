"""Figures of heads against sums written out."""

import math

import numpy as np
import pytest

from attncli.reports.heads import Layer, apart, entropy, head_figures, likest, rollout

TOKENS = ["a", "b", "c"]
EYE, EVEN = np.eye(3), np.full((3, 3), 1 / 3)
NEXT = np.roll(EYE, 1, 1)  # a looks at b, b at c, c at a


def test_entropy_span_and_strongest_link():
    weights = np.stack([EYE, EVEN, 0.75 * NEXT + 0.25 * EYE])
    same, even, near = head_figures([Layer("1", weights, TOKENS, TOKENS)])
    assert (same.entropy, same.span) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (even.entropy, even.span) == pytest.approx((math.log(3), 8 / 9))
    assert near.span == pytest.approx(0.75 * (1 + 1 + 2) / 3)
    assert near.strongest == (0, 1)  # off the diagonal
    assert near.change is None
    assert entropy(np.zeros((2, 3))) == 0


def test_between_two_texts_there_is_no_distance():
    (head,) = head_figures(
        [Layer("cross", np.array([[[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]]]), "ab", "xyz", own=False)]
    )
    assert head.span is None
    assert head.strongest == (0, 0)


def test_rollout_multiplies_layers_with_half_the_stream():
    first, second = NEXT[None], EVEN[None]
    want = (0.5 * EVEN + 0.5 * EYE) @ (0.5 * NEXT + 0.5 * EYE)
    assert np.allclose(rollout([first, second]), want)
    assert np.allclose(rollout([first, second]).sum(-1), 1)


def test_how_far_apart_maps_are():
    assert apart(EYE, EYE) == 0
    assert apart(EYE, NEXT) == pytest.approx(math.log(2))
    assert apart(EYE, 7 * EYE) == 0  # rows are made to sum to 1
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.25, 0.25, 0.5]])
    m = (p + q) / 2
    want = (sum(x * math.log(x / y) for x, y in zip(p[0], m[0], strict=True) if x)
            + sum(x * math.log(x / y) for x, y in zip(q[0], m[0], strict=True) if x)) / 2  # fmt: skip
    assert apart(p, q) == pytest.approx(want) == apart(q, p)


def test_the_likest_head_is_found_among_maps_of_the_same_tokens():
    first = [Layer("1", np.stack([EYE, NEXT]), TOKENS, TOKENS)]
    second = [
        Layer("1", np.stack([EVEN, NEXT]), TOKENS, TOKENS),
        Layer("2", np.stack([0.9 * EYE + 0.1 * EVEN]), TOKENS, TOKENS),
    ]
    one, other = likest(first, second)
    assert (one.first, one.second) == ((0, 0), (1, 0))
    assert (other.first, other.second, other.apart) == ((0, 1), (0, 1), 0)
    assert likest(first, [Layer("1", EYE[None], "xyz", "xyz")]) == []
