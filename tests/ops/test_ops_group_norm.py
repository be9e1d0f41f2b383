"""Group norm with ReLU against PyTorch's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from attncli.ops.group_norm import group_norm


def reference(x, groups, weight, bias, relu):
    y = F.group_norm(x, groups, weight, bias, 1e-5)
    return y.relu() if relu else y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_pytorchs(groups, relu, order):
    torch.manual_seed(groups)
    x = torch.randn(3, 8, 5, 7, dtype=torch.float64).mul(2).add(0.3).contiguous(memory_format=order)
    weight, bias = (torch.randn(8, dtype=torch.float64) for _ in range(2))
    mine, other = (tuple(t.clone().requires_grad_() for t in (x, weight, bias)) for _ in range(2))
    y, z = group_norm(mine[0], groups, *mine[1:], relu=relu), reference(other[0], groups, *other[1:], relu)
    torch.testing.assert_close(y, z)
    grad = torch.randn_like(z)
    for one, two in zip(torch.autograd.grad(y, mine, grad), torch.autograd.grad(z, other, grad), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(group_norm(x, groups, weight, bias, relu=relu), z)


@pytest.mark.parametrize("groups", [8, 32])
def test_bf16_is_as_near_to_float64_as_pytorchs_own(groups):
    torch.manual_seed(0)
    x, grad = (torch.randn(2, 32, 24, 24).contiguous(memory_format=torch.channels_last) for _ in range(2))
    x = x * 3 + 1
    weight, bias = torch.rand(32) + 0.5, torch.randn(32)

    def run(function, dtype):
        inputs = [
            x.to(dtype).requires_grad_(),
            weight.clone().requires_grad_(),
            bias.clone().requires_grad_(),
        ]
        if dtype == torch.float64:
            inputs[1:] = [t.detach().double().requires_grad_() for t in inputs[1:]]
        y = function(*inputs)
        return [t.double() for t in torch.autograd.grad(y, inputs, grad.to(y.dtype))]

    exact = run(lambda a, w, b: F.group_norm(a, groups, w, b), torch.float64)
    mine = run(lambda a, w, b: group_norm(a, groups, w, b), torch.bfloat16)
    theirs = run(lambda a, w, b: F.group_norm(a, groups, w.to(a.dtype), b.to(a.dtype)), torch.bfloat16)
    for true, one, other in zip(exact, mine, theirs, strict=True):
        error, usual = (one - true).norm() / true.norm(), (other - true).norm() / true.norm()
        assert error < max(1.5 * usual, 0.01)


def test_the_type_of_the_maps_stays_under_autocast():
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    weight, bias = torch.ones(8, requires_grad=True), torch.zeros(8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert group_norm(x, 2, weight, bias).dtype == torch.float32
        y = group_norm(x.bfloat16(), 2, weight, bias, relu=True)
        assert y.dtype == torch.bfloat16
        assert (y >= 0).all()
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
