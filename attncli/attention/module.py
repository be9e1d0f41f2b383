"""The attention layer: projections around the core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.backends import BACKENDS
from attncli.attention.cache import KeyValueCache
from attncli.attention.functional import compute
from attncli.attention.latent import Latent
from attncli.attention.masks import Mask
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.positions.base import Position
from attncli.attention.table import build_mechanism, require
from attncli.errors import Problem, RecipeError

_NEEDED = {"shaw": "relative", "t5": "bias", "alibi": "bias", "relative_2d": "bias"}
"""What a position scheme asks of a mechanism."""


class Attention(nn.Module):
    """Multi-head attention; self or cross by ``context``, multi-head to multi-query by ``kv_heads``.

    ``kv_latent``: keys and values come from a latent of so many features (:mod:`attncli.attention.latent`),
    and a cache holds nothing else. Rotary positions then turn a part of each head, as wide as ``position``
    was built for.

    heads = 4, kv_heads = 4 (multi-head), 2 (grouped-query), 1 (multi-query)::

        q   1  2  3  4        q   1  2  3  4        q   1  2  3  4
            |  |  |  |            \\  /  \\  /            \\  \\  /  /
        kv  1  2  3  4        kv   1     2          kv       1

        x [B, Tq, C] --------- q --+-- position --+
                       (or         |              mechanism(q, k, v, mask, bias) -- out --> [B, Tq, C]
        context [B, Tk, C'] -- k --+-- cache -----+     by a backend
          else x ------------- v --------- cache -+

    ``mechanism`` and ``position`` are names or objects; an absolute position belongs to the embedding layer
    and is refused here. ``qk_norm`` normalises queries and keys of each head (RMS; Dehghani et al. 2023,
    https://arxiv.org/abs/2302.05442). ``dropout`` acts on the weights. Options are the mechanism's.

    Parameters: ``qkv`` [(H + 2 K) D, C] when the context is as wide as the queries (it is cut where a
    context is given), else ``query`` [H D, C] and ``key_value`` [2 K D, C']; ``out`` [C, H D]. With a latent
    ``query`` and those of ``latent``.

    MHA: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. MQA: Shazeer 2019, https://arxiv.org/abs/1911.02150.
    GQA: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245.
    """

    def __init__(
        self,
        query_dim: int,
        context_dim: int | None = None,
        *,
        heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        kv_latent: int | None = None,
        mechanism: str | Mechanism = "scaled_dot",
        position: Position | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        qk_norm: bool = False,
        backend: str = "auto",
        **options: Any,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        wrong = []
        if head_dim is None and query_dim % heads:
            wrong.append(f"width {query_dim} cannot be shared evenly by {heads} heads")
        if heads % kv_heads:
            wrong.append(
                f"{heads} query heads cannot be shared by {kv_heads} key/value heads: not a multiple"
            )
        if not 0 <= dropout < 1:
            wrong.append(f"attention dropout is {dropout}; it must be at least 0 and below 1")
        if position is not None and position.absolute:
            wrong.append(f"position {position.name} is added to the input: it belongs to the embedding layer")
        if kv_latent is not None and qk_norm:
            wrong.append(
                "kv_latent is normalised itself, and its keys are not formed when decoding: no qk_norm"
            )
        if wrong:
            raise RecipeError(*wrong)
        head_dim = query_dim // heads if head_dim is None else head_dim
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        if isinstance(mechanism, str):
            mechanism = build_mechanism(
                mechanism, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **options
            )
        elif options:
            raise RecipeError(*(f"option {key} belongs to the mechanism that was given" for key in options))
        if kv_heads != heads:
            require(mechanism, "gqa", "fewer key/value heads than query heads")
        if context_dim is not None:
            require(mechanism, "cross", "a context (cross attention)")
        if position is not None and position.name in _NEEDED:
            require(mechanism, _NEEDED[position.name], f"position {position.name}")
        usable = ("auto", *mechanism.support.backends)
        if backend not in usable:
            what = "cannot compute" if backend in BACKENDS else "is no backend; it cannot compute"
            hint = f"use {', '.join(usable)}"
            raise RecipeError(Problem(f"backend {backend} {what} mechanism {mechanism.name}", hint=hint))
        self.mechanism, self.position = mechanism, position
        self.dropout, self.backend = dropout, backend
        self.sees_itself = context_dim is None or context_dim == query_dim
        self.latent: Latent | None = None
        if kv_latent is not None:
            self.query = nn.Linear(query_dim, heads * head_dim, bias=bias)
            self.latent = Latent(
                query_dim if context_dim is None else context_dim,
                kv_latent,
                kv_heads=kv_heads,
                head_dim=head_dim,
                turned=0 if position is None else position.turned,
                bias=bias,
            )
        elif self.sees_itself:
            self.qkv = nn.Linear(query_dim, (heads + 2 * kv_heads) * head_dim, bias=bias)
        else:
            self.query = nn.Linear(query_dim, heads * head_dim, bias=bias)
            self.key_value = nn.Linear(context_dim, 2 * kv_heads * head_dim, bias=bias)
        self.fused_projection = hasattr(self, "qkv")
        self.query_norm = nn.RMSNorm(head_dim, eps=1e-6) if qk_norm else None
        self.key_norm = nn.RMSNorm(head_dim, eps=1e-6) if qk_norm else None
        self.out = nn.Linear(heads * head_dim, query_dim, bias=bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Mask | None = None,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """``x`` [B, Tq, C] attends to itself, or to ``context`` [B, Tk, C']: [B, Tq, C].

        ``mask`` speaks of all Tk keys, those in the ``cache`` included; with a cache ``x`` holds the last Tq
        places. With a context, a filled cache stands for it: its keys and values are not computed again.
        ``positions`` int64 [Tq] or [B, Tq] replaces the count of places (packed rows restart them).
        """
        start = 0 if cache is None else cache.length
        if cache is not None:
            require(self.mechanism, "cache", "a key/value cache")
        if context is not None:
            require(self.mechanism, "cross", "a context (cross attention)")
            if self.position is not None:
                name = self.position.name
                raise RecipeError(f"position {name} needs queries and keys of one sequence, so no context")
        elif not self.sees_itself:
            raise RecipeError("this attention has a context of another width and cannot attend to its input")

        held = cache.held() if cache is not None and context is not None else None
        places = None if positions is None else positions.view(-1, positions.shape[-1])  # [B|1, Tq]
        if self.latent is None:
            q, k, v = self._heads(x, context, places, start, skip_context=held is not None)
        else:
            q, k, v = self._latents(x, context, places, start, skip_context=held is not None)
        if held is not None:
            k, v = held
        elif cache is not None:
            k, v = cache.append(k, v)
        bias, held_places = None, None
        k_places = places
        if cache is not None and context is None:
            k_places = cache.place(places, x.shape[1], x.shape[0], x.device)
            places = None if k_places is None else k_places[:, start:]
            held_places = None if k_places is None else (places, k_places)
        elif places is not None and context is None and self.mechanism.by_place:
            held_places = places, places
        if self.position is not None:
            bias = self.position.bias(q.shape[2], k.shape[2], x.device, places, k_places)
        absorbed = False
        if self.latent is not None:
            relative = bias is not None and bias.needs_query
            absorbed = cache is not None and not relative
            absorbed = absorbed and self.latent.absorbs(self.mechanism, q.shape[2], k.shape[2])
            if absorbed:
                q, k, v = self.latent.queries(q), torch.cat([k, v], -1), k
            else:
                k, v = self.latent.expand(k.squeeze(1), v.squeeze(1))
        dropout = self.dropout if self.training else 0.0
        y = compute(  # [B, H, Tq, D]
            self.mechanism, q, k, v, mask, bias, dropout, self.backend, self, held_places, cache=cache
        )
        if absorbed:
            y = self.latent.outputs(y)
        return self.out(y.transpose(1, 2).flatten(2))

    def _heads(
        self, x: Tensor, context: Tensor | None, places: Tensor | None, start: int, skip_context: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Queries [B, H, Tq, D], keys and values [B, K, Tk, D], normalised and turned."""
        q, k, v = self._project(x, context, skip_context)
        if self.query_norm is not None:
            q = self.query_norm(q).to(q.dtype)
            k = None if k is None else self.key_norm(k).to(k.dtype)
        if self.position is not None:
            q = self.position.rotate(q, places, start)
            k = self.position.rotate(k, places, start)
        return q.transpose(1, 2), *(None if y is None else y.transpose(1, 2) for y in (k, v))

    def _latents(
        self, x: Tensor, context: Tensor | None, places: Tensor | None, start: int, skip_context: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Queries [B, H, Tq, D], and what a cache holds of keys: [B, 1, Tk, W] and [B, 1, Tk, R]."""
        q = self.query(x).unflatten(-1, (self.heads, self.head_dim))
        if skip_context:
            return q.transpose(1, 2), None, None
        latent, shared = self.latent.compress(x if context is None else context)
        shared = shared.unsqueeze(2)  # [B, Tk, 1, R]
        if self.latent.turned:
            content, turned = q.split((self.latent.plain, self.latent.turned), -1)
            q = torch.cat([content, self.position.rotate(turned, places, start)], -1)
            shared = self.position.rotate(shared, places, start)
        return q.transpose(1, 2), latent.unsqueeze(1), shared.transpose(1, 2)

    def _project(
        self, x: Tensor, context: Tensor | None, skip_context: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Queries [B, Tq, H, D], keys and values [B, Tk, K, D] (None when a cache holds them)."""
        q_width = self.heads * self.head_dim
        if context is None:
            heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B, T, H + 2 K, D]
            return heads.split((self.heads, self.kv_heads, self.kv_heads), 2)
        q = _rows(self.qkv, x, slice(0, q_width)) if self.fused_projection else self.query(x)
        q = q.unflatten(-1, (self.heads, self.head_dim))
        if skip_context:
            return q, None, None
        if self.fused_projection:
            kv = _rows(self.qkv, context, slice(q_width, self.qkv.out_features))
        else:
            kv = self.key_value(context)
        k, v = kv.unflatten(-1, (-1, self.head_dim)).chunk(2, 2)  # [B, Tk, K, D] each
        return q, k, v

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return (
            f"heads={self.heads}, kv_heads={self.kv_heads}, head_dim={self.head_dim}, "
            f"dropout={self.dropout}, backend={self.backend}"
        )


def _rows(linear: nn.Linear, x: Tensor, rows: slice) -> Tensor:
    """A stretch of a linear layer's outputs; a layer that adds to its product computes it itself."""
    if type(linear) is not nn.Linear:
        return linear(x, rows=rows)
    bias = linear.bias
    return F.linear(x, linear.weight[rows], None if bias is None else bias[rows])


def new_caches(layers: int, capacity: int) -> list[KeyValueCache]:
    """An empty cache for each of ``layers`` attention layers, of ``capacity`` tokens."""
    return [KeyValueCache(capacity) for _ in range(layers)]
