"""Attention of pictures against formulas written apart in float64; sizes, records, refusals."""

import copy

import images_formula
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.attention import record
from attncli.attention.images import (
    CBAM,
    IMAGES,
    AdditiveGate,
    AxialAttention,
    DeformableAttention,
    EfficientChannel,
    ShiftedWindowAttention,
    SqueezeExcite,
)
from attncli.errors import RecipeError


def maps(channels=8, height=6, width=9):
    return torch.randn(2, channels, height, width, requires_grad=True)


def grid(height, width, channels=16, batch=2):
    return torch.randn(batch, height, width, channels, requires_grad=True)


def queries(values, sizes, by_level=False, padded=False):
    """Inputs of deformable attention; some of its references lie at the border, so that points fall out."""
    count = sum(height * width for height, width in sizes)
    shape = (2, 7, len(sizes), values) if by_level else (2, 7, values)
    reference = (torch.rand(shape) * 1.2 - 0.1).requires_grad_()
    x, memory = (torch.randn(2, length, 16, requires_grad=True) for length in (7, count))
    inputs = [x, reference, memory, sizes]
    return [*inputs, torch.rand(2, count) > 0.3] if padded else inputs


def windows(**options):
    return ShiftedWindowAttention(16, heads=4, **options)


CASES = {
    "squeeze_excite": (lambda: SqueezeExcite(8, reduction=2), lambda: [maps()]),
    "squeeze_excite narrow": (lambda: SqueezeExcite(3), lambda: [maps(3)]),
    "eca": (lambda: EfficientChannel(8), lambda: [maps()]),
    "eca kernel": (lambda: EfficientChannel(8, kernel=5), lambda: [maps()]),
    "cbam": (lambda: CBAM(8, reduction=4), lambda: [maps()]),
    "cbam kernel": (lambda: CBAM(8, reduction=4, kernel=3), lambda: [maps(8, 2, 5)]),
    "additive_gate": (lambda: AdditiveGate(8, 12), lambda: [maps(8, 6, 8), maps(12, 3, 4)]),
    "additive_gate odd": (lambda: AdditiveGate(8, 12), lambda: [maps(8, 7, 9), maps(12, 4, 5)]),
    "additive_gate same": (
        lambda: AdditiveGate(8, 4, inner=5, step=1), lambda: [maps(8, 5, 3), maps(4, 5, 3)],
    ),
    "axial": (lambda: AxialAttention(16, heads=2), lambda: [grid(5, 3)]),
    "axial grouped": (lambda: AxialAttention(16, heads=4, kv_heads=2), lambda: [grid(2, 7)]),
    "shifted_window": (lambda: windows(window=3), lambda: [grid(6, 9)]),
    "shifted_window moved": (lambda: windows(window=4, shift=2), lambda: [grid(8, 12)]),
    "shifted_window padded": (lambda: windows(window=4, shift=2), lambda: [grid(7, 9)]),
    "shifted_window small": (lambda: windows(window=5, shift=2), lambda: [grid(3, 8)]),
    "shifted_window plain": (
        lambda: windows(kv_heads=2, window=3, shift=1, relative=False), lambda: [grid(4, 4)],
    ),
    "deformable": (
        lambda: DeformableAttention(16, heads=2, levels=2, points=3), lambda: queries(2, [(4, 6), (2, 3)]),
    ),
    "deformable levels": (
        lambda: DeformableAttention(16, heads=4, levels=1, points=2),
        lambda: queries(2, [(5, 4)], by_level=True),
    ),
    "deformable boxes": (
        lambda: DeformableAttention(16, heads=2, levels=2),
        lambda: queries(4, [(4, 4), (2, 1)], by_level=True),
    ),
    "deformable padded": (
        lambda: DeformableAttention(16, heads=2, levels=2), lambda: queries(2, [(4, 4), (2, 2)], padded=True),
    ),
}  # fmt: skip


def test_every_one_is_tested():
    assert {case.split()[0] for case in CASES} == set(IMAGES)
    assert all(name == kind.name for name, kind in IMAGES.items())


def leaves(module, inputs):
    return [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad] + [*module.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_against_the_formula(case, device):
    build, inputs = (make() for make in CASES[case])
    with torch.no_grad():
        for parameter in build.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    want = getattr(images_formula, build.name)(build, *inputs)
    there = [
        x.detach().to(device).requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
        for x in inputs
    ]
    module = copy.deepcopy(build).to(device)
    out = module(*there)
    assert out.shape == want.shape
    assert (out.cpu() - want).abs().max() < 1e-5
    flow = torch.randn_like(want)
    got = torch.autograd.grad(out, leaves(module, there), flow.to(out))
    for one, other in zip(got, torch.autograd.grad(want, leaves(build, inputs), flow), strict=True):
        assert (one.cpu() - other).abs().max() < 1e-4 * other.abs().max().clamp(min=1)


@pytest.mark.parametrize("case", CASES)
def test_half_width_and_channels_last(case):
    """Under autocast and in another order of memory: the same, but for rounding."""
    build, inputs = (make() for make in CASES[case])
    want = build(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (build(*inputs) - want).abs().max() < 0.1
    if inputs[0].shape[1] != 2 and build.name in ("squeeze_excite", "eca", "cbam", "additive_gate"):
        turned = [x.to(memory_format=torch.channels_last) for x in inputs]
        assert torch.allclose(build(*turned), want, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 13), width=st.integers(1, 13), window=st.integers(1, 5), shift=st.integers(0, 4),
    relative=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_windows_of_any_size(height, width, window, shift, relative, seed):
    torch.manual_seed(seed)
    made = ShiftedWindowAttention(8, heads=2, window=window, shift=min(shift, window - 1), relative=relative)
    x = grid(height, width, 8, 1)
    assert (made(x) - images_formula.shifted_window(made, x)).abs().max() < 1e-5
    assert (made(x) - images_formula.shifted_window(made, x)).abs().max() < 1e-5  # the mask was kept


def test_windows_take_other_mechanisms_and_no_context_leaks():
    """Places of another window have no say, whatever the mechanism."""
    for mechanism in ("cosine", "topk", "sparsemax", "sinks"):
        made = ShiftedWindowAttention(16, heads=2, window=4, shift=2, mechanism=mechanism).eval()
        x = grid(8, 8).detach()
        before = made(x)
        x[:, 2:6, 2:6] += 3
        changed = (made(x) - before).abs().amax((0, 3)) > 0
        want = torch.zeros(8, 8, dtype=torch.bool)
        want[2:6, 2:6] = True
        assert torch.equal(changed, want)


def test_axial_reaches_every_place_in_two_steps():
    made = AxialAttention(16, heads=2, position="rotary", mechanism="cosine")
    x = grid(4, 5).detach()
    before = made(x)
    x[:, 1, 2] += 1
    assert ((made(x) - before).abs().amax((0, 3)) > 0).all()


@pytest.mark.parametrize("case", CASES)
def test_recording_keeps_what_is_promised(case):
    build, inputs = (make() for make in CASES[case])
    holder = torch.nn.ModuleDict({"here": build})
    with record(holder) as recorded:
        out = build(*inputs)
    if not recorded.maps:
        assert [name.split(".")[0] for name, _ in recorded.weights] == ["here"] * len(recorded.weights)
        assert bool(recorded.weights) != IMAGES[build.name].seen.startswith("nothing")
        for _, weights in recorded.weights:
            assert (weights.sum(-1) < 1 + 1e-5).all()
        return
    assert all(name == "here" and not factor.requires_grad for name, factor in recorded.maps)
    product = inputs[0]
    for _, factor in recorded.maps:
        product = product * factor
    assert torch.allclose(product, out, atol=1e-6)


def test_gates_start_nearly_open_and_the_paper_s_kernel():
    gate = AdditiveGate(8, 12)
    with record(gate) as recorded:
        gate(maps(8, 6, 8), maps(12, 3, 4))
    assert recorded.maps[0][1].mean() > 0.7
    assert [EfficientChannel(c).conv.kernel_size[0] for c in (8, 64, 128, 256, 512)] == [3, 3, 5, 5, 5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SqueezeExcite(8, reduction=0), "1 or more"),
        (lambda: EfficientChannel(8, kernel=2), "odd"),
        (lambda: CBAM(8, kernel=4), "odd kernel"),
        (lambda: AdditiveGate(8, 0), "1 or more"),
        (lambda: AxialAttention(16, heads=3), "shared evenly"),
        (lambda: AxialAttention(16, heads=4, position="sinusoidal"), "embedding layer"),
        (lambda: ShiftedWindowAttention(16, heads=2, window=4, shift=4), "shift below"),
        (
            lambda: ShiftedWindowAttention(16, heads=2, shift=3, mechanism="linformer", relative=False),
            "masks of",
        ),
        (lambda: ShiftedWindowAttention(16, heads=2, mechanism="linear"), "position relative_2d"),
        (lambda: ShiftedWindowAttention(16, heads=2)(grid(7, 7), mask=torch.ones(2, 49)), "whole grids"),
        (lambda: DeformableAttention(16, heads=3), "shared evenly"),
        (lambda: DeformableAttention(16, heads=2, points=0), "1 or more"),
        (lambda: DeformableAttention(16, heads=2)(*queries(2, [(3, 3)])), "4 levels"),
        (lambda: DeformableAttention(16, heads=2, levels=1)(*queries(3, [(3, 3)])), "2 or 4 values"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(RecipeError, match=said):
        make()
