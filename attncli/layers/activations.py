"""Activation functions of feed-forward nets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNK = 2**18  # elements: a few float32 copies stay in cache
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715


class _GeluTanh(torch.autograd.Function):
    """``x * sigmoid(u)``, ``u = 2 sqrt(2 / pi) (x + 0.044715 x^3)``: the tanh form, rewritten.

    PyTorch's CPU kernel spends most of its time in tanh; sigmoid has a fast one.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for a, o in _chunks(x, out):
            o.copy_(_inner(a).sigmoid_().mul_(a))
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for a, g, o in _chunks(x, grad, out):
            u = _inner(a)
            s = u.sigmoid()
            t = u.mul_(3.0).add_(a, alpha=-2 * _LINEAR)  # x u'
            t.addcmul_(t, s, value=-1.0)  # x u' (1 - s)
            o.copy_(s.addcmul_(s, t).mul_(g))  # s + x u' s (1 - s)
        return out


def _inner(x: Tensor) -> Tensor:
    """``u`` of the formula."""
    return torch.addcmul(x.new_tensor(_LINEAR), x, x, value=_CUBIC).mul_(x)


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat pieces of equally shaped tensors; all but the last, which is written to, in float32 or wider."""
    *read, written = (tensor.reshape(-1).split(_CHUNK) for tensor in tensors)
    for *given, target in zip(*read, written, strict=True):
        yield *(g.float() if g.dtype.itemsize < 4 else g for g in given), target


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation, any shape (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    return _GeluTanh.apply(x)


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "gelu": (F.gelu, False),
    "gelu_tanh": (gelu_tanh, False),
    "relu": (F.relu, False),
    "swiglu": (F.silu, True),
    "geglu": (F.gelu, True),
}
"""Name to (function, whether it gates a second projection)."""
