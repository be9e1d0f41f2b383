"""Masks as rules: against loops, dense and in chunks."""

import itertools

import pytest
import torch

from attncli.attention import Causal, Dense, Documents, Padding, Window
from attncli.attention.backends.base import key_slice
from attncli.attention.masks import simplify
from attncli.errors import RecipeError

B, H = 2, 3


def cases(tq, tk):
    g = torch.Generator().manual_seed(tq * 100 + tk)
    keep = torch.rand(B, tk, generator=g) > 0.3
    ids = (torch.rand(B, tk, generator=g) > 0.7).long().cumsum(1)
    q_ids = torch.randint(0, 3, (B, tq), generator=g)
    flat, full = (torch.rand(*s, tq, tk, generator=g) > 0.5 for s in ((), (B, H)))
    shift = tk - tq
    yield Causal(), lambda b, h, q, k: k <= q + shift
    yield Padding(keep), lambda b, h, q, k: bool(keep[b, k])
    yield Window(2, 1), lambda b, h, q, k: -2 <= k - q - shift <= 1
    yield Window(None, 0), lambda b, h, q, k: k - q - shift <= 0
    yield Window(3, None), lambda b, h, q, k: k - q - shift >= -3
    places = torch.randint(0, 9, (1, tq), generator=g), torch.randint(0, 9, (B, tk), generator=g)
    yield Window(2, 1, places), lambda b, h, q, k: -2 <= places[1][b, k] - places[0][0, q] <= 1
    yield Documents(ids, q_ids), lambda b, h, q, k: bool(q_ids[b, q] == ids[b, k])
    if tq <= tk:
        yield Documents(ids), lambda b, h, q, k: bool(ids[b, q + shift] == ids[b, k])
    yield Dense(flat), lambda b, h, q, k: bool(flat[q, k])
    yield Dense(full), lambda b, h, q, k: bool(full[b, h, q, k])
    yield Dense(full[:, 0]), lambda b, h, q, k: bool(full[b, 0, q, k])
    both = Causal() & Padding(keep) & Window(4, 4)
    yield both, lambda b, h, q, k: k <= q + shift and bool(keep[b, k]) and abs(k - q - shift) <= 4


@pytest.mark.parametrize(("tq", "tk"), [(6, 6), (1, 5), (4, 7), (7, 4)])
def test_rules_agree_with_loops(tq, tk):
    for mask, rule in cases(tq, tk):
        mask.check(B, H, tq, tk)
        want = torch.zeros(B, H, tq, tk, dtype=torch.bool)
        for b, h, q, k in itertools.product(range(B), range(H), range(tq), range(tk)):
            want[b, h, q, k] = rule(b, h, q, k)
        dense = mask.dense(B, H, tq, tk, torch.device("cpu"))
        assert torch.equal(dense.expand(B, H, tq, tk), want), mask.kind
        assert dense.numel() == mask.dense_size(B, H, tq, tk, torch.device("cpu"))
        # a chunk is the same rule, and no key outside its bounds is allowed
        rows, heads, batch = slice(1 % tq, tq), slice(1, H), slice(1, B)
        cols = key_slice(mask, rows.start, rows.stop, tk - tq, tk)
        part = mask.evaluate(batch, heads, rows, cols, tk - tq, torch.device("cpu"))
        size = B - 1, H - 1, rows.stop - rows.start, cols.stop - cols.start
        assert torch.equal(part.expand(size), want[batch, heads, rows, cols])
        outside = want[:, :, rows].clone()
        outside[..., cols] = False
        assert not outside.any()
        # and pointwise, as flex attention asks
        mod = mask.mask_mod(tk - tq)
        at = torch.tensor(1), torch.tensor(2), torch.tensor(tq - 1), torch.tensor(tk - 1)
        assert bool(mod(*at)) == bool(want[1, 2, tq - 1, tk - 1])


def test_dense_form_is_built_once_and_shared():
    mask = Causal() & Padding(torch.ones(B, 5, dtype=torch.bool))
    sizes = B, H, 5, 5, torch.device("cpu")
    assert mask.dense(*sizes) is mask.dense(*sizes)
    assert mask.additive(*sizes, torch.float32)[0] is mask.additive(*sizes, torch.float32)[0]
    window = Window(1, 1)
    assert mask & window is mask & window  # each layer composes; all share one object


def test_dense_form_made_in_inference_mode_serves_training():
    mask = Window(1, 1)
    with torch.inference_mode():
        mask.additive(1, 1, 4, 4, torch.device("cpu"), torch.float32)
    term, _ = mask.additive(1, 1, 4, 4, torch.device("cpu"), torch.float32)
    assert not term.is_inference()


def test_additive_form_keeps_empty_rows_finite():
    mask = Dense(torch.tensor([[True, False], [False, False]]))
    term, empty = mask.additive(1, 1, 2, 2, torch.device("cpu"), torch.float32)
    assert term.tolist() == [[[[0.0, -torch.inf], [0.0, 0.0]]]]
    assert empty.flatten().tolist() == [False, True]
    term, empty = Causal().additive(1, 1, 2, 2, torch.device("cpu"), torch.float32)
    assert empty is None


def test_simplify_drops_rules_that_allow_everything():
    padding = Padding(torch.ones(1, 9, dtype=torch.bool))
    assert simplify(Causal(), 1, 9) is None
    assert simplify(Causal() & padding, 1, 9) is padding
    assert simplify(Window(8, 8), 9, 9) is None
    assert isinstance(simplify(Causal(), 9, 9), Causal)
    assert simplify(Window(7, 8), 9, 9) == Window(7, 8)
    assert isinstance(Causal() & Causal(), Causal) or len((Causal() & Causal()).rules) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Padding(torch.ones(2, 3)), "bool"),
        (lambda: Dense(torch.ones(3, dtype=torch.bool)), "bool"),
        (lambda: Window(-1, 0), "negative"),
        (lambda: Padding(torch.ones(2, 3, dtype=torch.bool)).check(2, 1, 4, 4), r"\[2, 3\].*\[2, 4\]"),
        (lambda: Documents(torch.zeros(2, 3)).check(2, 1, 4, 3), "query_ids"),
        (lambda: Dense(torch.ones(2, 3, dtype=torch.bool)).check(1, 1, 3, 3), "dense mask"),
    ],
)
def test_masks_that_do_not_fit_say_so(make, said):
    with pytest.raises(RecipeError, match=said):
        make()
