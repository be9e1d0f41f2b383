"""Keys and values from a latent (MLA): the formula in float64, the cache, what it composes with."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.attention import (
    MECHANISMS,
    Attention,
    Causal,
    Dense,
    KeyValueCache,
    Padding,
    build_position,
    record,
)
from attncli.attention.latent import Latent, turned_width
from attncli.errors import RecipeError

C, H, D, W = 32, 4, 8, 6
R = turned_width(D)
OPTIONS = {
    "window": {"window": 3},
    "dilated": {"window": 2, "dilation": 2},
    "topk": {"topk": 4},
    "bigbird": {"block": 2, "random_blocks": 1},
    "convolution": {"kernel": 3},
    "adaptive_span": {"span": 8, "ramp": 3},
    "linformer": {"length": 64, "rank": 4},
}
NEEDED = {"shaw": "relative", "t5": "bias", "alibi": "bias"}
CACHED = [name for name, kind in MECHANISMS.items() if kind.support.cache and kind.support.causal]


def layer(mechanism="scaled_dot", position="rotary", kv_heads=H, width=W, context=None, **options):
    place = build_position(
        position, width=C, heads=H, head_dim=R if position == "rotary" else D, max_length=64
    )
    options |= OPTIONS.get(mechanism, {})
    made = Attention(
        C,
        context,
        heads=H,
        kv_heads=kv_heads,
        kv_latent=width,
        mechanism=mechanism,
        position=place,
        **options,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def turned(x):
    """Pairs (i, i + R/2) of the last R channels of [B, T, ..., R], place by place."""
    half = x.shape[-1] // 2
    rate = torch.tensor([10000.0 ** (-2 * i / x.shape[-1]) for i in range(half)], dtype=x.dtype)
    rows = []
    for place in range(x.shape[1]):
        a, b = x[:, place, ..., :half], x[:, place, ..., half:]
        cos, sin = torch.cos(place * rate), torch.sin(place * rate)
        rows.append(torch.cat([a * cos - b * sin, b * cos + a * sin], -1))
    return torch.stack(rows, 1)


def formula(made, x, context, allowed):
    """Float64, from the layer's parameters alone."""
    p = {key: value.double() for key, value in made.named_parameters()}
    x = x.double()
    y = x if context is None else context.double()
    rotary = made.position is not None
    rest = R if rotary else 0
    q = (x @ p["query.weight"].T + p["query.bias"]).unflatten(-1, (H, D))  # [B, Tq, H, D]
    down = y @ p["latent.down.weight"].T + p["latent.down.bias"]
    c, shared = down[..., :W], down[..., W:]
    c = c / torch.sqrt((c**2).mean(-1, keepdim=True) + 1e-6) * p["latent.norm.weight"]
    if rotary:
        q = torch.cat([q[..., : D - R], turned(q[..., D - R :])], -1)
        shared = turned(shared)
    up = p["latent.up.weight"].view(made.kv_heads, 2 * D - rest, W)
    out = []
    for h in range(H):
        mine = up[h // (H // made.kv_heads)]
        k = torch.cat([c @ mine[: D - rest].T, shared], -1)  # [B, Tk, D]
        v = c @ mine[D - rest :].T
        score = (q[:, :, h] @ k.mT / math.sqrt(D)).masked_fill(~allowed, -1e300)
        out.append(torch.softmax(score, -1) @ v)
    return torch.cat(out, -1) @ p["out.weight"].T + p["out.bias"]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("position", ["rotary", None])
def test_against_the_formula(position, kv_heads):
    made = layer(position=position, kv_heads=kv_heads)
    x = torch.randn(2, 9, C, requires_grad=True)
    keep = torch.rand(2, 9) > 0.3
    keep[:, 0] = True
    for mask, allowed in (
        (None, torch.ones(2, 9, 9, dtype=torch.bool)),
        (Causal() & Padding(keep), torch.ones(9, 9, dtype=torch.bool).tril() & keep[:, None]),
    ):
        out, want = made(x, mask=mask), formula(made, x, None, allowed)
        assert (out - want).abs().max() < 1e-5
        flow = torch.randn_like(out)
        leaves = [x, *made.parameters()]
        for one, other in zip(
            torch.autograd.grad(out, leaves, flow),
            torch.autograd.grad(want, leaves, flow.double()),
            strict=True,
        ):
            assert (one - other).abs().max() < 1e-4 * other.abs().max().clamp(min=1)


def test_across_two_sequences_with_a_cache_of_the_context():
    made = layer(position=None, context=20)
    x, context = torch.randn(2, 5, C), torch.randn(2, 7, 20)
    with torch.no_grad():
        want = formula(made, x, context, torch.ones(2, 5, 7, dtype=torch.bool))
        assert (made(x, context) - want).abs().max() < 1e-5
        cache = KeyValueCache(7)
        parts = [made(x[:, :1], context, cache=cache), made(x[:, 1:], context * torch.nan, cache=cache)]
    assert (torch.cat(parts, 1) - want).abs().max() < 1e-5
    with pytest.raises(RecipeError, match="another width"):
        made(x)


@given(
    st.sampled_from(CACHED), st.sampled_from([None, "shaw", "t5", "rotary", "alibi"]),
    st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([1, 2, 4]),
    st.sampled_from([2, 6, 24]), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_cache_changes_nothing(mechanism, position, steps, kv_heads, width, explicit, seed):
    """Token by token, or in any pieces, equals all at once, under every mechanism and position.

    In float64: retention's norm divides by the size of what may be near zero.
    """
    if position in NEEDED and not getattr(MECHANISMS[mechanism].support, NEEDED[position]):
        position = None
    torch.manual_seed(seed)
    made = layer(mechanism, position, kv_heads, width).double()
    total = sum(steps)
    x = torch.randn(2, total, C, dtype=torch.float64)
    places = torch.stack((torch.arange(total), torch.arange(total).sub(1).clamp(min=0))) if explicit else None
    keep = torch.ones(2, total, dtype=torch.bool)
    keep[1, 0] = total == 1 or not explicit
    with torch.no_grad():
        whole = made(x, mask=Causal() & Padding(keep), positions=places)
        cache, parts, start = KeyValueCache(total + 1), [], 0
        for count in steps:
            end = start + count
            now = Causal() & Padding(keep[:, :end])
            at = places[:, start:end] if explicit else None
            parts.append(made(x[:, start:end], mask=now, cache=cache, positions=at))
            start = end
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-8)


def test_the_cache_holds_the_latent_and_the_shared_key_alone():
    made, cache = layer(), KeyValueCache(5)
    with torch.no_grad():
        made(torch.randn(2, 5, C), mask=Causal(), cache=cache)
    latent, shared = cache.held()
    assert latent.shape == (2, 1, 5, W)
    assert shared.shape == (2, 1, 5, R)


def test_decoding_attends_to_latents_where_it_is_exact(monkeypatch):
    """Keys of held tokens are not formed then; for mechanisms that see keys themselves they are."""
    x = torch.randn(1, 20, C)

    def formed(mechanism):
        made, cache, seen = layer(mechanism), KeyValueCache(20), []
        expand = Latent.expand
        monkeypatch.setattr(Latent, "expand", lambda *a: (seen.append(a[1].shape[1]), expand(*a))[1])
        with torch.no_grad(), record() as recorded:
            for t in range(20):
                made(x[:, t : t + 1], mask=Causal(), cache=cache)
            whole = made(x, mask=Causal())
        monkeypatch.setattr(Latent, "expand", expand)
        assert torch.allclose(recorded.weights[19][1], recorded.weights[20][1][:, :, -1:], atol=1e-5)
        assert whole.shape == x.shape
        return max(seen[:-1], default=0)

    for mechanism in ("scaled_dot", "window"):
        assert formed(mechanism) < 8
    for mechanism in ("cosine", "sinks", "gated", "lsh"):
        assert formed(mechanism) == 20


def test_hypotheses_of_a_search_and_low_rank_updates():
    """Keys out of order under a dense mask, and a cache reordered; updates of ``up`` are not passed by."""
    from attncli.layers.lora import add_low_rank

    made = layer()
    add_low_rank(made, 2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 4, C)  # two hypotheses of two tokens, in turns
    places = torch.tensor([0, 0, 1, 1])
    seen = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]], dtype=torch.bool)
    with torch.no_grad():
        cache = KeyValueCache(4)
        made(x[:, :2], mask=Dense(seen[:2, :2]), cache=cache, positions=places[:2])
        got = made(x[:, 2:], mask=Dense(seen[2:]), cache=cache, positions=places[2:])
        for row, token in enumerate((2, 3)):
            one = x[:, [1, token]]
            assert torch.allclose(got[:, row], made(one, mask=Causal())[:, -1], atol=1e-5)


def test_bf16_and_zero_rows():
    made = layer()
    x = torch.randn(2, 6, C)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        half, cache = made(x, mask=Causal()), KeyValueCache(6)
        steps = [made(x[:, t : t + 1], mask=Causal(), cache=cache) for t in range(6)]
    assert (half - made(x, mask=Causal())).abs().max() < 0.2
    assert (torch.cat(steps, 1) - half).abs().max() < 0.2
    empty = made(x, mask=Padding(torch.zeros(2, 6, dtype=torch.bool)))
    assert torch.allclose(empty, made.out.bias.expand_as(empty))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layer(qk_norm=True), "no qk_norm"),
        (lambda: layer(width=0), "1 feature"),
        (
            lambda: Attention(
                C, heads=H, kv_latent=4,
                position=build_position("rotary", width=C, heads=H, head_dim=D, max_length=9),
            ),
            "for 4 channels",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(RecipeError, match=said):
        make()
