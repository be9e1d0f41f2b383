"""Dropout drawn as bytes: exact rate, independence, gradients, reproducibility."""

import numpy as np
import pytest
import torch

from attncli.ops.dropout import Dropout, dropout, dropout_add


@pytest.mark.parametrize("p", [0.001, 0.1, 0.25, 0.5, 0.9])
def test_rate_is_exact_not_a_multiple_of_a_256th(p):
    n = 4_000_000
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(n), p) == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_expectation_is_kept_and_neighbours_are_independent(p):
    torch.manual_seed(1)
    y = dropout(torch.ones(2_000_000), p)
    assert abs(y.double().mean().item() - 1) < 5e-3
    z = (y == 0).double() - p
    for lag in (1, 7, 8, 64, 256):
        correlation = (z[lag:] * z[:-lag]).mean().item() / (p * (1 - p))
        assert abs(correlation) < 5e-3, lag


def test_every_byte_of_a_draw_is_uniform():
    torch.manual_seed(2)
    dropped = (dropout(torch.ones(800_000, 8), 0.1) == 0).double().mean(0).numpy()
    assert np.abs(dropped - 0.1).max() < 5 * (0.09 / 800_000) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gradient_uses_the_same_mask(dtype):
    x = torch.randn(33, 77, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.3)
    y.backward(torch.ones_like(y))
    assert y.dtype == x.grad.dtype == dtype
    assert torch.equal(x.grad != 0, (y != 0) | (x == 0) & (x.grad != 0))
    assert torch.allclose(x.grad[x.grad != 0].double(), torch.tensor(1 / 0.7).double(), rtol=1e-2)


def test_dropout_add_is_dropout_then_add():
    x, r = torch.randn(50, 60), torch.randn(50, 60)
    torch.manual_seed(3)
    apart = r + dropout(x, 0.1)
    torch.manual_seed(3)
    assert torch.allclose(dropout_add(x, r, 0.1), apart, atol=1e-6)


def test_dropout_add_promotes_and_returns_each_gradient_in_its_type():
    x = torch.randn(8, 9, dtype=torch.bfloat16, requires_grad=True)
    r = torch.randn(8, 9, requires_grad=True)
    y = dropout_add(x, r, 0.5)
    y.sum().backward()
    assert y.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16
    assert torch.equal(r.grad, torch.ones_like(r))


def test_generator_state_reproduces_masks():
    x = torch.ones(1000)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first, second = dropout(x, 0.2), dropout(x, 0.2)
    torch.set_rng_state(state)
    assert torch.equal(first, dropout(x, 0.2))
    assert not torch.equal(first, second)


def test_identity_in_evaluation_and_at_zero():
    x = torch.randn(5)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(dropout(x, 1.0), torch.zeros(5))


def test_gradcheck():
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    r = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)

    def same_mask(x, r):
        torch.manual_seed(5)
        return dropout_add(x, r, 0.4)

    assert torch.autograd.gradcheck(same_mask, (x, r))
