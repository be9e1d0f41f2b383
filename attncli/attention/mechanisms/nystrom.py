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
        heads, length, width = q.shape[1:]
        wide = torch.promote_types(q.dtype, torch.float32)
        kind = v.dtype
        q, k, v = q.to(wide) * width**-0.5, expand_heads(k.to(wide), heads), expand_heads(v.to(wide), heads)
        keep = kept_keys(mask, self.name)
        landmarks = _Landmarks(keep, length, self.landmarks, q)
        query, key = landmarks.means(q), landmarks.means(k)  # [B, H, m, D]
        to_landmarks = drop(_softmax(q @ key.transpose(-1, -2), landmarks.used), dropout)  # [B, H, T, m]
        if landmarks.all_exact:
            out = to_landmarks @ landmarks.means(v)
        else:
            inner = landmarks.rows(_softmax(query @ key.transpose(-1, -2), landmarks.used))  # [B, H, m, m]
            real = None if keep is None else keep[:, None, None]
            to_keys = landmarks.rows(_softmax(query @ k.transpose(-1, -2), real))  # [B, H, m, T]
            out = to_landmarks @ (pseudo_inverse(inner) @ (to_keys @ v))
            if landmarks.some_exact is not None:
                out = torch.where(landmarks.some_exact, to_landmarks @ landmarks.means(v), out)
        if keep is not None:  # zeros where no key is real
            out = out.masked_fill(~keep.any(1).view(-1, 1, 1, 1), 0)
        return out.to(kind)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"landmarks={self.landmarks}"


class _Landmarks:
    """Stretches of equally many real tokens; fewer stretches than ``most`` where there are fewer tokens."""

    def __init__(self, keep: Tensor | None, length: int, most: int, like: Tensor) -> None:
        self.used: Tensor | None = None  # bool [B, 1, 1, m]: landmarks that stand for any token
        self.some_exact: Tensor | None = None  # bool [B, 1, 1, 1]: a landmark for each token
        self.matrix: Tensor | None = None  # [B|1, 1, m, T] of means
        self.count = min(most, length)
        if keep is None:
            self.all_exact = length <= most
            if length % self.count:
                every = torch.ones(1, length, dtype=torch.bool, device=like.device)
                self.matrix, _ = self._matrix(every, like.dtype)
            return
        few = keep.sum(1) <= most
        self.all_exact, self.some_exact = bool(few.all()), few.view(-1, 1, 1, 1)
        self.matrix, self.used = self._matrix(keep, like.dtype)

    def _matrix(self, real: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        count = real.sum(1, keepdim=True)  # [B|1, 1]
        landmarks = count.clamp(max=self.count)
        rank = (real.cumsum(1) - 1).clamp(min=0)  # [B|1, T]
        stretch = rank * landmarks // count.clamp(min=1)
        numbers = torch.arange(self.count, device=real.device)
        member = ((stretch.unsqueeze(1) == numbers.view(1, -1, 1)) & real.unsqueeze(1)).to(dtype)
        size = member.sum(-1, keepdim=True)
        used = (numbers < landmarks).view(-1, 1, 1, self.count)
        return (member / size.clamp(min=1)).unsqueeze(1), used

    def means(self, x: Tensor) -> Tensor:
        """[B, H, T, D] to [B, H, m, D]."""
        return x.unflatten(2, (self.count, -1)).mean(3) if self.matrix is None else self.matrix @ x

    def rows(self, weights: Tensor) -> Tensor:
        """Weights [B, H, m, .] without those of landmarks that stand for no token."""
        return weights if self.used is None else weights * self.used.transpose(-1, -2)


def _softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Over what is allowed; a row without anything is zero."""
    if allowed is None:
        return torch.softmax(scores, -1)
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
