"""What each attention mechanism costs: time, memory, operations, distance from exact attention, growth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from attncli.attention import MECHANISMS, Causal, attend, build_mechanism, explain_choice
from attncli.attention.layouts import LAYOUTS
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.table import options_of
from attncli.bench.layouts import build_layers, held, one_step, whole
from attncli.bench.memory import peak_memory
from attncli.bench.rates import matmul_rate
from attncli.bench.timing import clock, interleave
from attncli.recipe.bench import BenchAttentionRecipe

_LARGEST = 2**31
"""Bytes of scores above which what forms them at once is left out."""
_ERROR_LENGTH = 4096
"""Longest sequence for which the exact result is computed in float64."""
TYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_KERNELS = {  # PyTorch counts those of GPUs alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *rest, out_shape=None, **more: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *rest, out_shape=None, **more: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
PLAIN, KERNEL = "plain formula", "scaled_dot_product_attention"


@dataclass(frozen=True)
class Row:
    """One case at one shape."""

    case: str
    precision: str
    direction: str
    length: int
    batch: int
    milliseconds: float
    spread: float
    """Distance between the quartiles of the rounds as a share of the median."""
    peak_mib: float
    ratio: float
    """Time over the faster of the plain formula and the fused kernel called directly, by lower quartiles:
    what else runs on a machine only ever adds."""
    gigaflop: float | None = None
    """Operations of matrix products, counted while it ran; None where the kernel is not counted."""
    share: float | None = None
    """Operations a second as a share of the machine's best matrix products in this type."""
    error: float | None = None
    """Distance from softmax attention in float64, over its size; None for long sequences."""


@dataclass(frozen=True)
class Shape:
    """What one call is given."""

    precision: str
    direction: str
    length: int
    batch: int
    heads: int
    head_width: int
    causal: bool

    @property
    def scores(self) -> int:
        """Bytes of all scores in float32."""
        return 4 * self.batch * self.heads * self.length**2


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax attention as its formula reads; all [B, H, T, D]."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # [B, H, T, T]
    if causal:
        hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(-1) @ v


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Bench:
    """The cases of a recipe: mechanisms of the core, and what one could have called instead."""

    def __init__(self, recipe: BenchAttentionRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        core = recipe.model.attention
        self.heads = core.heads or 8
        chosen = recipe.data.mechanisms
        names = list(MECHANISMS) if chosen == ["all"] else chosen or [core.mechanism]
        self.left_out: list[str] = []
        self.modules: dict[str, Mechanism] = {}
        for name in dict.fromkeys(names):
            if recipe.data.causal and not MECHANISMS[name].support.causal:
                self.left_out.append(f"{name}: it has no causal form")
                continue
            self.modules[name] = self._build(name)
        self.layers = build_layers(
            list(LAYOUTS) if recipe.data.layouts == ["all"] else recipe.data.layouts,
            heads=self.heads,
            head_width=recipe.model.head_width,
            seed=recipe.train.seed,
            device=device,
        )
        self.rates: dict[str, float] = {}

    def _build(self, name: str) -> Mechanism:
        recipe = self.recipe
        options = {
            key: value for key, value in recipe.model.attention.options().items() if key in options_of(name)
        }
        if "length" in options_of(name):
            options.setdefault("length", max(recipe.data.lengths))
        width = recipe.model.head_width
        torch.manual_seed(recipe.train.seed)
        module = build_mechanism(name, heads=self.heads, kv_heads=self.heads, head_dim=width, **options)
        return module.to(self.device).requires_grad_(False)

    def shapes(self) -> list[Shape]:
        """Every shape of the recipe."""
        data, settings = self.recipe.data, self.recipe.train
        return [
            Shape(
                precision,
                direction,
                length,
                max(1, data.tokens // length),
                self.heads,
                self.recipe.model.head_width,
                data.causal,
            )
            for precision in settings.precisions
            for direction in settings.directions
            for length in data.lengths
        ]

    def cases(self, shape: Shape) -> dict[str, Attend]:
        """What is timed at ``shape``; what would form too many scores at once is left out, and noted."""
        mask = Causal() if shape.causal else None
        backend = self.recipe.model.attention.backend
        found: dict[str, Attend] = {}
        for name, module in self.modules.items():
            quadratic = module.support.backends and not module.linear and name not in _BANDED
            if quadratic and shape.scores * module.score_width > 8 * _LARGEST:
                self._leave_out(f"{name} at {shape.length:,} tokens: it would take too long")
                continue
            usable = backend if backend in module.support.backends else "auto"
            found[f"attn {name}"] = partial(_attend, mask=mask, module=module, backend=usable)
        for name, layer in self.layers.items():
            found[f"layer {name}"] = whole(layer, shape.causal)
            if shape.direction == "forward":
                found[f"decode {name}"] = one_step(layer, shape.length)
        if shape.scores <= _LARGEST:
            found[PLAIN] = partial(plain, causal=shape.causal)
        found[KERNEL] = partial(F.scaled_dot_product_attention, is_causal=shape.causal)
        return found

    def held(self) -> list[dict[str, Any]]:
        """Numbers that a cache holds for each token under each layout."""
        return held(self.layers)

    def _leave_out(self, text: str) -> None:
        if text not in self.left_out:
            self.left_out.append(text)

    def measure(self) -> Iterator[tuple[Shape, list[Row]]]:
        """Shape after shape, a row a case."""
        recipe = self.recipe
        for shape in self.shapes():
            torch.manual_seed(recipe.train.seed)
            inputs, grad = self._inputs(shape)
            cases = self.cases(shape)
            runs = {name: partial(_step, call, inputs, grad) for name, call in cases.items()}
            first = {name: clock(run, self.device) for name, run in runs.items()}
            fitting = int(recipe.evaluate.seconds / max(1e-9, sum(first.values())))
            rounds = max(3, min(recipe.evaluate.rounds, fitting))
            warmup = min(recipe.evaluate.warmup, rounds)
            timed = interleave(runs, rounds=rounds, warmup=warmup, device=self.device)
            direct = min(timed[name].low for name in (PLAIN, KERNEL) if name in timed)
            exact = self._exact(shape, inputs)
            yield (
                shape,
                [
                    Row(
                        name,
                        shape.precision,
                        shape.direction,
                        shape.length,
                        shape.batch,
                        1e3 * timing.median,
                        timing.spread,
                        peak_memory(runs[name], self.device) / 2**20,
                        timing.low / direct,
                        *self._operations(shape, runs[name], timing.low),
                        _distance(cases[name], inputs, None if name.startswith(_LAYERS) else exact),
                    )
                    for name, timing in timed.items()
                ],
            )

    def _inputs(self, shape: Shape) -> tuple[list[Tensor], Tensor | None]:
        sizes = shape.batch, shape.heads, shape.length, shape.head_width
        kind, backward = TYPES[shape.precision], shape.direction == "backward"
        inputs = [torch.randn(sizes, device=self.device).to(kind).requires_grad_(backward) for _ in range(3)]
        return inputs, torch.randn(sizes, device=self.device).to(kind) if backward else None

    def _operations(
        self, shape: Shape, run: Callable[[], None], seconds: float
    ) -> tuple[float | None, float | None]:
        with FlopCounterMode(display=False, custom_mapping=_KERNELS) as counter:
            run()
        count = counter.get_total_flops()
        if not count:
            return None, None
        if shape.precision not in self.rates:
            self.rates[shape.precision] = matmul_rate(TYPES[shape.precision], self.device)
        return count / 1e9, count / seconds / self.rates[shape.precision]

    @staticmethod
    def _exact(shape: Shape, inputs: list[Tensor]) -> Tensor | None:
        """Softmax attention of the first sequence in float64."""
        if shape.length > _ERROR_LENGTH:
            return None
        with torch.no_grad():
            heads = [
                plain(*(x[:1, h : h + 1].double() for x in inputs), shape.causal) for h in range(shape.heads)
            ]
        return torch.cat(heads, 1)

    def backends(self) -> list[dict[str, Any]]:
        """Which backend each mechanism takes at each length, and why."""
        mask = Causal() if self.recipe.data.causal else None
        shapes = [s for s in self.shapes() if s.precision == self.recipe.train.precisions[0]]
        shapes = [s for s in shapes if s.direction == shapes[0].direction]
        found = []
        for name, module in self.modules.items():
            for shape in shapes:
                backend, reason = explain_choice(
                    shape.batch,
                    shape.heads,
                    shape.length,
                    head_dim=shape.head_width,
                    dtype=TYPES[shape.precision],
                    device=self.device,
                    mask=mask,
                    grad=shape.direction == "backward",
                    mechanism=module,
                    backend=self.recipe.model.attention.backend,
                )
                found.append(
                    {"mechanism": name, "length": shape.length, "backend": backend, "reason": reason}
                )
        return found


_LAYERS = ("layer ", "decode ")  # with projections of their own: no distance from exact attention
_BANDED = ("window", "dilated", "longformer", "bigbird")


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Causal | None, module: Mechanism, backend: str) -> Tensor:
    return attend(q, k, v, mask, mechanism=module, backend=backend)


def _step(call: Attend, inputs: list[Tensor], grad: Tensor | None) -> None:
    if grad is None:
        with torch.no_grad():
            call(*inputs)
        return
    torch.autograd.grad(call(*inputs), inputs, grad, allow_unused=True)  # a layer has one input


def _distance(call: Attend, inputs: list[Tensor], exact: Tensor | None) -> float | None:
    """How far the first sequence's output is from the exact one, by root mean squares."""
    if exact is None:
        return None
    with torch.no_grad():
        found = call(*(x[:1] for x in inputs)).double()
    return float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def growth(rows: list[Row]) -> list[dict[str, Any]]:
    """Fitted exponents of one sequence's time and memory in its length, by case, precision and direction."""
    fits = []
    for key in dict.fromkeys((r.case, r.precision, r.direction) for r in rows):
        mine = [r for r in rows if (r.case, r.precision, r.direction) == key and r.length >= 1024]
        if len(mine) < 2:
            continue
        x = torch.tensor([math.log(r.length) for r in mine], dtype=torch.float64)

        def slope(values: list[float], x: Tensor = x) -> float:
            y = torch.tensor(values, dtype=torch.float64).clamp(min=1e-9).log()
            return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())

        fits.append(
            {
                "case": key[0],
                "precision": key[1],
                "direction": key[2],
                "time_exponent": slope([r.milliseconds / r.batch for r in mine]),
                "memory_exponent": slope([r.peak_mib / r.batch for r in mine]),
            }
        )
    return fits


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [asdict(row) for row in rows]
