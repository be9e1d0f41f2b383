"""Attention as a function of heads: checks, the choice of backend, recording."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from attncli.attention.backends import BACKENDS, linear, reference
from attncli.attention.backends.base import Call
from attncli.attention.backends.choice import choose, explain
from attncli.attention.cache import KeyValueCache
from attncli.attention.masks import All, Causal, Mask, Padding, Places, Window, simplify
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.positions.base import Bias, DenseBias
from attncli.attention.recording import recorders
from attncli.attention.table import build_mechanism, require
from attncli.errors import RecipeError


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask | None = None,
    bias: Tensor | Bias | None = None,
    *,
    mechanism: str | Mechanism = "scaled_dot",
    dropout: float = 0.0,
    training: bool = False,
    backend: str = "auto",
    **options: Any,
) -> Tensor:
    """Attention of ``q`` [B, H, Tq, D] over ``k``, ``v`` [B, K, Tk, D]: [B, H, Tq, D].

    ``K`` divides ``H``: each key/value head serves H / K query heads. ``bias`` is added to the scores
    (broadcastable to [B, H, Tq, Tk], or a rule). ``mechanism`` is a name, with its ``options`` (``topk``,
    ``window``), or a module where it has parameters. ``dropout`` acts on the weights in ``training``.
    A row with nothing to attend to gives zeros. What mechanism or backend cannot do is a
    :class:`RecipeError`.
    """
    if isinstance(mechanism, str):
        mechanism = _plain_mechanism(mechanism, q.shape[1], k.shape[1], q.shape[-1], **options)
    elif options:
        raise RecipeError(*(f"option {key} belongs to the mechanism that was given" for key in options))
    if isinstance(bias, Tensor):
        bias = DenseBias(bias)
    return compute(mechanism, q, k, v, mask, bias, dropout if training else 0.0, backend)


@lru_cache(maxsize=64)
def _plain_mechanism(name: str, heads: int, kv_heads: int, head_dim: int, **options: Any) -> Mechanism:
    mechanism = build_mechanism(name, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **options)
    if next(mechanism.parameters(), None) is not None:
        raise RecipeError(f"mechanism {name} has parameters: give attend() the module, or use Attention")
    return mechanism


def compute(
    mechanism: Mechanism,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask | None,
    bias: Bias | None,
    dropout: float,
    backend: str = "auto",
    layer: nn.Module | None = None,
    places: Places = None,
    prepared: bool = False,
    cache: KeyValueCache | None = None,
) -> Tensor:
    """:func:`attend` with everything resolved.

    ``layer`` is who asks, for recording; ``places`` as :meth:`Mechanism.restrict`; ``prepared``: ``k`` comes
    from :func:`prepare_keys`, so that many calls share the work; ``cache``: where keys and values come from,
    which a kernel mechanism keeps its state in.
    """
    kind = q.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        q, k, v = (
            x.to(dtype) if x.dtype in (torch.float32, torch.bfloat16, torch.float16) else x for x in (q, k, v)
        )
        with torch.autocast(kind, enabled=False):
            return compute(mechanism, q, k, v, mask, bias, dropout, backend, layer, places, prepared, cache)
    if cache is not None and _steps(mechanism, q, mask, places, backend):
        return mechanism.finish(linear.step(mechanism, q, k, v, cache), q)
    call = prepare(mechanism, q, k, v, mask, bias, dropout, places, prepared)
    recording = recorders()
    if recording:
        require(mechanism, "weights", "recording: it has no weights for each pair")
    if mechanism.support.backends:
        out = BACKENDS[choose(call, backend)].run(call)
    else:
        if backend != "auto":
            raise RecipeError(
                f"mechanism {mechanism.name} computes itself: backend must be auto, not {backend}"
            )
        out = mechanism.attend(q, k, v, call.mask, bias, dropout)
    out = mechanism.finish(out, q)
    if recording:
        with torch.no_grad():
            weights = reference.weights(call)
        for recorder in recording:
            recorder.add(layer, weights)
    return out


def _steps(mechanism: Mechanism, q: Tensor, mask: Mask | None, places: Places, backend: str) -> bool:
    """Whether the last place's query alone asks for what came before it, of a mechanism with a state."""
    plain = mask is None or isinstance(mask, Causal)
    alone = q.shape[2] == 1 and plain and places is None and not recorders()
    return alone and backend in ("auto", "linear") and mechanism.recurrent


def prepare(
    mechanism: Mechanism,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask | None,
    bias: Bias | None,
    dropout: float,
    places: Places = None,
    prepared: bool = False,
) -> Call:
    """The call for the backends; what does not fit or is not supported is a :class:`RecipeError`."""
    batch, heads, queries, _ = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    if k.shape[:3] != v.shape[:3] or k.shape[0] != batch or (k.shape[3] != q.shape[3] and not prepared):
        raise RecipeError(
            f"queries {list(q.shape)}, keys {list(k.shape)} and values {list(v.shape)} do not fit"
        )
    if heads % kv_heads:
        raise RecipeError(
            f"{heads} query heads cannot be shared by {kv_heads} key/value heads: not a multiple"
        )
    if kv_heads != heads:
        require(mechanism, "gqa", "fewer key/value heads than query heads")
    if mask is not None:
        rules = mask.rules if isinstance(mask, All) else (mask,)
        for rule in rules:
            if isinstance(rule, Causal):
                require(mechanism, "causal", "causal masks")
            else:
                if not isinstance(rule, Window):
                    require(mechanism, "padding", f"{rule.kind} masks")
                if not isinstance(rule, Padding):
                    require(mechanism, "pairs", f"{rule.kind} masks")
        mask.check(batch, heads, queries, keys)
    if bias is not None:
        require(mechanism, "relative" if bias.needs_query else "bias", "such a term of the scores")
    mask = simplify(mechanism.restrict(mask, queries, keys, places), queries, keys)
    if prepared:
        q, _, scale = mechanism.prepare(q, k[:, :, :0])
    else:
        q, k, scale = mechanism.prepare(q, k)
    mask = mechanism.narrow(q, k, mask)
    return Call(q, k, mechanism.values(v), mask, bias, scale, dropout, mechanism, places)


def prepare_keys(mechanism: Mechanism, k: Tensor) -> Tensor:
    """Keys [B, K, Tk, D] as the scores take them, for :func:`compute` with ``prepared``."""
    nothing = k.new_empty(k.shape[0], mechanism.heads, 0, k.shape[3])
    return mechanism.prepare(nothing, k)[1]


def explain_choice(
    batch: int,
    heads: int,
    queries: int,
    keys: int | None = None,
    *,
    head_dim: int,
    kv_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    mask: Mask | None = None,
    bias: Bias | None = None,
    dropout: float = 0.0,
    grad: bool = False,
    mechanism: str | Mechanism = "scaled_dot",
    backend: str = "auto",
    **options: Any,
) -> tuple[str, str]:
    """``(backend, reason)`` for attention of these sizes; may time the candidates (tens of milliseconds)."""
    keys = queries if keys is None else keys
    kv_heads = heads if kv_heads is None else kv_heads
    if isinstance(mechanism, str):
        mechanism = build_mechanism(mechanism, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **options)
    if not mechanism.support.backends:
        return mechanism.name, "the mechanism computes itself"
    seed = torch.zeros((), dtype=dtype, device=device)  # stands for all elements: no memory is taken
    mechanism = mechanism.to(seed.device)
    with torch.set_grad_enabled(grad):
        seed.requires_grad_(grad)
        q = seed.expand(batch, heads, queries, head_dim)
        k = seed.expand(batch, kv_heads, keys, head_dim)
        mask = simplify(mechanism.restrict(mask, queries, keys), queries, keys)
        return explain(Call(q, k, k, mask, bias, 1.0, dropout, mechanism), backend)
