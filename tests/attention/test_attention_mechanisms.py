"""Every mechanism under every backend, against formulas written apart in float64."""

import copy

import pytest
import torch
from attention_formula import attention_of, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.attention import (
    MECHANISMS,
    Causal,
    Dense,
    Documents,
    Padding,
    Window,
    attend,
    build_mechanism,
    record,
)
from attncli.attention.backends import BACKENDS, blocks, chunked, gates, linear, plan
from attncli.attention.backends.choice import choose
from attncli.attention.functional import prepare
from attncli.attention.patterns import Sparse
from attncli.errors import RecipeError

OPTIONS = {
    "topk": {"topk": 5},
    "window": {"window": 6},
    "dilated": {"window": 3, "dilation": 3},
    "longformer": {"window": 5, "global_tokens": 2},
    "bigbird": {"block": 4, "random_blocks": 2},
    "adaptive_span": {"span": 16, "ramp": 4},
    "lsh": {"buckets": 4, "rounds": 2},
    "performer": {"features": 12},
    "cosformer": {"length": 64},
    "linformer": {"rank": 5, "length": 64},
    "nystrom": {"landmarks": 6},
    "global_local": {"window": 3},
    "convolution": {"kernel": 5},
}
B, H, D = 2, 4, 8
EXACT = [(name, be) for name, kind in MECHANISMS.items() for be in kind.support.backends if be != "flex"]
EVERY = EXACT + [(name, "auto") for name, kind in MECHANISMS.items() if not kind.support.backends]
WITH_WEIGHTS = [name for name, kind in MECHANISMS.items() if kind.support.weights]
IN_PLACE = [name for name, kind in MECHANISMS.items() if not kind.support.cross]
"""Queries and keys are places of one sequence: the last query stands at the last key."""


DIVIDING = ("cosformer", "retention", "gla", "differential")
"""They divide by sums that may come near zero: values and gradients are large, their errors in proportion."""


def refused(module, backend, q, k, mask, **more):
    """Whether ``backend`` says that it cannot compute this, which is tested elsewhere."""
    if backend == "auto":
        return False
    return BACKENDS[backend].refuses(prepare(module, q, k, k, mask, None, 0.0)) is not None


def make(name, heads=H, kv_heads=H, width=D):
    module = build_mechanism(name, heads=heads, kv_heads=kv_heads, head_dim=width, **OPTIONS.get(name, {}))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def masks(tq, tk):
    keep = torch.rand(B, tk) > 0.4
    keep[1] = False  # a batch entry with nothing to attend to
    yield "none", None, torch.ones(B, H, tq, tk, dtype=torch.bool)
    pattern = torch.rand(B, H, tq, tk) > 0.7
    pattern[:, :, tq // 2] = False  # an empty row
    i, j = torch.arange(tq)[:, None] + tk - tq, torch.arange(tk)[None]
    ids = torch.arange(tk).div(9, rounding_mode="floor").repeat(B, 1)
    same = (ids[0][i.clamp(0, tk - 1)] == ids[0][None]).expand(B, H, tq, tk)
    yield "causal", Causal(), (j <= i).expand(B, H, tq, tk)
    yield "padding", Padding(keep), keep[:, None, None].expand(B, H, tq, tk)
    yield "dense", Dense(pattern), pattern
    yield "causal&padding", Causal() & Padding(keep), ((j <= i) & keep[:, None, None]).expand(B, H, tq, tk)
    yield "band", Window(3, 2), ((j - i >= -3) & (j - i <= 2)).expand(B, H, tq, tk)
    if tq <= tk:
        yield "documents", Documents(ids) & Causal(), same & (j <= i)


def check(name, backend, tq, tk, kv_heads, device="cpu"):
    exact_module = make(name, kv_heads=kv_heads)
    module = copy.deepcopy(exact_module).to(device)
    support = module.support
    with torch.device(device):
        cases = list(masks(tq, tk))
    for label, mask, allowed in cases:
        if not support.causal and "causal" in label:
            continue
        if not support.pairs and label in ("dense", "band", "documents"):
            continue
        exact = [torch.randn(B, h, t, D, requires_grad=True) for h, t in ((H, tq), *[(kv_heads, tk)] * 2)]
        q, k, v = (x.detach().to(device).requires_grad_() for x in exact)
        if refused(module, backend, q, k, mask):
            continue
        out = attend(q, k, v, mask, mechanism=module, backend=backend)
        flow = torch.randn_like(out)
        got = [x.cpu() for x in torch.autograd.grad(out, [q, k, v, *module.parameters()], flow)]
        out, flow, allowed = out.cpu(), flow.cpu(), allowed.cpu()
        want = attention_of(name, exact_module, *exact, allowed)
        size = want.abs().max().clamp(min=1) if name in DIVIDING else 1
        # a GPU's products are rounded otherwise: sums near zero that divide show it
        most = 1e-4 if name in DIVIDING and device != "cpu" else 1e-5
        assert (out - want).abs().max() < most * size, (label, "forward")
        grads = torch.autograd.grad(want, [*exact, *exact_module.parameters()], flow.double())
        for one, other in zip(got, grads, strict=True):
            size = other.abs().max().clamp(min=1) if name in DIVIDING else 1
            assert (one - other).abs().max() < 10 * most * size, (label, "backward")
        nothing = ~allowed.any(-1)
        assert not out[nothing].any()
        # A query that sees nothing itself may have a say in other heads' scores, or in a landmark.
        if not module.mixes and name != "nystrom":
            assert not got[0][nothing].any()


@pytest.mark.parametrize(("name", "backend"), EVERY)
@pytest.mark.parametrize(("tq", "tk", "kv_heads"), [(33, 33, 4), (5, 40, 2), (20, 9, 1)])
def test_against_the_formula(name, backend, tq, tk, kv_heads, device):
    if tq > tk and not MECHANISMS[name].support.cross:
        tq = tk
    if not MECHANISMS[name].support.cache:
        tq = tk
    check(name, backend, tq, tk, kv_heads, device)


@pytest.mark.parametrize("name", [name for name, backend in EXACT if backend == "chunked"])
def test_chunks_of_any_size_agree(name, device, monkeypatch):
    monkeypatch.setattr(plan, "CHUNK_BYTES", 512)  # a few rows of one head at a time
    monkeypatch.setattr(chunked, "KEPT_ELEMENTS", 0)  # and weights computed again in backward
    monkeypatch.setattr(plan, "DENSE_LIMIT", 0)  # and masks evaluated chunk by chunk
    check(name, "chunked", 40, 40, 2, device)
    check(name, "chunked", 13, 40, 4, device)


@pytest.mark.parametrize("backend", ["chunked", "fused"])
def test_long_causal_and_band(backend):
    """Lengths at which causality and bands are cut into blocks, with an uneven last one."""
    module = make("scaled_dot", 2, 1, 16)
    t = 530
    q = torch.randn(2, 2, t, 16, requires_grad=True)
    k, v = (torch.randn(2, 1, t, 16, requires_grad=True) for _ in range(2))
    i = torch.arange(t)
    away = i[None] - i[:, None]
    keep = torch.rand(2, t) > 0.5
    keep[:, 200:300] = False  # wider than the band: rows with nothing
    for mask, allowed in (
        (Causal(), (away <= 0).expand(2, 2, t, t)),
        (Window(20, 11) & Padding(keep), ((away >= -20) & (away <= 11)) & keep[:, None, None]),
        (Window(40, None) & Causal(), ((away >= -40) & (away <= 0)).expand(2, 2, t, t)),
    ):
        out = attend(q, k, v, mask, backend=backend)
        want = attention_of("scaled_dot", module, q, k, v, allowed.expand(2, 2, t, t))
        assert (out - want).abs().max() < 1e-5
        flow = torch.randn_like(out)
        for one, other in zip(
            torch.autograd.grad(out, (q, k, v), flow),
            torch.autograd.grad(want, (q, k, v), flow.double()),
            strict=True,
        ):
            assert (one - other).abs().max() < 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="on the CPU flex attention has no backward pass")
def test_flex_and_its_gradient():
    module = make("scaled_dot", width=16)
    with torch.device("cuda"):
        cases = list(masks(40, 40))
    for label, mask, allowed in cases:
        exact = [torch.randn(B, h, 40, 16, requires_grad=True) for h in (H, 2, 2)]
        q, k, v = (x.detach().cuda().requires_grad_() for x in exact)
        out = attend(q, k, v, mask, mechanism=module, backend="flex")
        want = attention_of("scaled_dot", module, *exact, allowed.cpu())
        assert (out.cpu() - want).abs().max() < 1e-2, label  # its products may be rounded to TF32
        flow = torch.randn_like(out)
        grads = torch.autograd.grad(want, exact, flow.cpu().double())
        for one, other in zip(torch.autograd.grad(out, (q, k, v), flow), grads, strict=True):
            assert (one.cpu() - other).abs().max() < 2e-2, label


@pytest.mark.parametrize(
    ("name", "backend"), [(n, be) for n, be in EXACT if MECHANISMS[n].support.bias and be != "blocks"]
)
def test_a_bias_and_its_gradient(name, backend):
    module = make(name, kv_heads=2)
    q = torch.randn(B, H, 12, D)
    k, v = (torch.randn(B, 2, 15, D) for _ in range(2))
    for shape in ((12, 15), (H, 12, 15), (B, H, 12, 15), (H, 1, 15)):
        bias = torch.randn(shape, requires_grad=backend != "fused")
        allowed = torch.rand(B, H, 12, 15) > 0.2
        out = attend(q, k, v, Dense(allowed), bias, mechanism=module, backend=backend)
        want = attention_of(name, module, q, k, v, allowed, bias.double())
        assert (out - want).abs().max() < 1e-5
        if bias.requires_grad:
            flow = torch.randn_like(out)
            (got,), (exact,) = (torch.autograd.grad(o, bias, flow.to(o.dtype)) for o in (out, want))
            assert (got - exact).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "backend"), EVERY)
def test_half_width_stays_near(name, backend, device):
    """bfloat16: errors of the size of one rounding of scores and weights, and no worse than PyTorch's own."""
    module = make(name, width=16)
    exact = [torch.randn(B, H, 50, 16).bfloat16() for _ in range(3)]
    want = attention_of(name, module, *exact, torch.ones(B, H, 50, 50, dtype=torch.bool))
    module, (q, k, v) = module.to(device), (x.to(device) for x in exact)
    if refused(module, backend, q, k, None):
        backend = "auto"
    out = attend(q, k, v, mechanism=module, backend=backend)
    assert out.dtype == torch.bfloat16
    error = (out.cpu() - want).abs()
    if name in ("retention", "gla", "differential"):  # which divide by the size of a difference
        assert error.mean() < 2e-2
    elif name == "topk":  # a rounded score may change which keys rank fifth
        assert error.median() < 1e-2
    else:
        assert error.max() < 5e-2
        assert error.mean() < 4e-3


@pytest.mark.parametrize("backend", ["reference", "chunked", "fused"])
def test_under_autocast(backend):
    q, k, v = (torch.randn(B, H, 40, D, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k, v, Causal(), backend=backend)
        got = torch.autograd.grad(out.float().square().sum(), (q, k, v))  # backward inside autocast too
    exact = attend(q, k, v, Causal(), backend="reference")
    want = torch.autograd.grad(exact.square().sum(), (q, k, v))
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 3e-2
    for one, other in zip(got, want, strict=True):
        assert (one - other).abs().mean() < 2e-2


@pytest.mark.parametrize("name", ["scaled_dot", "topk"])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_dropout_keeps_the_mean_and_its_own_gradient(name, backend, device, monkeypatch):
    module, kind = make(name).to(device), {"dtype": torch.float64, "device": device}
    q, k, v = (torch.randn(1, H, 24, D, requires_grad=True, **kind) for _ in range(3))
    options = {"mechanism": module, "dropout": 0.3, "backend": backend}
    exact = attend(q, k, v, mechanism=module, backend="reference")
    assert torch.equal(attend(q, k, v, **options | {"backend": "reference"}), exact)  # not in training
    many = [x.detach().expand(600, -1, -1, -1) for x in (q, k, v)]
    assert (attend(*many, training=True, **options).mean(0) - exact).abs().mean() < 0.04
    monkeypatch.setattr(plan, "CHUNK_BYTES", 4096)
    for kept in (0, 2**24):  # weights computed again with the same draws, and kept
        monkeypatch.setattr(chunked, "KEPT_ELEMENTS", kept)
        flow, step = torch.randn_like(exact), 1e-6 * torch.randn_like(q)
        torch.manual_seed(5)
        out = attend(q, k, v, training=True, **options)
        (grad,) = torch.autograd.grad(out, q, flow)
        torch.manual_seed(5)
        moved = attend(q + step, k, v, training=True, **options)
        assert ((moved - out) * flow).sum().item() == pytest.approx((grad * step).sum().item(), rel=1e-3)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_dropout_draws_anew_for_each_weight(backend, monkeypatch):
    """Even weights and one-hot values show which weights were dropped: rows, heads and calls differ."""
    monkeypatch.setattr(plan, "CHUNK_BYTES", 2048)
    q, v = torch.zeros(2, 2, 64, 64), torch.eye(64).expand(2, 2, 64, 64)
    first, second = (attend(q, q, v, dropout=0.5, training=True, backend=backend) > 0 for _ in range(2))
    assert abs(first.float().mean().item() - 0.5) < 0.02
    rows = torch.cat((first, second)).flatten(0, 2)
    assert len(torch.unique(rows, dim=0)) == len(rows)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_recorded_weights_are_the_formula(name):
    module = make(name, kv_heads=2)
    q = torch.randn(B, H, 11, D)
    k, v = (torch.randn(B, 2, 17, D) for _ in range(2))
    allowed = torch.rand(17) > 0.3
    allowed = allowed.expand(B, H, 11, 17)
    with record() as recorded:
        attend(q, k, v, Dense(allowed[0, 0].contiguous()), mechanism=module)
    ((label, weights),) = recorded.weights
    assert label == "attention.0"
    assert (weights - weights_of(name, module, q, k, allowed)).abs().max() < 1e-5


CAUSAL = [pair for pair in EXACT if MECHANISMS[pair[0]].support.causal]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(CAUSAL), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_causality_does_not_leak(tq, tk, pair, seed):
    name, backend = pair
    if tq > tk:
        tq, tk = tk, tq
    torch.manual_seed(seed)
    module = make(name).double()  # some divide by sums near zero, which would show rounding
    q = torch.randn(1, H, tq, D, dtype=torch.float64)
    k, v = (torch.randn(1, H, tk, D, dtype=torch.float64) for _ in range(2))
    if refused(module, backend, q, k, Causal()):
        backend = "auto"
    before = attend(q, k, v, Causal(), mechanism=module, backend=backend)
    row = int(torch.randint(0, tq, ()))
    k[:, :, row + tk - tq + 1 :] += 5 * torch.randn(1)
    v[:, :, row + tk - tq + 1 :] += 5
    after = attend(q, k, v, Causal(), mechanism=module, backend=backend)
    assert torch.allclose(before[:, :, : row + 1], after[:, :, : row + 1], atol=1e-9)


@given(st.integers(1, 30), st.integers(1, 20), st.sampled_from(EVERY), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_padding_changes_nothing_and_keys_commute(t, pad, pair, seed):
    name, backend = pair
    torch.manual_seed(seed)
    module = make(name).double()
    q, k, v = (torch.randn(1, H, t, D, dtype=torch.float64) for _ in range(3))
    if refused(module, backend, q, k, None):
        backend = "auto"
    plain = attend(q, k, v, mechanism=module, backend=backend)
    longer = [torch.cat((x, x.new_empty(1, H, pad, D).normal_()), 2) for x in (q, k, v)]
    keep = Padding(torch.arange(t + pad)[None] < t)
    if name in IN_PLACE:  # queries are padded too, so that places stay
        padded = attend(*longer, keep, mechanism=module, backend=backend)[:, :, :t]
        assert torch.allclose(padded, plain, atol=1e-8)
        return
    assert torch.allclose(attend(q, *longer[1:], keep, mechanism=module, backend=backend), plain, atol=1e-8)
    order = torch.randperm(t)
    turned = attend(q, k[:, :, order], v[:, :, order], mechanism=module, backend=backend)
    assert torch.allclose(turned, plain, atol=1e-5)


@pytest.mark.parametrize("length", [35, 36, 300])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_a_dilated_window_folds_to_a_plain_one(length, dilation):
    """Classes of unequal size, heads that share keys, other rules and dropout's gradient aside."""
    module = build_mechanism("dilated", heads=4, kv_heads=2, head_dim=8, window=4, dilation=dilation)
    q = torch.randn(2, 4, length, 8, requires_grad=True)
    k, v = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(2))
    ids = torch.arange(length).div(20, rounding_mode="floor").repeat(2, 1)
    keep = torch.rand(2, length) > 0.3
    pattern = torch.rand(2, 4, length, length) > 0.5
    for mask in (None, Causal(), Causal() & Padding(keep), Documents(ids) & Causal(), Dense(pattern)):
        outs = [attend(q, k, v, mask, mechanism=module, backend=be) for be in ("blocks", "reference")]
        assert (outs[0] - outs[1]).abs().max() < 1e-5
        flow = torch.randn_like(outs[0])
        grads = [torch.autograd.grad(out, (q, k, v), flow) for out in outs]
        for one, other in zip(*grads, strict=True):
            assert (one - other).abs().max() < 1e-4


@pytest.mark.parametrize("length", [63, 64, 200])
@pytest.mark.parametrize("crowded", [False, True])
def test_sorted_buckets_lose_no_pair(length, crowded):
    """Buckets of many blocks, and all tokens in one; each pair counts once, in every mask."""
    module = build_mechanism("lsh", heads=4, kv_heads=2, head_dim=8, buckets=8, rounds=3)
    q, k, v = (torch.randn(2, heads, length, 8) for heads in (4, 2, 2))
    if crowded:
        q, k = q.abs() * 0.01 + 1, k.abs() * 0.01 + 1
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    keep = torch.rand(2, length) > 0.3
    keep[1] = False
    pattern = torch.rand(2, 4, length, length) > 0.5
    pattern[:, :, 3] = False
    for mask in (None, Causal(), Causal() & Padding(keep), Dense(pattern)):
        outs = [attend(q, k, v, mask, mechanism=module, backend=be) for be in ("blocks", "reference")]
        assert (outs[0] - outs[1]).abs().max() < 1e-5
        flow = torch.randn_like(outs[0])
        grads = [torch.autograd.grad(out, (q, k, v), flow) for out in outs]
        for one, other in zip(*grads, strict=True):
            assert one.isfinite().all()
            assert (one - other).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["longformer", "bigbird"])
def test_blocks_hold_all_that_a_rule_allows(name):
    rule = make(name).rule
    assert isinstance(rule, Sparse)
    for count in (1, 2, 3, 7, 20):
        length = count * rule.block
        allowed = rule.dense(1, 1, length, length, torch.device("cpu")).expand(1, 1, length, length)[0, 0]
        blocks = rule.blocks(count)
        for row in range(rule.full_rows, length):
            mine = set(blocks[row // rule.block].tolist()) - {-1}
            assert {int(col) // rule.block for col in allowed[row].nonzero()} <= mine
        for row in blocks.tolist():
            real = [block for block in row if block >= 0]
            assert len(set(real)) == len(real)


@pytest.mark.parametrize("name", ["linear", "performer", "cosformer", "retention", "gla"])
@pytest.mark.parametrize("before", [0, 70])
def test_linear_forms_agree_over_many_chunks(name, before, monkeypatch):
    """Prefix sums and the parallel formula, with keys before the first query, padding and few key heads."""
    monkeypatch.setattr(linear, "CHUNK", 16)
    monkeypatch.setattr(gates, "CHUNK", 32)
    module = build_mechanism(
        name, heads=4, kv_heads=2, head_dim=8, **({"length": 200} if name == "cosformer" else {})
    )
    q = torch.randn(2, 4, 90, 8, requires_grad=True)
    k, v = (torch.randn(2, 2, 90 + before, 8, requires_grad=True) for _ in range(2))
    keep = torch.rand(2, 90 + before) > 0.3
    for mask in (Causal(), Causal() & Padding(keep)):
        outs = [attend(q, k, v, mask, mechanism=module, backend=be) for be in ("linear", "reference")]
        assert (outs[0] - outs[1]).abs().max() < 1e-5
        flow = torch.randn_like(outs[0])
        grads = [torch.autograd.grad(out, (q, k, v), flow) for out in outs]
        for one, other in zip(*grads, strict=True):
            assert (one - other).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["longformer", "bigbird"])
def test_places_out_of_order_are_obeyed_after_a_call_in_order(name):
    """The choice of blocks, which count places by their index, must not be kept for such a call."""
    module = build_mechanism(name, heads=1, kv_heads=1, head_dim=8)
    x = torch.randn(1, 1, 1280, 8)  # bigbird's blocks pay from 12 on, those of 64 places
    assert choose(prepare(module, x, x, x, None, None, 0.0)) == "blocks"
    places = torch.arange(1280).flip(0)[None]
    call = prepare(module, x, x, x, None, None, 0.0, (places, places))
    got = BACKENDS[choose(call)].run(call)
    assert torch.allclose(got, BACKENDS["reference"].run(call), atol=1e-5)


def test_long_sequences_take_the_linear_ways():
    x = torch.randn(1, 2, 2048, 16)
    for name, backend in (("linear", "linear"), ("longformer", "blocks"), ("bigbird", "blocks")):
        call = prepare(build_mechanism(name, heads=2, kv_heads=2, head_dim=16), x, x, x, None, None, 0.0)
        assert choose(call) == backend
    assert blocks.pays(call)


def test_flex_agrees_or_says_why_not():
    q, k, v = (torch.randn(1, 2, 128, 16) for _ in range(3))
    with pytest.raises(RecipeError, match=r"no backward.*auto, reference, fused, chunked"):
        attend(q.requires_grad_(), k, v, backend="flex")
    keep = torch.arange(128)[None] < 77
    q = q.detach()
    out = attend(q, k, v, Causal() & Padding(keep), backend="flex")
    want = attend(q, k, v, Causal() & Padding(keep), backend="reference")
    assert (out - want).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda x: attend(x, x, x, mechanism="additive"), "has parameters"),
        (lambda x: attend(x, x, x, mechanism="scaled_dt"), "did you mean scaled_dot"),
        (lambda x: attend(x, x, x, mechanism="topk", topk=0), "needs topk"),
        (lambda x: attend(x, x, x, mechanism="topk", topk=2, backend="fused"), "auto, reference, chunked"),
        (lambda x: attend(x, x, x, topk=2), "belongs to mechanism topk"),
        (lambda x: attend(x, x, x, backend="flash"), "no backend is called"),
        (lambda x: attend(x, x, x, dropout=0.1, training=True, backend="fused"), "fast path.*chunked"),
        (lambda x: attend(x, x[:, :3], x[:, :3]), "not a multiple"),
        (lambda x: attend(x, x[..., :4], x), "do not fit"),
        (lambda x: attend(x, x, x, Padding(torch.ones(1, 3, dtype=torch.bool))), "padding keep"),
    ],
)
def test_what_cannot_be_done_is_said(do, said):
    with pytest.raises(RecipeError, match=said):
        do(torch.randn(1, 4, 6, 8))


def test_a_mechanism_states_its_limits():
    """One without weights, causality or a mask is refused where they are asked for, with those that can."""
    from attncli.attention.mechanisms.base import Mechanism, Support

    class Mean(Mechanism):
        name = "mean"
        support = Support(causal=False, padding=False, weights=False, bias=False, gqa=False, backends=())

        def attend(self, q, k, v, mask, bias, dropout):
            return v.mean(2, keepdim=True).expand_as(q)

    x = torch.randn(1, 4, 6, 8)
    mean = Mean(heads=4, kv_heads=4, head_dim=8)
    assert torch.equal(attend(x, x, x, mechanism=mean)[:, :, 0], x.mean(2))
    for said, call in (
        ("causal masks.*scaled_dot", lambda: attend(x, x, x, Causal(), mechanism=mean)),
        ("padding", lambda: attend(x, x, x, Padding(torch.ones(1, 6, dtype=torch.bool)), mechanism=mean)),
        ("key/value heads", lambda: attend(x, x[:, :2], x[:, :2], mechanism=mean)),
        ("term of the scores", lambda: attend(x, x, x, bias=torch.zeros(6, 6), mechanism=mean)),
        ("computes itself", lambda: attend(x, x, x, mechanism=mean, backend="fused")),
    ):
        with pytest.raises(RecipeError, match=said):
            call()
    with record(), pytest.raises(RecipeError, match=r"weights.*scaled_dot"):
        attend(x, x, x, mechanism=mean)
