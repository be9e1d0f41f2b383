"""Kernel mechanisms by associativity: ``phi(q) (phi(k)^T v)``, at a cost of O(T F D) for F features.

Under causality the sequence is cut into chunks: inside a chunk the products are formed, before it the keys
and values are summed up into one state. With a decay for each head the state fades from chunk to chunk; with
gates of the data it fades feature by feature (``gates.py``).

Katharopoulos et al. 2020, "Transformers are RNNs", https://arxiv.org/abs/2006.16236;
the chunks: Hua et al. 2022, "Transformer Quality in Linear Time", https://arxiv.org/abs/2202.10447
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.backends import gates
from attncli.attention.backends.base import Call, expand_heads
from attncli.attention.cache import KeyValueCache
from attncli.attention.masks import All, Causal, Mask, Padding
from attncli.attention.mechanisms.kernel import Kernel

CHUNK = 128
"""Places in a chunk under causality."""


def refuses(call: Call) -> str | None:
    """Other mechanisms, terms of the scores, dropout of weights, and masks that rule on single pairs."""
    if not call.mechanism.linear:
        return f"mechanism {call.mechanism.name} is not a product of features"
    if call.bias is not None:
        return "terms of the scores need the scores"
    if call.dropout > 0:
        return "attention dropout needs the weights"
    other = [rule.kind for rule in _rules(call.mask) if not isinstance(rule, Causal | Padding)]
    if other:
        return f"{other[0]} masks need the weights"
    if call.mechanism.placed and call.places is not None:
        return "keys that are not in order need the weights"
    causal = any(isinstance(rule, Causal) for rule in _rules(call.mask))
    if (causal and call.shift < 0) or (not causal and call.mechanism.decays and call.shift):
        return "queries and keys are not the places of one sequence"
    return None


def pays(call: Call) -> bool:
    """Whether there are enough queries and keys for it to be the faster way; one query has not."""
    queries, keys = call.q.shape[2], call.k.shape[2]
    return queries * keys >= (queries + keys) * call.mechanism.feature_width


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    heads, length = call.q.shape[1], call.q.shape[2]
    wide = torch.promote_types(call.q.dtype, torch.float32)
    q, k = call.mechanism.features(call.q.to(wide), call.k.to(wide), call.shift)
    if call.scale != 1:
        q = q * call.scale
    rules = _rules(call.mask)
    for rule in rules:
        if isinstance(rule, Padding):
            k = k * rule.keep[:, None, :, None]
    k, v = expand_heads(k, heads), expand_heads(call.v.to(wide), heads)
    if call.mechanism.divides:
        v = torch.cat([v, v.new_ones(*v.shape[:3], 1)], -1)  # the last column adds up the weights
    gated = call.mechanism.gated
    gate = expand_heads(call.mechanism.gates(call.k.to(wide)), heads) if gated else None  # [B, H, Tk, F]
    decay = call.mechanism.decay(wide, q.device) if call.mechanism.decays and not gated else None  # [H]
    if gate is not None:
        causal = any(isinstance(rule, Causal) for rule in rules)
        out = (gates.causal if causal else gates.both_ways)(q, k, v, gate)
    elif any(isinstance(rule, Causal) for rule in rules):
        out = _causal(q, k, v, decay)
    elif decay is None:
        out = q @ (k.transpose(-1, -2) @ v)
    else:
        back = _causal(q.flip(2), k.flip(2), v.flip(2), decay).flip(2)
        out = _causal(q, k, v, decay) + back - (q * k).sum(-1, keepdim=True) * v
    if call.mechanism.divides:
        out = call.mechanism.divide(out[..., :-1], out[..., -1:])
    return out[:, :, :length].to(call.v.dtype)


def step(mechanism: Kernel, q: Tensor, k: Tensor, v: Tensor, cache: KeyValueCache) -> Tensor:
    """The last place's query [B, H, 1, D] over all keys and values [B, K, Tk, D]: [B, H, 1, D'].

    The recurrent form: the state of the places before is in the ``cache``, and only what came since is added
    to it, so that a step costs O(F D) however long the sequence is.
    """
    heads, added = q.shape[1], k.shape[2] - cache.summed
    k, v = k[:, :, cache.summed :], v[:, :, cache.summed :]
    query, k, scale = mechanism.prepare(q, k)
    wide = torch.promote_types(query.dtype, torch.float32)
    gate = expand_heads(mechanism.gates(k.to(wide)), heads) if mechanism.gated else None
    query, k = mechanism.features(query.to(wide), k.to(wide), 0)
    k, new = expand_heads(k, heads), expand_heads(v.to(wide), heads)
    if mechanism.divides:
        new = torch.cat([new, new.new_ones(*new.shape[:3], 1)], -1)
    if gate is not None:
        state, kept = gates.state(k, new, gate), torch.exp(gate.sum(2)).unsqueeze(-1)
    elif mechanism.decays:
        decay = mechanism.decay(wide, k.device)
        state, kept = _state(k, new, decay), (decay**added).view(-1, 1, 1)
    else:
        state, kept = _state(k, new, None), 1.0
    if cache.state is not None:
        state = state + kept * cache.state
    cache.state, cache.summed = state, cache.summed + added
    out = (query * scale) @ state
    if mechanism.divides:
        out = mechanism.divide(out[..., :-1], out[..., -1:])
    return out.to(v.dtype)


def _rules(mask: Mask | None) -> tuple[Mask, ...]:
    return () if mask is None else mask.rules if isinstance(mask, All) else (mask,)


def _causal(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None) -> Tensor:
    """Queries [B, H, Tq, F] at the last of Tk places, over what is there up to their own: [B, H, Tq, D]."""
    length, before = q.shape[2], k.shape[2] - q.shape[2]
    state = _state(k[:, :, :before], v[:, :, :before], decay)  # [B, H, F, D]
    k, v = k[:, :, before:], v[:, :, before:]
    size = min(CHUNK, length)
    count = -(-length // size)
    missing = count * size - length
    q, k, v = (gates.longer(x, missing).unflatten(2, (count, size)) for x in (q, k, v))
    inner = (q @ k.transpose(-1, -2)).tril()  # [B, H, n, c, c]
    if decay is None:
        states = torch.cat([state.unsqueeze(2), k[:, :, :-1].transpose(-1, -2) @ v[:, :, :-1]], 2).cumsum(2)
        out = inner @ v + q @ states
        return out.flatten(2, 3)[:, :, :length]
    place = torch.arange(size, device=q.device, dtype=decay.dtype)
    log = decay.log().view(-1, 1, 1)  # [H, 1, 1]
    faded = torch.exp(log * (place.view(-1, 1) - place).clamp(min=0))  # [H, c, c]
    to_end = torch.exp(log * (size - 1 - place).view(-1, 1)).unsqueeze(1)  # [H, 1, c, 1]
    sums = (k * to_end).transpose(-1, -2) @ v  # [B, H, n, F, D]
    whole = torch.exp(log * size)  # [H, 1, 1]
    states = [state]  # unbound at once: the gradient of a single piece would be as large as all of them
    for added in sums.unbind(2)[:-1]:
        states.append(torch.addcmul(added, states[-1], whole))
    since = torch.exp(log * (place + 1).view(-1, 1)).unsqueeze(1)  # [H, 1, c, 1]
    out = (inner * faded.unsqueeze(1)) @ v + (q * since) @ torch.stack(states, 2)
    return out.flatten(2, 3)[:, :, :length]


def _state(k: Tensor, v: Tensor, decay: Tensor | None) -> Tensor:
    """What places before the first query leave: [B, H, F, D], faded to the last of them."""
    if decay is not None:
        age = torch.arange(k.shape[2] - 1, -1, -1, device=k.device, dtype=decay.dtype)
        k = k * torch.exp(decay.log().view(-1, 1, 1) * age.view(-1, 1))
    return k.transpose(-1, -2) @ v
