"""Latent: keys and values of all heads come from one narrow vector for each token (MLA).

    c = RMSNorm(W_down x),  [k_h; v_h] = W_up,h c,  key of head h = [k_h; rotary(W_r x)]

A cache holds ``c`` and the turned key, which all heads share: W + R numbers a token instead of 2 K D.
Rotary positions cannot pass through W_up, so that a part of every head is set aside for them: its R turned
channels are of the head's D, where DeepSeek-V2 adds them to it. Decoding with a cache moves W_up to the
queries and to the output instead of applying it to every token that is held, where this is exact.

DeepSeek-AI 2024, "DeepSeek-V2", https://arxiv.org/abs/2405.04434, section 2.1
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.errors import RecipeError


def turned_width(head_dim: int) -> int:
    """Channels of a head that rotary positions turn beside a latent: half of them, an even number."""
    return head_dim // 4 * 2


class Latent(nn.Module):
    """``width`` features a token for ``kv_heads`` heads of ``head_dim``, ``turned`` of which are rotary.

    Parameters: ``down`` [width + turned, C'], ``norm`` [width], ``up`` [K (2 D - turned), width].
    """

    def __init__(
        self, context_dim: int, width: int, *, kv_heads: int, head_dim: int, turned: int, bias: bool
    ) -> None:
        super().__init__()
        if width < 1:
            raise RecipeError(f"kv_latent is {width}; a latent has 1 feature or more")
        if turned >= head_dim:
            raise RecipeError(
                f"kv_latent leaves no channel of {head_dim} to content: build the rotary positions for "
                f"{turned_width(head_dim)} channels of each head"
            )
        self.width, self.turned = width, turned
        self.kv_heads, self.head_dim = kv_heads, head_dim
        self.plain = head_dim - turned
        """Channels of a key that come from the latent."""
        self.down = nn.Linear(context_dim, width + turned, bias=bias)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.up = nn.Linear(width, kv_heads * (self.plain + head_dim), bias=False)

    def compress(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, T, C'] to their latents [B, T, W] and shared keys [B, T, R], not yet turned."""
        latent, shared = self.down(x).split((self.width, self.turned), -1)
        return self.norm(latent.to(self.norm.weight.dtype)).to(latent.dtype), shared

    def expand(self, latent: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, T, W] and turned keys [B, T, R] to keys and values [B, K, T, D]."""
        heads = self.up(latent).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)  # [B, K, T, 2 D - R]
        k, v = heads.split((self.plain, self.head_dim), -1)
        if self.turned:
            k = torch.cat([k, shared.to(k.dtype).unsqueeze(1).expand(-1, self.kv_heads, -1, -1)], -1)
        return k, v

    def absorbs(self, mechanism: Mechanism, queries: int, keys: int) -> bool:
        """Whether to attend to the latents themselves is exact under ``mechanism`` and less work."""
        kind = type(mechanism)
        plain = all(
            getattr(kind, part) is getattr(ScaledDot, part)
            for part in ("prepare", "scores", "normalise", "narrow", "values", "finish", "attend")
        )
        if not plain or type(self.up) is not nn.Linear:
            return False
        wider = 2 * self.width + self.turned - 2 * self.head_dim  # features met for each pair
        moved = self.width * (self.plain + self.head_dim)  # products for each query in the place of each key
        return queries * mechanism.heads * (keys * wider + moved) < keys * self.kv_heads * moved

    def queries(self, q: Tensor) -> Tensor:
        """Queries [B, H, T, D] as they meet [latent; turned key], [B, H, T, W + R], the scale made even."""
        batch, heads, length, _ = q.shape
        key, _ = self._parts(q.dtype)
        grouped = q[..., : self.plain].reshape(batch, self.kv_heads, -1, self.plain)
        inner = (grouped @ key).view(batch, heads, length, self.width)
        found = torch.cat([inner, q[..., self.plain :]], -1)
        return found * (found.shape[-1] / self.head_dim) ** 0.5

    def outputs(self, y: Tensor) -> Tensor:
        """Weighted latents [B, H, T, W] as weighted values [B, H, T, D]."""
        batch, heads, length, _ = y.shape
        _, value = self._parts(y.dtype)
        grouped = y.reshape(batch, self.kv_heads, -1, self.width)
        return (grouped @ value.transpose(-1, -2)).view(batch, heads, length, self.head_dim)

    def _parts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``up`` of keys [K, D - R, W] and of values [K, D, W]."""
        weight = self.up.weight.to(dtype).unflatten(0, (self.kv_heads, -1))
        return weight.split((self.plain, self.head_dim), 1)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"width={self.width}, turned={self.turned}"
