"""Nystrom attention: softmax attention through a few landmarks, means of stretches of the sequence.

    out = softmax(q L_k^T) pinv(softmax(L_q L_k^T)) softmax(L_q k^T) v
    L_q, L_k landmarks of queries and keys; products are scaled

The pseudo-inverse is six steps of the iteration of the paper. A sequence of no more tokens than landmarks is
computed exactly.

Xiong et al. 2021, "Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention",
https://arxiv.org/abs/2102.03902; without its convolution of the values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attncli.attention.backends.base import expand_heads
from attncli.attention.masks import Mask
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.mechanisms.keys import WHOLE_SEQUENCES, kept_keys
from attncli.errors import RecipeError
from attncli.ops.dropout import dropout as drop

STEPS = 6


class Nystrom(Mechanism):
    """``landmarks`` stretches of equally many tokens, padding not counted; no parameters."""

    name = "nystrom"
    support = WHOLE_SEQUENCES
    time = "O(T landmarks D)"
    use = "encoders of long sequences that were trained with softmax attention, approximately"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, landmarks: int = 64) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if landmarks < 1:
            raise RecipeError(f"mechanism nystrom needs landmarks, at least 1; it is {landmarks}")
        self.landmarks = landmarks

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, bias: Any, dropout: float) -> Tensor:
        """Heads to heads, [B, H, T, D]."""
        _, heads, length, width = q.shape
        wide = torch.promote_types(q.dtype, torch.float32)
        kind = v.dtype
        q, k, v = q.to(wide) * width**-0.5, expand_heads(k.to(wide), heads), expand_heads(v.to(wide), heads)
        keep = kept_keys(mask, self.name)
        real = keep if keep is not None else torch.ones(1, length, dtype=torch.bool, device=q.device)
        mean, used = self._means(real, wide)  # [B|1, 1, m, T], bool [B|1, 1, 1, m]
        query, key = mean @ q, mean @ k  # [B, H, m, D]
        to_landmarks = drop(_softmax(q @ key.transpose(-1, -2), used), dropout)  # [B, H, T, m]
        exact = to_landmarks @ (mean @ v)
        if bool((real.sum(1) <= self.landmarks).all()):
            return self._blank(exact, real).to(kind)
        inner = _softmax(query @ key.transpose(-1, -2), used) * used.transpose(-1, -2)  # [B, H, m, m]
        to_keys = _softmax(query @ k.transpose(-1, -2), real[:, None, None]) * used.transpose(-1, -2)
        out = to_landmarks @ (pseudo_inverse(inner) @ (to_keys @ v))
        few = (real.sum(1) <= self.landmarks).view(-1, 1, 1, 1)
        return self._blank(torch.where(few, exact, out), real).to(kind)

    def _means(self, real: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Matrix of means over the stretches of real tokens, and which landmarks have any."""
        count = real.sum(1, keepdim=True)  # [B|1, 1]
        landmarks = count.clamp(max=self.landmarks)
        rank = (real.cumsum(1) - 1).clamp(min=0)  # [B|1, T]
        stretch = rank * landmarks // count.clamp(min=1)
        numbers = torch.arange(min(self.landmarks, real.shape[1]), device=real.device)
        member = (stretch.unsqueeze(1) == numbers.view(1, -1, 1)) & real.unsqueeze(1)  # [B|1, m, T]
        member = member.to(dtype)
        size = member.sum(-1, keepdim=True)
        used = (numbers < landmarks).view(-1, 1, 1, len(numbers))
        return (member / size.clamp(min=1)).unsqueeze(1), used

    @staticmethod
    def _blank(out: Tensor, real: Tensor) -> Tensor:
        """Zeros where no key is real."""
        return out.masked_fill(~real.any(1).view(-1, 1, 1, 1), 0)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"landmarks={self.landmarks}"


def _softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Over what is allowed; a row without anything is zero."""
    some = allowed.any(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(~allowed & some, -torch.inf), -1) * some


def pseudo_inverse(matrix: Tensor) -> Tensor:
    """Six steps of the third-order iteration of the paper, [., m, m], each matrix from its own norms."""
    across, down = matrix.abs().sum(-1).amax(-1), matrix.abs().sum(-2).amax(-1)
    inverse = matrix.transpose(-1, -2) / (across * down).clamp(min=1e-30)[..., None, None]
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(STEPS):
        product = matrix @ inverse
        inverse = (
            inverse @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product))) / 4
        )
    return inverse
