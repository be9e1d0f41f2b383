"""Position schemes against formulas written apart, element by element."""

import cmath
import math

import pytest
import torch
from attention_formula import softmax_rows

from attncli.attention import POSITIONS, Attention, Causal, Documents, Padding, build_position
from attncli.attention.positions.alibi import slopes
from attncli.attention.positions.base import DistanceBias
from attncli.errors import DataError, RecipeError

C, H, D = 24, 4, 6
INSIDE = ["shaw", "t5", "rotary", "alibi"]


def scheme(name, **options):
    return build_position(name, width=C, heads=H, head_dim=D, max_length=64, **options)


def layer(name, kv_heads=2, **options):
    small = {"shaw": {"clip": 3}, "t5": {"buckets": 8, "max_distance": 10}}.get(name, {})
    made = Attention(
        C, heads=H, kv_heads=kv_heads, position=scheme(name, **small) if name else None, **options
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return made.eval()


def t5_bucket(distance, buckets, far, both):
    """Mesh-TensorFlow's definition for one distance (key minus query)."""
    n, at = -distance, 0
    if both:
        buckets //= 2
        if n < 0:
            at, n = buckets, -n
    n = max(n, 0)
    exact = buckets // 2
    if n < exact:
        return at + n
    step = math.log(n / exact) / math.log(far / exact) * (buckets - exact)
    return at + min(exact + int(step + 1e-9), buckets - 1)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 10)])
def test_t5_buckets(both, buckets, far):
    position = scheme("t5", buckets=buckets, max_distance=far, bidirectional=both)
    for distance in range(-200, 201):
        want = t5_bucket(distance, buckets, far, both)
        assert position.bucket(torch.tensor(distance)).item() == want, distance


def test_alibi_slopes_are_the_published_ones():
    assert slopes(8) == [2.0**-i for i in range(1, 9)]
    assert slopes(6) == pytest.approx([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])


def test_sinusoidal_and_learned_codes():
    x = torch.zeros(2, 5, C)
    code = scheme("sinusoidal").embed(x)
    for place in range(5):
        for channel in range(C):
            angle = place / 10000 ** ((channel // 2 * 2) / C)
            want = math.cos(angle) if channel % 2 else math.sin(angle)
            assert code[1, place, channel].item() == pytest.approx(want, abs=1e-5)
    halves = scheme("sinusoidal", halves=True).embed(x)
    assert torch.equal(halves, torch.cat((code[..., 0::2], code[..., 1::2]), -1))
    learned = scheme("learned")
    assert torch.equal(learned.embed(x)[0], learned.weight[:5])
    for position in (learned, scheme("sinusoidal")):
        assert torch.equal(position.embed(x[:, :2], start=3), position.embed(x)[:, 3:])
    places = torch.tensor([[3, 4, 0, 1, 2], [0, 1, 2, 3, 4]])
    for position in (learned, scheme("sinusoidal")):
        moved = position.embed(x, places)
        assert torch.allclose(moved[0, 2:], position.embed(x)[0, :3], atol=1e-6)
    with pytest.raises(DataError, match="64 positions"):
        learned.embed(torch.zeros(1, 65, C))
    with pytest.raises(DataError, match="64 positions"):
        learned.embed(x, start=60)


def test_rotary_is_multiplication_by_a_phase():
    position = scheme("rotary")
    x = torch.randn(1, 7, H, D)
    turned = position.rotate(x, None, 3)
    for t in range(7):
        for i in range(D // 2):
            pair = complex(x[0, t, 1, i], x[0, t, 1, i + D // 2])
            want = pair * cmath.exp(1j * (t + 3) / 10000 ** (2 * i / D))
            got = complex(turned[0, t, 1, i], turned[0, t, 1, i + D // 2])
            assert abs(got - want) < 1e-5
    x = torch.randn(1, 4, 1, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: position.rotate(y, None, 2), (x,), atol=1e-4, eps=1e-4)
    assert torch.equal(position.rotate(x, torch.arange(2, 6), 0), position.rotate(x, None, 2))


def plain_layer(made, x, allowed, place):
    """The whole layer in float64, one pair of places at a time."""
    position, name = made.position, made.position.name
    heads = (x.double() @ made.qkv.weight.double().t() + made.qkv.bias.double()).unflatten(-1, (-1, D))
    q, k, v = heads.split((H, made.kv_heads, made.kv_heads), 2)
    k, v = (y.repeat_interleave(H // made.kv_heads, 2) for y in (k, v))
    batch, t = x.shape[:2]
    scores = torch.zeros(batch, H, t, t, dtype=torch.float64)
    extra = torch.zeros(batch, t, t, D, dtype=torch.float64)
    for b in range(batch):
        for i in range(t):
            for j in range(t):
                away = int(place[b, j] - place[b, i])
                left, right = q[b, i], k[b, j]  # [H, D]
                if name == "rotary":
                    angle = away / 10000 ** (2 * torch.arange(D // 2).double() / D)
                    a, c = right[:, : D // 2], right[:, D // 2 :]
                    cos, sin = angle.cos(), angle.sin()
                    right = torch.cat((a * cos - c * sin, c * cos + a * sin), -1)
                if name == "shaw":
                    near = max(-3, min(3, away)) + 3
                    right = right + position.key[near].double()
                    extra[b, i, j] = position.value[near].double()
                term = 0.0
                if name == "t5":
                    term = position.weight[t5_bucket(away, 8, 10, True)].double()
                if name == "alibi":
                    term = -abs(away) * torch.tensor(slopes(H)).double()
                scores[b, :, i, j] = (left * right).sum(-1) / math.sqrt(D) + term
    w = softmax_rows(scores, allowed)
    out = torch.einsum("bhij,bjhd->bihd", w, v) + torch.einsum("bhij,bijd->bihd", w, extra)
    return out.flatten(2) @ made.out.weight.double().t() + made.out.bias.double()


@pytest.mark.parametrize("backend", ["reference", "chunked", "auto"])
@pytest.mark.parametrize("name", INSIDE)
def test_layers_with_positions(name, backend):
    made = layer(name, backend=backend)
    x = torch.randn(2, 12, C)
    place = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6], list(range(12))])
    allowed = torch.ones(2, 1, 12, 12, dtype=torch.bool)
    want = plain_layer(made, x, allowed, torch.arange(12).repeat(2, 1))
    assert (made(x) - want).abs().max() < 1e-5
    ids = torch.tensor([[0] * 5 + [1] * 7, [0] * 12])
    packed = made(x, mask=Documents(ids), positions=place)
    same = (ids[:, :, None] == ids[:, None])[:, None]
    assert (packed - plain_layer(made, x, same, place)).abs().max() < 1e-5
    # a packed row is its documents, each by itself
    assert torch.allclose(packed[:1, 5:], made(x[:1, 5:]), atol=1e-5)
    # gradients of all parameters, through explicit and counted places
    for given in (None, place):
        got, exact = (
            torch.autograd.grad(
                y.square().sum(), list(made.parameters()), allow_unused=True, materialize_grads=True
            )
            for y in (
                made(x, mask=Causal(), positions=given),
                plain_layer(
                    made,
                    x,
                    torch.ones(12, 12, dtype=torch.bool).tril(),
                    torch.arange(12).repeat(2, 1) if given is None else given,
                ),
            )
        )
        for one, other in zip(got, exact, strict=True):
            assert torch.allclose(one, other.float(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["t5", "alibi", "shaw", "rotary"])
@pytest.mark.parametrize("mechanism", ["scaled_dot", "window", "topk"])
def test_positions_in_chunks_of_any_size(name, mechanism, monkeypatch):
    from attncli.attention.backends import chunked, plan

    option = {"window": {"window": 9}, "topk": {"topk": 7}}.get(mechanism, {})
    whole = layer(name, mechanism=mechanism, backend="reference", **option)
    x = torch.randn(2, 50, C)
    cut = layer(name, mechanism=mechanism, backend="chunked", **option)
    cut.load_state_dict(whole.state_dict())
    monkeypatch.setattr(plan, "CHUNK_BYTES", 2048)
    monkeypatch.setattr(chunked, "KEPT_ELEMENTS", 0)
    grads = []
    for made in (whole, cut):
        y = made(x, mask=Causal())
        grads.append((y, *torch.autograd.grad(y.square().sum(), list(made.parameters()))))
    for one, other in zip(*grads, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, one.abs().max().item())


def test_diagonal_layout_and_its_gradient():
    table = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    term = DistanceBias(lambda d, w: w[d + 20], (table,), 6, 9, torch.device("cpu"))
    for rows, cols in ((slice(0, 6), slice(0, 9)), (slice(2, 5), slice(4, 8)), (slice(5, 6), slice(8, 9))):
        part = term.at(rows, cols, table)
        want = torch.stack(
            [torch.stack([table[j - i - 3 + 20] for j in range(9)[cols]]) for i in range(6)[rows]]
        )
        want = want.permute(2, 0, 1)[None]
        assert torch.equal(part, want)
        flow = torch.randn_like(part)
        got, exact = (torch.autograd.grad(y, table, flow)[0] for y in (part, want))
        assert torch.allclose(got, exact)


def test_what_cannot_be_built_is_said():
    for do, said in (
        (lambda: scheme("rotery"), "did you mean rotary"),
        (lambda: scheme("alibi", clip=2), "no option clip"),
        (lambda: build_position("rotary", width=9, heads=3, head_dim=3, max_length=4), "odd"),
        (lambda: Attention(C, heads=H, position=scheme("learned")), "embedding layer"),
        (lambda: layer("shaw", mechanism="additive")(torch.randn(1, 3, C)), "scaled_dot"),
        (lambda: layer("rotary")(torch.randn(1, 3, C), context=torch.randn(1, 4, C)), "no context"),
        (lambda: layer("shaw", backend="fused")(torch.randn(1, 3, C)), "chunked"),
    ):
        with pytest.raises(RecipeError, match=said):
            do()
    assert build_position("none", width=C, heads=H, head_dim=D, max_length=4) is None
    on_grids = {f"{kind}_{axes}d" for kind in ("sinusoidal", "learned", "rotary") for axes in (2, 3)}
    assert set(POSITIONS) == {"sinusoidal", "learned", *INSIDE, *on_grids, "relative_2d"}


def test_padding_with_positions_of_its_own():
    """Rows padded on the left with restarted positions agree with the rows by themselves."""
    for name in INSIDE:
        made = layer(name)
        x = torch.randn(1, 5, C)
        padded = torch.cat((torch.randn(1, 3, C), x), 1)
        keep = Padding(torch.tensor([[False] * 3 + [True] * 5]))
        place = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]])
        assert torch.allclose(made(padded, mask=keep, positions=place)[:, 3:], made(x), atol=1e-5), name
