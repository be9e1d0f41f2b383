"""Dropout whose masks are drawn as bytes.

Dropout (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html). On a CPU PyTorch draws
one 64-bit random number an element from a serial generator, which costs more than the matrix products
around it. Here eight elements share one 64-bit draw of SFC64, seeded from PyTorch's own CPU generator:
``torch.manual_seed`` and a saved generator state reproduce the masks, and nothing else must be stored.

A byte alone would quantise the rate to 1/256. The threshold is therefore dithered: each row of 256
elements compares against floor(256 p) or the next integer, drawn so that the drop probability of every
element is exactly ``p``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_ROW = 256  # elements that share a threshold; also one byte's range


def keep_mask(count: int, p: float, seed: int | list[int] | None = None) -> np.ndarray:
    """``count`` booleans, True with probability ``1 - p`` each; PyTorch's generator gives a missing seed."""
    if seed is None:
        seed = int(torch.randint(0, 2**63 - 1, ()))
    generator = np.random.Generator(np.random.SFC64(seed))
    rows = -(-count // _ROW)
    bits = generator.integers(0, 2**64, rows * _ROW // 8, dtype=np.uint64).view(np.uint8).reshape(rows, _ROW)
    low, share = divmod(p * _ROW, 1.0)
    threshold = (low + (generator.random(rows) < share)).astype(np.uint8)
    return (bits >= threshold[:, None]).reshape(-1)[:count]


def keep_bits(shape: Sequence[int], p: float, seed: int | list[int] | None = None) -> Tensor:
    """:func:`keep_mask` as int8 of ``shape``: -1, which has all bits, where an element is kept, else 0."""
    bits = keep_mask(math.prod(shape), p, seed).view(np.int8)
    return torch.from_numpy(np.negative(bits, out=bits)).view(shape)


_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by item size


def masked(x: Tensor, keep: Tensor) -> Tensor:
    """``x`` where ``keep`` (int8, all bits or none) is set, else 0. On bits: PyTorch turns bytes into
    floating point many times more slowly than into integers.
    """
    integer = _INTEGER[x.dtype.itemsize]
    return (x.view(integer) & keep.to(integer)).view(x.dtype)


class _DropoutAdd(torch.autograd.Function):
    """``residual + x * keep / (1 - p)``; without a residual, plain dropout."""

    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor | None, p: float) -> Tensor:
        keep = keep_bits(x.shape, p)
        scale = 1.0 / (1.0 - p)
        ctx.save_for_backward(keep)
        ctx.scale = scale
        ctx.dtypes = x.dtype, None if residual is None else residual.dtype
        if residual is None:
            return masked(x, keep).mul_(scale)
        out = torch.promote_types(x.dtype, residual.dtype)
        return torch.add(residual.to(out), masked(x, keep).to(out), alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (keep,) = ctx.saved_tensors
        x_dtype, residual_dtype = ctx.dtypes
        grad_x = masked((grad * ctx.scale).to(x_dtype), keep)
        return grad_x, None if residual_dtype is None else grad.to(residual_dtype), None


def _drawn_here(x: Tensor) -> bool:
    """Whether this module draws the mask; elsewhere PyTorch's own kernels are the fast ones."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zero each element of ``x`` (any shape) with probability ``p``, scale the others by ``1 / (1 - p)``.

    The result has the shape and type of ``x``. ``p`` in [0, 1]; without ``training`` it is the identity.
    """
    if not training or p == 0.0:
        return x
    if not _drawn_here(x) or p >= 1.0:
        return F.dropout(x, p, training)
    return _DropoutAdd.apply(x, None, p)


def dropout_add(x: Tensor, residual: Tensor, p: float, training: bool = True) -> Tensor:
    """``residual + dropout(x)`` in one pass over memory; both of one shape, the wider type results."""
    if not training or p == 0.0:
        return residual + x
    if not _drawn_here(x) or p >= 1.0:
        return residual + F.dropout(x, p, training)
    return _DropoutAdd.apply(x, residual, p)


class Dropout(nn.Module):
    """:func:`dropout` as a module, in place of ``nn.Dropout``."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape."""
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"p={self.p}"
