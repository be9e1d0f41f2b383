"""Masks as rules: which key each query may attend to.

A rule is evaluated at index tensors, so that one definition serves the dense mask, any chunk of it and
flex attention's ``mask_mod``. Rules are composed with ``&``. A mask is made dense only where a backend
needs it, and kept on the mask object: layers that share the object build it once.

Queries and keys are aligned to the right: query ``i`` of ``Tq`` stands at place ``i + shift`` among the
``Tk`` keys, ``shift = Tk - Tq``. With a key/value cache the queries are thus the last ones.

Legend: B batch, H heads, Tq queries, Tk keys; r, c rows and columns of a chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attncli.errors import RecipeError

DENSE_LIMIT = 2**23
"""Elements of a dense mask that is built and kept; larger ones are evaluated chunk by chunk."""

Places = tuple[Tensor, Tensor] | None
"""Where queries [B|1, Tq] and keys [B|1, Tk] stand, int64; None: keys in order, queries at their end."""

_KEPT = 6  # dense forms remembered on one mask object


class Mask(ABC):
    """A rule. Subclasses say where it allows attention, and optionally bound the keys a row can see."""

    kind: str = "dense"
    """Cost class of the rule, part of the key by which backends are chosen."""

    def __init__(self) -> None:
        self._memo: OrderedDict[Any, Any] = OrderedDict()

    @abstractmethod
    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """Bool tensor, True where attention is allowed, at broadcastable int64 index tensors.

        ``q`` counts queries from 0 to Tq - 1; among the keys, query ``q`` stands at ``q + shift``.
        The result broadcasts with the indices and need not have the dimensions it does not depend on.
        """

    def key_range(self, first: int, last: int, shift: int) -> tuple[int | None, int | None]:
        """Keys ``[low, high)`` outside which no query in ``[first, last)`` may attend; None is unbounded."""
        return None, None

    def check(self, batch: int, heads: int, queries: int, keys: int) -> None:
        """Raise :class:`RecipeError` when the rule's tensors do not fit these sizes."""
        return

    def __and__(self, other: Mask | None) -> Mask:
        if other is None or other is self:
            return self
        if not isinstance(other, Mask):
            return NotImplemented
        return _compose(self, other)

    def evaluate(
        self, batch: slice, head: slice, rows: slice, cols: slice, shift: int, device: torch.device
    ) -> Tensor:
        """The rule over a chunk: bool, broadcastable to [batch, head, r, c], four dimensions."""
        found = self.allowed(
            torch.arange(batch.start, batch.stop, device=device).view(-1, 1, 1, 1),
            torch.arange(head.start, head.stop, device=device).view(1, -1, 1, 1),
            torch.arange(rows.start, rows.stop, device=device).view(1, 1, -1, 1),
            torch.arange(cols.start, cols.stop, device=device).view(1, 1, 1, -1),
            shift,
        )
        return found.reshape((1,) * (4 - found.ndim) + found.shape)

    def dense(self, batch: int, heads: int, queries: int, keys: int, device: torch.device) -> Tensor:
        """The whole rule: bool, broadcastable to [B, H, Tq, Tk] (size 1 where it does not vary). Kept."""

        def build() -> Tensor:
            whole = slice(0, batch), slice(0, heads), slice(0, queries), slice(0, keys)
            return self.evaluate(*whole, keys - queries, device)

        return self.remember(("dense", batch, heads, queries, keys, device), build)

    def dense_size(self, batch: int, heads: int, queries: int, keys: int, device: torch.device) -> int:
        """Elements that :meth:`dense` would have, seen without building it."""

        def build() -> int:
            corner = slice(0, batch), slice(0, heads), slice(0, min(2, queries)), slice(0, min(2, keys))
            b, h, q, k = self.evaluate(*corner, keys - queries, device).shape
            return b * h * (queries if q > 1 else 1) * (keys if k > 1 else 1)

        return self.remember(("size", batch, heads, queries, keys, device), build)

    def additive(
        self, batch: int, heads: int, queries: int, keys: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """``(term, empty)``: 0 where allowed and -inf elsewhere, and the rows that may see nothing. Kept.

        Rows with nothing to attend to are 0 throughout in ``term``, so that their softmax is finite;
        the caller zeroes its output at ``empty`` (bool [B|1, H|1, Tq|1, 1], None when there is none).
        """

        def build() -> tuple[Tensor, Tensor | None]:
            return to_additive(self.dense(batch, heads, queries, keys, device), dtype)

        return self.remember(("additive", batch, heads, queries, keys, device, dtype), build)

    def mask_mod(self, shift: int) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """The rule as flex attention's ``mask_mod(b, h, q, kv)``."""

        def mod(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            return self.allowed(b, h, q, kv, shift)

        return mod

    def remember(self, key: Any, build: Callable[[], Any]) -> Any:
        """``build()``, made once for this object and ``key``; the last few are kept."""
        compiling = torch.compiler.is_compiling()
        if not compiling and key in self._memo:  # a key of symbolic sizes could not be looked up
            return self._memo[key]
        # Tensors made in inference mode could not be saved for a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            value = build()
        if not compiling:
            self._memo[key] = value
            while len(self._memo) > _KEPT:
                self._memo.popitem(last=False)
        return value


def to_additive(allowed: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """``(term, empty)`` of :meth:`Mask.additive` from a bool tensor [B|1, H|1, r|1, c]."""
    empty = ~allowed.any(-1, keepdim=True)
    # On the CPU it is cheap to look; elsewhere looking would wait for the device.
    none_empty = allowed.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(empty.any())
    if not none_empty:
        allowed = allowed | empty
    term = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -torch.inf)
    return term, None if none_empty else empty


_composed: OrderedDict[tuple[int, int], tuple[Mask, Mask, All]] = OrderedDict()


def _compose(first: Mask, second: Mask) -> All:
    """``first & second``, the same object for the same two: each layer's own ``&`` shares one dense form."""
    key = id(first), id(second)
    if key not in _composed:
        _composed[key] = first, second, All(first, second)  # held, so that the ids stay theirs
        while len(_composed) > 4:
            _composed.popitem(last=False)
    return _composed[key][-1]


class All(Mask):
    """Several rules that must all allow; made by ``&``."""

    def __init__(self, *rules: Mask) -> None:
        super().__init__()
        flat: list[Mask] = []
        for rule in rules:
            for part in rule.rules if isinstance(rule, All) else (rule,):
                if part not in flat:
                    flat.append(part)
        self.rules = tuple(flat)
        self.kind = "&".join(sorted({part.kind for part in flat}))

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """True where every rule is."""
        found = self.rules[0].allowed(batch, head, q, k, shift)
        for rule in self.rules[1:]:
            found = found & rule.allowed(batch, head, q, k, shift)
        return found

    def key_range(self, first: int, last: int, shift: int) -> tuple[int | None, int | None]:
        """The intersection of the rules' ranges."""
        low: int | None = None
        high: int | None = None
        for rule in self.rules:
            a, b = rule.key_range(first, last, shift)
            low = a if low is None else low if a is None else max(low, a)
            high = b if high is None else high if b is None else min(high, b)
        return low, high

    def check(self, batch: int, heads: int, queries: int, keys: int) -> None:
        """Check each rule."""
        for rule in self.rules:
            rule.check(batch, heads, queries, keys)


class Causal(Mask):
    """A query sees its own place and those before it, counted from the right end of the keys."""

    kind = "causal"

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """``k <= q + shift``."""
        return k <= q + shift

    def key_range(self, first: int, last: int, shift: int) -> tuple[int | None, int | None]:
        """Nothing right of the last query."""
        return None, last + shift

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Causal)

    def __hash__(self) -> int:
        return hash(Causal)


class Window(Mask):
    """A query sees ``left`` places before its own and ``right`` after it (None: no limit on that side).

    ``places`` says where queries and keys stand, for keys that are not in order.
    """

    def __init__(self, left: int | None, right: int | None, places: Places = None) -> None:
        super().__init__()
        self.places = places
        for name, value in (("left", left), ("right", right)):
            if value is not None and value < 0:
                raise RecipeError(f"window {name} is {value}; it must not be negative")
        self.left, self.right = left, right
        self.kind = f"window{(left or 0) + (right or 0)}"

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """``-left <= k - (q + shift) <= right``."""
        away = k - (q + shift) if self.places is None else self._between(batch, q, k)
        if self.left is None and self.right is None:
            return torch.ones_like(away, dtype=torch.bool)
        if self.left is None:
            return away <= self.right
        if self.right is None:
            return away >= -self.left
        return (away >= -self.left) & (away <= self.right)

    def _between(self, batch: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Key place minus query place."""
        q_places, k_places = self.places
        return k_places[_entry(k_places, batch), k] - q_places[_entry(q_places, batch), q]

    def key_range(self, first: int, last: int, shift: int) -> tuple[int | None, int | None]:
        """The band around the rows."""
        if self.places is not None:
            return None, None
        low = None if self.left is None else first + shift - self.left
        return low, None if self.right is None else last + shift + self.right

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Window) or self.places is not other.places:
            return False
        return (self.left, self.right) == (other.left, other.right)

    def __hash__(self) -> int:
        return hash((Window, self.left, self.right, id(self.places)))


class Padding(Mask):
    """Keys that are real; ``keep`` is bool [B, Tk], True for a token and False for padding."""

    kind = "padding"

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        if keep.dtype != torch.bool or keep.ndim != 2:
            raise RecipeError(f"padding keep is {keep.dtype} {list(keep.shape)}; it must be bool [B, Tk]")
        self.keep = keep

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """``keep[batch, k]``."""
        return self.keep[batch, k]

    def check(self, batch: int, heads: int, queries: int, keys: int) -> None:
        """``keep`` covers all keys, those in a cache included."""
        _fits("padding keep", self.keep.shape, (batch, keys))


class Documents(Mask):
    """Rows packed from several documents: attention stays inside one.

    ``ids`` int64 [B, Tk] numbers the document of each key and, right-aligned, of each query;
    ``query_ids`` [B, Tq] is given when queries are of another sequence.
    """

    kind = "documents"

    def __init__(self, ids: Tensor, query_ids: Tensor | None = None) -> None:
        super().__init__()
        self.ids, self.query_ids = ids, query_ids

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """``ids[batch, q + shift] == ids[batch, k]``."""
        if self.query_ids is not None:
            return self.query_ids[batch, q] == self.ids[batch, k]
        return self.ids[batch, q + shift] == self.ids[batch, k]

    def check(self, batch: int, heads: int, queries: int, keys: int) -> None:
        """``ids`` covers all keys, those in a cache included."""
        _fits("documents ids", self.ids.shape, (batch, keys))
        if self.query_ids is not None:
            _fits("documents query_ids", self.query_ids.shape, (batch, queries))
        elif queries > keys:
            raise RecipeError(f"documents with {queries} queries and {keys} keys needs query_ids")


class Dense(Mask):
    """Any pattern: ``allowed`` bool [Tq, Tk], [B, Tq, Tk] or [B, H, Tq, Tk]; B and H may be 1."""

    def __init__(self, allowed: Tensor) -> None:
        super().__init__()
        if allowed.dtype != torch.bool or not 2 <= allowed.ndim <= 4:
            raise RecipeError(
                f"dense mask is {allowed.dtype} {list(allowed.shape)}; it must be bool [Tq, Tk], "
                "[B, Tq, Tk] or [B, H, Tq, Tk]"
            )
        self.pattern = allowed.unsqueeze(1) if allowed.ndim == 3 else allowed
        self.pattern = self.pattern.reshape((1,) * (4 - self.pattern.ndim) + self.pattern.shape)

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """The pattern at these indices."""
        h = head if self.pattern.shape[1] > 1 else 0
        return self.pattern[_entry(self.pattern, batch), h, q, k]

    def evaluate(
        self, batch: slice, head: slice, rows: slice, cols: slice, shift: int, device: torch.device
    ) -> Tensor:
        """A chunk of the pattern."""
        b = batch if self.pattern.shape[0] > 1 else slice(None)
        h = head if self.pattern.shape[1] > 1 else slice(None)
        return self.pattern[b, h, rows, cols]

    def check(self, batch: int, heads: int, queries: int, keys: int) -> None:
        """The pattern has these sizes."""
        b, h, *_ = self.pattern.shape
        sizes = (batch if b > 1 else 1, heads if h > 1 else 1, queries, keys)
        _fits("dense mask", self.pattern.shape, sizes)


def simplify(mask: Mask | None, queries: int, keys: int) -> Mask | None:
    """The mask without rules that allow everything at these sizes (causality for one last query)."""
    if mask is None or not (isinstance(queries, int) and isinstance(keys, int)):  # symbolic: not known
        return mask
    rules = mask.rules if isinstance(mask, All) else (mask,)
    kept = [rule for rule in rules if not _allows_all(rule, queries, keys)]
    if len(kept) == len(rules):
        return mask
    if not kept:
        return None
    found = kept[0]
    for rule in kept[1:]:
        found = found & rule
    return found


def only_distance(mask: Mask | None) -> bool:
    """Whether nothing but the distance of query and key decides."""
    rules = mask.rules if isinstance(mask, All) else (mask,)
    return all(isinstance(r, Causal) or (isinstance(r, Window) and r.places is None) for r in rules)


def _allows_all(rule: Mask, queries: int, keys: int) -> bool:
    if isinstance(rule, Causal):
        return queries == 1
    if isinstance(rule, Window) and rule.places is None:
        left = rule.left is None or rule.left >= keys - 1
        return left and (rule.right is None or (rule.right >= keys - 1 and queries <= keys))
    return False


def _entry(x: Tensor, batch: Tensor) -> Tensor | int:
    """The index into the first dimension of ``x`` [B|1, ...]."""
    return batch if x.shape[0] > 1 else 0


def _fits(what: str, shape: torch.Size, sizes: tuple[int, ...]) -> None:
    if tuple(shape) != sizes:
        raise RecipeError(f"{what} is {list(shape)}; here it must be {list(sizes)}")
