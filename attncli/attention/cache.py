"""The key/value cache of one attention layer, for decoding token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.errors import DataError


class KeyValueCache:
    """Keys and values of the tokens so far, in memory set aside once for ``capacity`` of them.

    Batch, heads, width, type and device are those of the first keys. The views it returns grow to the
    right; new queries are the last places, which is how masks and positions count them. For inference
    only: run under ``torch.no_grad()``.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        """Tokens held."""
        self._k: Tensor | None = None  # [B, K, capacity, D]
        self._v: Tensor | None = None
        self._positions: Tensor | None = None  # [B, capacity], once explicit positions were given
        self.state: Tensor | None = None
        """What a kernel mechanism has summed up of the first :attr:`summed` places, [B, H, F, D]."""
        self.summed = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add ``k``, ``v`` [B, K, T, D]; returns all so far, [B, K, length, D]. DataError when full."""
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise RuntimeError("a key/value cache is for inference: run under torch.no_grad()")
        new = k.shape[2]
        if self.length + new > self.capacity:
            raise DataError(f"the cache holds {self.length} of {self.capacity} tokens; {new} more do not fit")
        if self._k is None or self._v is None:
            with torch.inference_mode(False):
                self._k = k.new_empty(*k.shape[:2], self.capacity, k.shape[3])
                self._v = v.new_empty(*v.shape[:2], self.capacity, v.shape[3])
        if self._k.shape[0] != k.shape[0]:
            raise DataError(f"the cache holds a batch of {self._k.shape[0]}, not of {k.shape[0]}")
        end = self.length + new
        self._k[:, :, self.length : end] = k
        self._v[:, :, self.length : end] = v
        self.length = end
        return self._k[:, :, :end], self._v[:, :, :end]

    def place(self, positions: Tensor | None, new: int, batch: int, device: torch.device) -> Tensor | None:
        """Explicit positions [B, length] of all keys, after ``append`` of ``new``; None if never given."""
        if positions is None and self._positions is None:
            return None
        if self._positions is None:
            with torch.inference_mode(False):
                self._positions = torch.arange(self.capacity, device=device).repeat(batch, 1)
        start = self.length - new
        if positions is None:
            positions = torch.arange(start, self.length, device=device)
        self._positions[:, start : self.length] = positions
        return self._positions[:, : self.length]

    def held(self) -> tuple[Tensor, Tensor] | None:
        """All keys and values, [B, K, length, D]; None when empty."""
        if self._k is None or self._v is None or self.length == 0:
            return None
        return self._k[:, :, : self.length], self._v[:, :, : self.length]

    def reorder(self, rows: Tensor) -> None:
        """Let batch entry ``i`` be what entry ``rows[i]`` was (beam search); ``rows`` int64 [B'], any B'."""
        if self._k is None or self._v is None:
            return
        with torch.inference_mode(False):
            for name in ("_k", "_v", "_positions"):
                old = getattr(self, name)
                if old is None:
                    continue
                along = 1 if name == "_positions" else 2
                new = old.new_empty(rows.shape[0], *old.shape[1:])
                held = old.narrow(along, 0, self.length)
                new.narrow(along, 0, self.length).copy_(held.index_select(0, rows))
                setattr(self, name, new)
            if self.state is not None:
                self.state = self.state.index_select(0, rows)

    def truncate(self, length: int) -> None:
        """Forget all tokens from place ``length`` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length
        if length < self.summed:
            self.state, self.summed = None, 0
