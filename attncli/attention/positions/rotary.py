"""Rotary positions: pairs of channels of queries and keys turn by an angle that grows with the place.

Su et al. 2021, "RoFormer", https://arxiv.org/abs/2104.09864. Channel ``i`` is paired with ``i + D/2``, as in
GPT-NeoX and LLaMA. ``turn`` takes any angles: a scheme over two or three axes gives its channels in parts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attncli.attention.positions.base import Position
from attncli.errors import RecipeError


class Rotary(Position):
    """Wavelengths from 2 pi to ``base`` times that. No parameters, any length; angles are kept."""

    name = "rotary"

    def __init__(self, head_dim: int, *, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise RecipeError(
                f"rotary positions pair the channels of a head, and {head_dim} channels are odd"
            )
        self.head_dim = self.turned = head_dim
        self.base = base
        self._kept: tuple[Tensor, Tensor] | None = None  # cos, sin [places, D / 2]

    def angles(self, positions: Tensor) -> Tensor:
        """Angles [..., D / 2] of places [...], float32."""
        channel = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float32)
        return positions.unsqueeze(-1).float() * torch.exp(channel * (-math.log(self.base) / self.head_dim))

    def rotate(self, x: Tensor, positions: Tensor | None, start: int) -> Tensor:
        """Heads ``x`` [B, T, H, D] turned by their places; the type stays."""
        end = start + x.shape[1]
        if positions is None and not isinstance(end, int):  # a graph of any length: nothing is kept
            positions = torch.arange(start, end, device=x.device)
        cos, sin = self._table(end, x.device) if positions is None else self._at(positions)
        if positions is None:
            cos, sin = cos[start:end], sin[start:end]
        return turn(x, cos.unsqueeze(-2), sin.unsqueeze(-2))  # [B|-, T, 1, D / 2]

    def _at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.angles(positions)
        return angle.cos(), angle.sin()

    def _table(self, places: int, device: torch.device) -> tuple[Tensor, Tensor]:
        kept = self._kept
        if kept is None or kept[0].shape[0] < places or kept[0].device != device:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._at(torch.arange(max(64, 2 ** math.ceil(math.log2(places))), device=device))
            self._kept = kept
        return kept


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs (x[i], x[i + D/2]) of ``x`` [..., D] turned by angles given as ``cos``, ``sin`` [..., D / 2]."""
    if torch.compiler.is_compiling():
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)
    if x.requires_grad and torch.is_grad_enabled():
        return _Turn.apply(x, cos, sin)
    return _turned(x, cos, sin)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    wide = torch.promote_types(x.dtype, cos.dtype)
    out = torch.empty(x.shape, dtype=wide, device=x.device)
    low, high = out.chunk(2, -1)
    torch.mul(first, cos, out=low).addcmul_(second.to(wide), sin, value=-1)
    torch.mul(second, cos, out=high).addcmul_(first.to(wide), sin)
    return out.to(x.dtype)


class _Turn(torch.autograd.Function):
    """The gradient of a turn is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return turn(grad, cos, -sin), None, None
