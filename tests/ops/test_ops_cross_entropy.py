"""The output layer with its cross-entropy, against the two apart."""

import pytest
import torch
from torch.nn import functional as F

from attncli.ops import cross_entropy
from attncli.ops.cross_entropy import linear_cross_entropy

N, V, C = 23, 31, 6


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK", 5 * V)  # five rows at a time, the last three


def _case(dtype=torch.float64, scale=1.0):
    g = torch.Generator().manual_seed(0)
    x = (torch.randn(N, C, generator=g) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, C, generator=g).to(dtype).requires_grad_()
    return x, weight, torch.randint(0, V, (N,), generator=g)


def _apart(x, weight, labels, smoothing):
    logits = F.linear(x, weight).to(torch.promote_types(x.dtype, torch.float32))
    loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    right = (logits.argmax(-1) == labels).sum()
    return loss, F.cross_entropy(logits, labels, reduction="sum"), right


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("scale", [1.0, 60.0])  # likelihoods down to exp(-400)
def test_sums_and_gradients(smoothing, dtype, close, scale):
    found = []
    for function in (linear_cross_entropy, _apart):
        x, weight, labels = _case(dtype, scale)
        loss, nll, right = function(x, weight, labels, smoothing)
        (loss * 0.5).backward()
        found.append((loss.detach(), nll.detach(), right.to(dtype), x.grad, weight.grad))
        assert x.grad.dtype == dtype
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=close * scale, rtol=close)


def test_gradients_are_those_of_the_sum():
    x, weight, labels = _case()
    assert torch.autograd.gradcheck(lambda a, b: linear_cross_entropy(a, b, labels, 0.2).loss, (x, weight))


def test_only_the_gradients_that_are_asked_for():
    x, weight, labels = _case()
    linear_cross_entropy(x, weight.detach(), labels).loss.backward()
    want = x.grad
    linear_cross_entropy(x.detach(), weight, labels).loss.backward()
    x.grad = None
    linear_cross_entropy(x, weight, labels).loss.backward()
    torch.testing.assert_close(x.grad, want)
    with torch.no_grad():
        assert not linear_cross_entropy(x, weight, labels).loss.requires_grad


def test_a_tied_weight_gets_both_gradients():
    _, weight, labels = _case()
    tokens = torch.arange(N) % V
    grads = []
    for function in (linear_cross_entropy, _apart):
        weight.grad = None
        function(torch.tanh(weight[tokens]), weight, labels, 0.1)[0].backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


def test_autocast_is_near():
    x, weight, labels = _case(torch.float32)
    want, nll, _ = _apart(x, weight, labels, 0.1)
    want_x, want_weight = torch.autograd.grad(want, (x, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_cross_entropy(x, weight, labels, 0.1)
    grad_x, grad_weight = torch.autograd.grad(found.loss, (x, weight))
    assert found.loss.dtype == grad_x.dtype == grad_weight.dtype == torch.float32
    assert found.loss.item() == pytest.approx(want.item(), rel=0.01)
    assert found.nll.item() == pytest.approx(nll.item(), rel=0.01)
    assert (grad_x - want_x).norm() < 0.02 * want_x.norm()
    assert (grad_weight - want_weight).norm() < 0.02 * want_weight.norm()
    half = linear_cross_entropy(x.detach().bfloat16(), weight.detach().bfloat16(), labels, 0.1)
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(want.item(), rel=0.02)


def test_no_places_give_zero_with_a_graph():
    x, weight, labels = _case()
    loss, nll, right = linear_cross_entropy(x[:0], weight, labels[:0], 0.1)
    loss.backward()
    assert loss.item() == nll.item() == right.item() == 0
    assert not weight.grad.any()
