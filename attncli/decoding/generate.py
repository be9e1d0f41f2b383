"""Continuing a prompt, token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from attncli.decoding.sampling import Sampling

Step = Callable[[Tensor, Any], Tensor]
"""``step(tokens [B, T], cache) -> logits [B, T or 1, V]``; adds the tokens to the cache, if there is one."""


def generate(
    step: Step,
    prompt: Tensor,
    *,
    length: int,
    limit: int,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    stop: Collection[int] = (),
    seed: int | None = None,
    new_cache: Callable[[], Any] | None = None,
) -> Iterator[Tensor]:
    """Yield the tokens that follow ``prompt``, one [B] tensor at a time, as soon as each is known.

    The model sees at most ``length`` tokens. A longer prompt is cut to its last ``length``; whenever the text
    outgrows ``length``, the context is cut to its last three quarters and read again, so that a full
    cache costs three more readings of a token rather than ``length``. With and without a cache the same
    context is seen and the same tokens follow.

    Args:
        step: the model.
        prompt: tokens [B, T] with T of at least 1, the same for all rows.
        length: tokens the model can see.
        limit: tokens to generate at most.
        sampling: how each is chosen.
        stop: tokens that end a row. They are yielded; a row that has ended repeats its last token
            until all have.
        seed: of the draws; None draws from PyTorch's own generator.
        new_cache: makes an empty cache for ``length`` tokens; None reads the whole context each time.
    """
    if prompt.ndim != 2 or prompt.shape[1] == 0:
        raise ValueError("a prompt has the shape [B, T] and at least one token")
    generator = None
    if seed is not None:
        generator = torch.Generator(device=prompt.device).manual_seed(seed)
    context = prompt[:, -length:]  # [B, <= length]
    cache = None if new_cache is None else new_cache()
    unread = context
    ends = torch.tensor(sorted(stop), dtype=prompt.dtype, device=prompt.device)
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    last = context[:, -1]
    for _ in range(limit):
        # Inside, not around the loop: a caller's own grad mode must hold between two tokens.
        with torch.inference_mode():
            logits = step(unread if cache is not None else context, cache)[:, -1]  # [B, V]
            last = torch.where(ended, last, sampling.choose(logits, generator))
            ended = ended | torch.isin(last, ends)
        yield last
        if bool(ended.all()):
            return
        unread = last[:, None]
        context = torch.cat([context, unread], dim=1)
        if context.shape[1] > length:
            context = context[:, -max(1, length * 3 // 4) :]
            if new_cache is not None:
                cache, unread = new_cache(), context
