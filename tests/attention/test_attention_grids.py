"""Positions on a grid against formulas written apart, place by place."""

import itertools
import math

import pytest
import torch

from attncli.attention import Attention, build_position
from attncli.errors import DataError, RecipeError

SIZES = {2: (3, 4), 3: (2, 3, 2)}


def scheme(name, prefix=1, sizes=None, width=24, heads=2, head_dim=12, **options):
    sizes = SIZES[int(name[-2])] if sizes is None else sizes
    return build_position(
        name, width=width, heads=heads, head_dim=head_dim, max_length=64, grid=sizes, prefix=prefix, **options
    )


def cells(sizes):
    """Coordinates of every cell, the last axis fastest."""
    return list(itertools.product(*map(range, sizes)))


def parts(whole, axes):
    found = [whole // axes] * axes
    for axis in range(whole % axes):
        found[axis] += 1
    return found


@pytest.mark.parametrize("axes", [2, 3])
def test_rotary_turns_each_pair_by_its_axis(axes):
    position = scheme(f"rotary_{axes}d", prefix=2)
    sizes, half = SIZES[axes], 6
    x = torch.randn(2, 2 + math.prod(sizes), 2, 12, dtype=torch.float64)
    turned = position.rotate(x, None, 0)
    assert torch.equal(turned[:, :2], x[:, :2])
    rates = [(axis, 100.0 ** (-i / n)) for axis, n in enumerate(parts(half, axes)) for i in range(n)]
    for token, cell in enumerate(cells(sizes), 2):
        for pair, (axis, rate) in enumerate(rates):
            before = torch.complex(x[:, token, :, pair], x[:, token, :, pair + half])
            after = before * complex(math.cos(cell[axis] * rate), math.sin(cell[axis] * rate))
            found = torch.complex(turned[:, token, :, pair], turned[:, token, :, pair + half])
            assert torch.allclose(found, after, atol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_rotary_scores_depend_on_offsets_alone(axes):
    sizes = SIZES[axes]
    position = scheme(f"rotary_{axes}d", prefix=0)
    q, k = torch.randn(2, 1, 1, 1, 12, dtype=torch.float64).expand(-1, -1, math.prod(sizes), -1, -1)
    scores = torch.einsum("bihd,bjhd->ij", position.rotate(q, None, 0), position.rotate(k, None, 0))
    seen = {}
    for (i, a), (j, b) in itertools.product(enumerate(cells(sizes)), repeat=2):
        offset = tuple(x - y for x, y in zip(a, b, strict=True))
        value = seen.setdefault(offset, scores[i, j])
        assert torch.allclose(value, scores[i, j], atol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_sinusoidal_codes(axes):
    position, sizes = scheme(f"sinusoidal_{axes}d", prefix=1), SIZES[axes]
    code = position.embed(torch.zeros(1, 1 + math.prod(sizes), 24))[0]
    assert not code[0].any()
    for token, cell in enumerate(cells(sizes), 1):
        expected = []
        for axis, n in enumerate(parts(24, axes)):
            angles = [cell[axis] * 10000.0 ** (-2 * i / n) for i in range(-(-n // 2))]
            expected += ([math.sin(a) for a in angles] + [math.cos(a) for a in angles])[:n]
        assert torch.allclose(code[token], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_learned_codes_are_sums_over_axes(axes):
    position, sizes = scheme(f"learned_{axes}d", prefix=2), SIZES[axes]
    x = torch.randn(2, 2 + math.prod(sizes), 24)
    added = position.embed(x) - x
    assert not added[:, :2].any()
    starts = [sum(sizes[:axis]) for axis in range(axes)]
    for token, cell in enumerate(cells(sizes), 2):
        rows = [position.weight[start + at] for start, at in zip(starts, cell, strict=True)]
        assert torch.allclose(added[0, token], sum(rows), atol=1e-6)
    places = torch.tensor([5, 0, 3])
    assert torch.allclose(position.embed(x[:, :3], places) - x[:, :3], added[:, places], atol=1e-6)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_relative_terms_are_added_to_the_scores(prefix, backend):
    rows, columns = SIZES[2]
    position = scheme("relative_2d", prefix=prefix)
    torch.nn.init.normal_(position.weight)
    layer = Attention(24, heads=2, position=position, backend=backend).double().eval()
    x = torch.randn(2, prefix + rows * columns, 24, dtype=torch.float64)
    q, k, v = (part.transpose(1, 2) for part in layer.qkv(x).unflatten(-1, (-1, 12)).split(2, 2))
    scores = q @ k.transpose(-1, -2) / 12**0.5
    places = [None] * prefix + cells((rows, columns))
    last = (2 * rows - 1) * (2 * columns - 1)
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        if a is None or b is None:
            row = last + (2 if a is None and b is None else 0 if a is None else 1)
        else:
            row = (a[0] - b[0] + rows - 1) * (2 * columns - 1) + a[1] - b[1] + columns - 1
        scores[:, :, i, j] += position.weight[row]
    expected = layer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(layer(x), expected, atol=1e-6)
    ours, theirs = (torch.autograd.grad(y.square().sum(), position.weight)[0] for y in (layer(x), expected))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_what_has_no_place_is_said():
    with pytest.raises(RecipeError, match="grid of 2 axes, not of a sequence"):
        build_position("rotary_2d", width=8, heads=1, head_dim=8, max_length=4)
    with pytest.raises(RecipeError, match="grid of 3 axes, not of 3x4"):
        scheme("sinusoidal_3d", sizes=(3, 4))
    with pytest.raises(RecipeError, match="two channels of a head for each axis"):
        scheme("rotary_3d", head_dim=4)
    for name in ("learned_2d", "sinusoidal_2d"):
        with pytest.raises(DataError, match="14 tokens, but the model's grid of 3x4 has 13 places"):
            scheme(name).embed(torch.zeros(1, 14, 24))
    with pytest.raises(DataError, match="grid of 3x4"):
        scheme("relative_2d").bias(14, 14, torch.device("cpu"))
