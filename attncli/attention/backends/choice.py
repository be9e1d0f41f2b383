"""Which backend computes a call, and why.

On a CPU the faster of the fused kernel and the chunked formula depends on the machine, the type, the
length and whether gradients follow. At first sight of a kind of call both are timed on a slice of it, and
the result is kept (``store.py``). Elsewhere, and where timing is impossible, fixed rules decide.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from attncli.attention.backends import BACKENDS, blocks, linear, store
from attncli.attention.backends.base import Call
from attncli.attention.backends.fused import band_of
from attncli.attention.backends.plan import has_rest
from attncli.attention.masks import DENSE_LIMIT, Causal, Dense, Mask, Padding, Window
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.positions.base import DenseBias
from attncli.errors import Problem, RecipeError

try:
    import resource
except ImportError:  # not on this system: every run counts as undisturbed
    resource = None  # type: ignore[assignment]

SMALL = 2**20
"""Weights up to which the plain formula in one piece is a candidate."""
_SLICE = 2**19  # weights in a timed slice, where heads and queries can be cut so far
_SECONDS = 0.1  # timing takes about so long; ten times that where it is disturbed

_used: dict[str, str] = {}
_given: dict[str, str] = {}
_exact: dict[tuple, str] = {}  # choices by exact sizes, so that a call costs one look-up


def choices() -> dict[str, str]:
    """The measured choices used so far, as plain strings: stored with a run, given to :func:`use_choices`."""
    return dict(_used)


def restore_choices(given: Mapping[str, str]) -> None:
    """From now on these choices stand, whatever this machine would measure; others are measured."""
    _given.clear()
    _given.update(given)
    _exact.clear()


@contextlib.contextmanager
def use_choices(given: Mapping[str, str]) -> Iterator[None]:
    """:func:`restore_choices` within the context, beside those given already."""
    before = dict(_given)
    restore_choices(before | dict(given))
    try:
        yield
    finally:
        restore_choices(before)


def choose(call: Call, backend: str = "auto") -> str:
    """The backend's name. A named one that cannot compute the call is a :class:`RecipeError`."""
    if backend != "auto":
        _require(call, backend)
        return backend
    if call.q.device.type != "cpu" or not call.mechanism.fusable or torch.compiler.is_compiling():
        return explain(call)[0]
    key = _exact_key(call)
    if key not in _exact:
        if len(_exact) > 4096:
            _exact.clear()
        _exact[key] = explain(call)[0]
    return _exact[key]


def explain(call: Call, backend: str = "auto") -> tuple[str, str]:
    """The backend's name and the reason for it."""
    if backend != "auto":
        _require(call, backend)
        return backend, "asked for"
    batch, heads, queries, keys = call.sizes
    total = batch * heads * queries * keys * call.mechanism.score_width
    for name, backend in (("linear", linear), ("blocks", blocks)):
        if name in call.mechanism.support.backends and backend.refuses(call) is None and backend.pays(call):
            return name, "its cost grows linearly with the length"
    refusal = BACKENDS["fused"].refuses(call)
    if call.q.device.type != "cpu" or torch.compiler.is_compiling():
        where = "under torch.compile" if torch.compiler.is_compiling() else f"on {call.q.device.type}"
        if refusal is None and _dense_size(call) <= DENSE_LIMIT * 32:
            return "fused", f"the rule {where}"
        name = "reference" if total <= SMALL * 16 else "chunked"
        return name, f"{refusal or 'the mask is large'}; the rule {where} by size"
    if not call.mechanism.fusable or (call.bias is not None and call.bias.needs_query):
        name = "reference" if total <= SMALL else "chunked"
        return name, f"{refusal}; {'small enough for one piece' if total <= SMALL else 'memory stays linear'}"
    candidates = ["chunked"]
    if refusal is None and _dense_size(call) <= DENSE_LIMIT:
        candidates.insert(0, "fused")
    if _is_small(call):
        candidates.append("reference")
    if len(candidates) == 1:
        return candidates[0], refusal or "the mask is too large to be made dense"
    key = choice_key(call)
    name, reason = _given.get(key), "given with the run"
    if name not in candidates:
        name, reason = store.lookup(key), "measured on this machine"
    if name not in candidates:
        name = store.settle(key, lambda: _measure(call, candidates))
    if name not in candidates:  # written by another version
        name, reason = candidates[0], "the first that can"
    _used[key] = name
    return name, f"{reason} for {key}"


def _require(call: Call, backend: str) -> None:
    usable = [name for name in call.mechanism.support.backends if BACKENDS[name].refuses(call) is None]
    if backend in usable:
        return
    if backend not in BACKENDS:
        raise RecipeError(
            Problem(f"no backend is called {backend!r}", hint=f"there are auto, {', '.join(BACKENDS)}")
        )
    if backend not in call.mechanism.support.backends:
        why = f"mechanism {call.mechanism.name} is not computed by it"
    else:
        why = BACKENDS[backend].refuses(call)
    hint = f"here these would: auto, {', '.join(usable)}" if usable else "it needs backend auto"
    raise RecipeError(Problem(f"backend {backend} cannot compute this attention: {why}", hint=hint))


def _is_small(call: Call) -> bool:
    """Whether the formula in one piece is a candidate: few weights, of a type in which it computes."""
    batch, heads, queries, keys = call.sizes
    return batch * heads * queries * keys <= SMALL and call.q.element_size() >= 4


def _dense_size(call: Call) -> int:
    """Elements of the additive term that the fused kernel would need."""
    batch, heads, queries, keys = call.sizes
    size = 0
    if call.bias is not None:
        size = heads * queries * keys
    mask = call.mask
    if mask is not None and not (call.causal_only and queries == keys):
        if call.bias is None and band_of(mask, queries, keys) is not None:
            return 0
        size = max(size, mask.dense_size(batch, heads, queries, keys, call.q.device))
    return size


def _mask_kind(call: Call) -> str:
    """none, causal, row (the same for all queries), band with its width, or dense."""
    batch, heads, queries, keys = call.sizes
    mask = call.mask
    if mask is None:
        return "none"
    if call.causal_only and queries == keys:
        return "causal"
    band = band_of(mask, queries, keys)
    if band is not None:
        return f"band{_bucket(sum(band) + 1)}"
    size = mask.dense_size(batch, heads, queries, keys, call.q.device)
    return "row" if size <= batch * heads * keys and queries > 1 else "dense"


def _exact_key(call: Call) -> tuple:
    mask, bias = call.mask, call.bias
    return (
        *call.sizes, call.k.shape[1], call.q.shape[-1], call.v.shape[-1], call.q.dtype,
        None if mask is None else (mask.kind, _dense_size(call) <= DENSE_LIMIT),
        None if bias is None else (type(bias), call.bias_grad), call.dropout > 0, call.with_grad,
        torch.get_num_threads(), call.places is None,
    )  # fmt: skip


def _bucket(n: int) -> int:
    """The power of two nearest to ``n``, by ratio."""
    return 2 ** round(math.log2(max(n, 1)))


def _sizes(call: Call) -> tuple[int, int, int]:
    """Heads of all examples, queries and keys, in powers of two up to where more changes nothing.

    Of the shortest sequences many heads go together before what a call costs by itself is lost in the rest.
    """
    batch, heads, queries, keys = call.sizes
    q_len, k_len = min(4096, _bucket(queries)), min(4096, _bucket(keys))
    most = max(64, min(1024, 2**16 // (q_len * k_len)))
    return min(most, _bucket(batch * heads)), q_len, k_len


def choice_key(call: Call) -> str:
    """The kind of a call: what its fastest backend depends on, sizes in powers of two."""
    count, q_len, k_len = _sizes(call)
    sizes = f"bh{count} q{q_len} k{k_len}"
    kind = str(call.q.dtype).removeprefix("torch.")
    extra = (" bias" if call.bias is not None else "") + (" small" if _is_small(call) else "")
    extra += " rest" if has_rest(call) else ""
    drop, grad = " dropout" if call.dropout > 0 else "", " grad" if call.with_grad else ""
    return f"{call.q.device.type} {kind} {sizes} d{call.q.shape[-1]} {_mask_kind(call)}{extra}{drop}{grad}"


def _measure(call: Call, candidates: list[str]) -> str:
    """The fastest candidate on a slice of a call of this kind."""
    # A timing must leave no trace in what it times: generators, gradients, autocast, checkpointing.
    with (
        torch.autograd.graph.saved_tensors_hooks(_same, _same),
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.set_grad_enabled(call.with_grad),
        torch.autocast("cpu", enabled=False),
    ):
        sample, grad = _sample(call)
        return min_time({name: lambda name=name: _once(name, sample, grad) for name in candidates})


def _same(tensor: Tensor) -> Tensor:
    return tensor


def min_time(runs: Mapping[str, Callable[[], None]]) -> str:
    """The name whose function has the least elapsed time, in a few interleaved rounds.

    Where other programs interrupt the runs there are more rounds, until each was timed undisturbed.
    """
    for run in runs.values():
        run()  # first runs load kernels: they tell nothing
    start = time.perf_counter()
    alive = list(runs)
    best = dict.fromkeys(alive, math.inf)
    undisturbed: set[str] = set()
    for number in range(64):
        calm = undisturbed.issuperset(alive)
        limit = _SECONDS if calm else 10 * _SECONDS
        late = number >= 3 and time.perf_counter() - start > limit
        if len(alive) == 1 or late or (calm and number >= 6):
            break
        for name in alive:
            elapsed, interrupted = _timed(runs[name])
            best[name] = min(best[name], elapsed)
            if not interrupted:
                undisturbed.add(name)
        least = min(best[name] for name in alive)
        alive = [name for name in alive if best[name] <= (1.6 if number else 3) * least]
    return min(alive, key=best.__getitem__)


def _timed(run: Callable[[], None]) -> tuple[float, int]:
    """Elapsed seconds, and how often other programs interrupted."""
    before, start = _interruptions(), time.perf_counter()
    run()
    return time.perf_counter() - start, _interruptions() - before


def _interruptions() -> int:
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _once(name: str, sample: Call, grad: Tensor) -> None:
    out = BACKENDS[name].run(sample)
    if sample.with_grad:
        torch.autograd.grad(out, (sample.q, sample.k, sample.v), grad)


def _sample(call: Call) -> tuple[Call, Tensor]:
    """A call of the same kind, of bucketed sizes, on as few heads and queries as show its speed."""
    width, threads, kind = call.q.shape[-1], torch.get_num_threads(), _mask_kind(call)
    count, q_len, k_len = _sizes(call)
    if kind == "causal" or kind.startswith("band"):
        q_len = k_len = min(2048, q_len)
    count = max(min(count, threads), min(count, _SLICE // (q_len * k_len)))
    if kind in ("none", "row", "dense"):
        q_len = min(q_len, max(768, 8 * _SLICE // (count * k_len)))  # below 768 the kernel cuts otherwise
    if has_rest(call) and k_len > 1:
        k_len, q_len = k_len - 1, q_len - (q_len == k_len)
    mask = _sample_mask(call.mask, kind, q_len, k_len)
    leaf = torch.randn(k_len + q_len, 3, count, width, dtype=torch.float32).to(call.q.dtype)

    def heads_of(index: int, length: int) -> Tensor:  # strided as a fused projection leaves it
        return leaf[:length, index].unsqueeze(0).transpose(1, 2).detach().requires_grad_(call.with_grad)

    mechanism = ScaledDot(heads=count, kv_heads=count, head_dim=width)
    bias = None
    if call.bias is not None:
        term = torch.zeros(1, count, q_len, k_len, dtype=call.q.dtype)
        bias = DenseBias(term.requires_grad_(call.bias_grad))
    q, k, v = heads_of(0, q_len), heads_of(1, k_len), heads_of(2, k_len)
    sample = Call(q, k, v, mask, bias, width**-0.5, call.dropout, mechanism)
    return sample, torch.randn(1, q_len, count, width).to(call.q.dtype).transpose(1, 2)


def _sample_mask(mask: Mask | None, kind: str, queries: int, keys: int) -> Mask | None:
    if mask is None:
        return None
    if kind == "causal":
        return Causal()
    if kind.startswith("band"):
        side = int(kind.removeprefix("band")) // 2
        return Window(side, side)
    if kind == "row":
        return Padding(torch.ones(1, keys, dtype=torch.bool))
    return Dense(torch.ones(queries, keys, dtype=torch.bool))
