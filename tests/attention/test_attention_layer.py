"""The Attention layer: projections, heads, cache, recording, errors."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attncli.attention import (
    MECHANISMS,
    Attention,
    Causal,
    KeyValueCache,
    Padding,
    Window,
    build_position,
    new_caches,
    record,
)
from attncli.errors import DataError, RecipeError

C, H = 32, 4
OPTIONS = {
    "topk": {"topk": 4},
    "window": {"window": 3},
    "dilated": {"window": 2, "dilation": 2},
    "longformer": {"window": 2, "global_tokens": 1},
    "bigbird": {"block": 2, "random_blocks": 1},
    "convolution": {"kernel": 3},
    "global_local": {"window": 1},
    "adaptive_span": {"span": 8, "ramp": 3},
}
NEEDED = {"shaw": "relative", "t5": "bias", "alibi": "bias"}
CACHED = [name for name, kind in MECHANISMS.items() if kind.support.cache]


def layer(mechanism="scaled_dot", position=None, **options):
    place = build_position(position, width=C, heads=H, head_dim=8, max_length=64)
    made = Attention(C, heads=H, mechanism=mechanism, position=place, **OPTIONS.get(mechanism, {}), **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


def test_agrees_with_pytorchs_own_layer():
    own, other = layer(), nn.MultiheadAttention(C, H, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(own.qkv.weight)
        other.in_proj_bias.copy_(own.qkv.bias)
        other.out_proj.load_state_dict(own.out.state_dict())
    x, context = torch.randn(2, 9, C), torch.randn(2, 5, C)
    keep = torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert torch.allclose(own(x), other(x, x, x)[0], atol=1e-5)
    want = other(x, context, context, key_padding_mask=~keep)[0]
    assert torch.allclose(own(x, context, Padding(keep)), want, atol=1e-5)


def test_heads_are_one_integer():
    """Grouped heads equal multi-head attention with the shared projections repeated."""
    x = torch.randn(2, 7, C)
    for kv_heads in (1, 2, 4):
        grouped, full = layer(kv_heads=kv_heads), layer()
        q, k, v = grouped.qkv.weight.split((C, kv_heads * 8, kv_heads * 8))
        repeat = [
            y.unflatten(0, (kv_heads, 8)).repeat_interleave(H // kv_heads, 0).flatten(0, 1) for y in (k, v)
        ]
        bq, bk, bv = grouped.qkv.bias.split((C, kv_heads * 8, kv_heads * 8))
        repeat_b = [
            y.unflatten(0, (kv_heads, 8)).repeat_interleave(H // kv_heads, 0).flatten() for y in (bk, bv)
        ]
        with torch.no_grad():
            full.qkv.weight.copy_(torch.cat((q, *repeat)))
            full.qkv.bias.copy_(torch.cat((bq, *repeat_b)))
        full.out.load_state_dict(grouped.out.state_dict())
        assert torch.allclose(grouped(x, mask=Causal()), full(x, mask=Causal()), atol=1e-5)


def test_parameters_are_named_as_promised():
    assert {n for n, _ in layer(bias=False).named_parameters()} == {"qkv.weight", "out.weight"}
    assert layer(kv_heads=2).qkv.weight.shape == ((4 + 2 * 2) * 8, C)
    cross = Attention(C, 20, heads=H)
    assert cross.query.weight.shape == (C, C)
    assert cross.key_value.weight.shape == (2 * C, 20)
    assert cross(torch.randn(1, 3, C), torch.randn(1, 6, 20)).shape == (1, 3, C)
    with pytest.raises(RecipeError, match="another width"):
        cross(torch.randn(1, 3, C))
    normed = layer(qk_norm=True)
    assert {"query_norm.weight", "key_norm.weight"} <= dict(normed.named_parameters()).keys()
    x = torch.randn(1, 5, C)
    heads = normed.qkv(x).unflatten(-1, (-1, 8))
    q, k, v = heads.split(4, 2)
    q, k = ((y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt()) for y in (q, k))
    q, k = q * normed.query_norm.weight, k * normed.key_norm.weight
    w = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) / 8**0.5, -1)
    want = normed.out(torch.einsum("bhij,bjhd->bihd", w, v).flatten(2))
    assert torch.allclose(normed(x), want, atol=1e-5)


POSITIONS = [None, "shaw", "t5", "rotary", "alibi"]


@given(
    st.sampled_from(CACHED),
    st.sampled_from(POSITIONS),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_cache_changes_nothing(mechanism, position, steps, kv_heads, explicit, seed):
    """Token by token, or in any pieces, equals all at once; with explicit positions and padding too."""
    if position in NEEDED and not getattr(MECHANISMS[mechanism].support, NEEDED[position]):
        position = None
    torch.manual_seed(seed)
    made = layer(mechanism, position, kv_heads=kv_heads)
    total = sum(steps)
    x = torch.randn(2, total, C)
    places = keep = None
    mask = Causal()
    if explicit:
        keep = torch.ones(2, total, dtype=torch.bool)
        keep[1, 0] = total == 1  # padded on the left
        places = torch.stack((torch.arange(total), torch.arange(total).sub(1).clamp(min=0)))
        mask = mask & Padding(keep)
    with torch.no_grad():
        whole = made(x, mask=mask, positions=places)
        cache, parts, start = KeyValueCache(total + 2), [], 0
        for count in steps:
            end = start + count
            now = Causal() & Padding(keep[:, :end]) if explicit else Causal()
            at = places[:, start:end] if explicit else None
            parts.append(made(x[:, start:end], mask=now, cache=cache, positions=at))
            start = end
    assert cache.length == total
    assert torch.allclose(torch.cat(parts, 1), whole, atol=2e-5)


def test_cache_reorders_and_truncates():
    made = layer(position="t5")
    x = torch.randn(3, 6, C)
    rows = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        cache = KeyValueCache(8)
        made(x[:, :5], mask=Causal(), cache=cache, positions=torch.arange(5))
        cache.truncate(4)
        cache.reorder(rows)
        step = made(x[rows, 4:5], mask=Causal(), cache=cache, positions=torch.tensor([4]))
        want = made(x[rows, :5], mask=Causal())[:, 4:5]
    assert torch.allclose(step, want, atol=1e-5)
    with pytest.raises(ValueError, match="5 tokens"):
        cache.truncate(6)
    assert [c.capacity for c in new_caches(2, 7)] == [7, 7]


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("mechanism", ["linear", "retention", "gla"])
def test_a_state_stands_for_the_places_before(mechanism, kv_heads):
    """Recurrent steps equal the parallel form, also after other rows, fewer places, and several at once."""
    made = layer(mechanism, kv_heads=kv_heads)
    x = torch.randn(3, 12, C)
    rows = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        cache = KeyValueCache(16)
        for at in range(5):
            made(x[:, at : at + 1], cache=cache)
        assert cache.summed == 5
        cache.reorder(rows)
        x = x[rows]
        parts = [made(x[:, 5:6], mask=Causal(), cache=cache)]
        cache.truncate(3)
        assert cache.state is None
        parts.append(made(x[:, 3:7], mask=Causal(), cache=cache))  # several at once: no state is needed
        assert cache.summed == 0
        parts += [made(x[:, at : at + 1], mask=Causal(), cache=cache) for at in range(7, 12)]
        assert cache.summed == 12
        want = made(x, mask=Causal())
    got = torch.cat(parts, 1)
    assert torch.allclose(got[:, 0], want[:, 5], atol=2e-5)
    assert torch.allclose(got[:, 1:], want[:, 3:], atol=2e-5)


def test_cache_under_cross_attention_projects_the_context_once(monkeypatch):
    made = layer()
    x, context = torch.randn(2, 3, C), torch.randn(2, 5, C)
    cache = KeyValueCache(5)
    with torch.no_grad():
        want = made(x, context)
        first = made(x[:, :1], context, cache=cache)
        rest = made(x[:, 1:], torch.full_like(context, torch.nan), cache=cache)  # not looked at again
    assert torch.allclose(torch.cat((first, rest), 1), want, atol=1e-6)


def test_cache_refuses_what_would_go_wrong():
    made, cache = layer(), KeyValueCache(4)
    with pytest.raises(RuntimeError, match="no_grad"):
        made(torch.randn(1, 2, C), cache=cache)
    with torch.no_grad():
        made(torch.randn(1, 3, C), cache=cache)
        with pytest.raises(DataError, match="3 of 4"):
            made(torch.randn(1, 2, C), cache=cache)
        with pytest.raises(DataError, match="batch of 1"):
            made(torch.randn(2, 1, C), cache=cache)


def test_recording_names_layers_and_leaves_the_output_alone():
    net = nn.ModuleDict(
        {"first": layer("window", backend="chunked"), "second": layer("additive", "t5")}
    ).eval()
    x = torch.randn(2, 6, C)

    def run():
        return net["second"](net["first"](x, mask=Causal()))

    plain = run()
    with record(net) as recorded:
        again = run()
    assert torch.equal(plain, again)
    names, weights = zip(*recorded.weights, strict=True)
    assert names == ("first", "second")
    for w in weights:
        assert w.shape == (2, H, 6, 6)
        assert torch.allclose(w.sum(-1), torch.ones(()), atol=1e-5)
        assert not w.requires_grad
    assert not weights[0].triu(1).any()
    run()
    assert len(recorded.weights) == 2  # over when the context is
    with record(net) as recorded, torch.no_grad():
        cache = KeyValueCache(6)
        for t in range(6):
            net["first"](x[:, t : t + 1], mask=Causal(), cache=cache)
    assert [w.shape[-1] for _, w in recorded.weights] == [1, 2, 3, 4, 5, 6]
    assert torch.allclose(recorded.weights[-1][1], weights[0][:, :, -1:], atol=1e-5)


def test_zero_rows_through_the_layer():
    made = layer("window", "rotary")
    x = torch.randn(2, 5, C, requires_grad=True)
    keep = torch.tensor([[True] * 5, [False] * 5])
    y = made(x, mask=Causal() & Padding(keep))
    assert torch.equal(y[1], made.out.bias.expand(5, C))
    y.square().sum().backward()
    assert not x.grad[1].any()
    assert all(p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Attention(30, heads=4), "cannot be shared evenly"),
        (lambda: Attention(C, heads=4, kv_heads=3), "not a multiple"),
        (lambda: Attention(C, heads=4, dropout=1.5), "below 1"),
        (lambda: Attention(C, heads=4, mechanism="topk", topk=0), "needs topk"),
        (lambda: Attention(C, heads=4, window=3), "belongs to mechanism window"),
        (lambda: Attention(C, heads=4, mechanism="additive", backend="flex"), "use auto, reference, chunked"),
        (lambda: Attention(C, heads=4, backend="flsh"), "is no backend"),
        (lambda: Attention(C, C, heads=4, mechanism="window", window=2), "cross attention.*scaled_dot"),
        (
            lambda: Attention(C, heads=4, mechanism="window", window=2)(
                torch.randn(1, 2, C), torch.randn(1, 2, C)
            ),
            "cross attention.*scaled_dot",
        ),
    ],
)
def test_wrong_settings_are_said(make, said):
    with pytest.raises(RecipeError, match=said):
        make()


def test_all_problems_at_once():
    with pytest.raises(RecipeError) as caught:
        Attention(30, heads=4, kv_heads=3, dropout=2)
    assert len(caught.value.problems) == 3


def test_copies_and_state_round_trip():
    made = layer("cosine", "rotary")
    made(torch.randn(1, 4, C), mask=Window(1, 1))
    twin = copy.deepcopy(made)
    x = torch.randn(1, 4, C)
    assert torch.equal(made(x), twin(x))
    assert not any("slopes" in key or "table" in key for key in layer(position="alibi").state_dict())
