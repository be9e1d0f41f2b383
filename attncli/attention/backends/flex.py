"""PyTorch's compiled flex attention: masks by block, without a dense form.

On a CPU it computes the forward pass only; on CUDA everything. The first call at a shape compiles.
"""

from __future__ import annotations

import shutil
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attncli.attention.backends.base import Call
from attncli.attention.masks import Mask


def refuses(call: Call) -> str | None:
    """What flex attention cannot compute."""
    if not call.mechanism.fusable:
        return f"mechanism {call.mechanism.name} is not a softmax of products"
    if call.bias is not None and call.bias.needs_query:
        return "relative positions that meet the queries (shaw) are not a fixed term of the scores"
    if call.dropout > 0:
        return "flex attention has no dropout"
    kind = call.q.device.type
    if kind == "cpu":
        if call.with_grad:
            return "on the CPU flex attention has no backward pass"
        if call.q.dtype == torch.float64:
            return "on the CPU flex attention has no float64"
        if not (shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")):
            return "flex attention compiles its kernel, and no C++ compiler is on the PATH"
    elif kind != "cuda":
        return f"flex attention does not run on {kind}"
    return None


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    batch, heads, queries, keys = call.sizes
    block_mask, empty = None, None
    if call.mask is not None:
        block_mask, empty = call.mask.remember(
            ("flex", batch, heads, queries, keys, call.q.device), lambda: _blocks(call.mask, call)
        )
    score_mod = None
    if call.bias is not None:
        term = call.bias.at(slice(0, queries), slice(0, keys), *call.bias.sources)
        term = term.expand(batch if term.shape[0] > 1 else 1, heads, queries, keys)
        score_mod = _add(term, shared=term.shape[0] == 1)
    k, v = call.k, call.v
    out = _compiled()(
        call.q.contiguous(), k.contiguous(), v.contiguous(),
        score_mod=score_mod, block_mask=block_mask, scale=call.scale, enable_gqa=k.shape[1] != heads,
    )  # fmt: skip
    return out if empty is None else out.masked_fill(empty, 0)


def _add(term: Tensor, shared: bool) -> Any:
    """Flex attention's ``score_mod`` that adds ``term`` [B|1, H, Tq, Tk]."""
    if shared:
        return lambda score, b, h, q, kv: score + term[0, h, q, kv]
    return lambda score, b, h, q, kv: score + term[b, h, q, kv]


def _blocks(mask: Mask, call: Call) -> tuple[Any, Tensor | None]:
    """The block mask, and the rows with nothing to attend to."""
    from torch.nn.attention.flex_attention import create_block_mask

    batch, heads, queries, keys = call.sizes
    device, shift = call.q.device, call.shift
    allowed = mask.dense(batch, heads, queries, keys, device)
    empty = ~allowed.any(-1, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocks = create_block_mask(
            mask.mask_mod(shift),
            batch if allowed.shape[0] > 1 else None,
            heads if allowed.shape[1] > 1 else None,
            queries,
            keys,
            device=str(device),
        )
    return blocks, empty if bool(empty.any()) else None
