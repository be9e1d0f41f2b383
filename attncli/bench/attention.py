"""What each attention mechanism costs: time, memory, operations, distance from exact attention, growth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from attncli.attention import Causal, explain_choice
from attncli.attention.mechanisms.base import Mechanism
from attncli.bench.cases import FLEX, TYPES, Case, Cases, Shape, direct, plain
from attncli.bench.layouts import held
from attncli.bench.memory import peak_memory
from attncli.bench.rates import matmul_rate
from attncli.bench.timing import clock, interleave
from attncli.recipe.bench import BenchAttentionRecipe

_ERROR = 0.02
"""Standard error of a time, as a share, above which a shape is measured for longer."""
_ERROR_LENGTH = 4096
"""Longest sequence for which the exact result is computed in float64."""
_KERNELS = {  # PyTorch counts those of GPUs alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *rest, out_shape=None, **more: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *rest, out_shape=None, **more: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


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
    """Time over the faster of the plain formula and the fused kernel called directly, of whole layers over
    torch.nn.MultiheadAttention; by lower quartiles, as what else runs on a machine only ever adds."""
    ratio_error: float | None = None
    """Standard error of the ratio, as a share of it."""
    rounds: int | None = None
    gigaflop: float | None = None
    """Operations of matrix products, counted while it ran; None where the kernel is not counted."""
    share: float | None = None
    """Operations a second as a share of the machine's best matrix products in this type."""
    error: float | None = None
    """Distance from softmax attention in float64, over its size; None for long sequences."""


class Bench:
    """The cases of a recipe at all its shapes."""

    def __init__(self, recipe: BenchAttentionRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.cases = Cases(recipe, device)
        self.rates: dict[str, float] = {}

    def held(self) -> list[dict[str, Any]]:
        """Numbers that a cache holds for each token under each head layout."""
        return held(self.cases.layouts)

    @property
    def left_out(self) -> list[str]:
        """What is not timed, and why."""
        return self.cases.left_out

    def shapes(self) -> list[Shape]:
        """Every shape of the recipe."""
        data, settings = self.recipe.data, self.recipe.train
        return [
            Shape(
                precision,
                direction,
                length,
                max(1, data.tokens // length),
                self.cases.heads,
                self.recipe.model.head_width,
                data.causal,
            )
            for precision in settings.precisions
            for direction in settings.directions
            for length in data.lengths
        ]

    def measure(
        self, on_share: Callable[[float, Shape], None] | None = None
    ) -> Iterator[tuple[Shape, list[Row]]]:
        """Shape after shape, a row a case; ``on_share`` hears of how many shapes are done, with fractions."""
        settings = self.recipe.evaluate
        for number, shape in enumerate(self.shapes()):

            def told(share: float, number: int = number, shape: Shape = shape) -> None:
                if on_share:
                    on_share(number + share, shape)

            torch.manual_seed(self.recipe.train.seed)
            inputs, grad = self._inputs(shape)
            cases = {case.name: case for case in self.cases.at(shape)}
            given = {name: _given(case, inputs) for name, case in cases.items()}
            runs = {name: partial(_step, case, given[name], grad) for name, case in cases.items()}
            first = {}
            for name in runs:
                runs[name]()  # it compiles, and measures backends
                first[name] = clock(runs[name], self.device)
                told(0.2 * len(first) / len(runs))
            fitting = int(settings.seconds / max(1e-9, sum(first.values())))
            rounds = max(3, min(settings.rounds, fitting))
            warmup = min(settings.warmup, rounds // 3)
            timed = interleave(
                runs,
                rounds=rounds,
                warmup=warmup,
                device=self.device,
                until=_ERROR,
                budget=settings.seconds,
                on_round=lambda done, of=rounds + warmup, told=told: told(0.2 + 0.5 * done / of),
            )
            exact = {layer: self._exact(shape, inputs, layer) for layer in (False, True)}
            rows = []
            for name, timing in timed.items():
                case = cases[name]
                least = min((timed[d] for d in direct(case) if d in timed), key=lambda timing: timing.low)
                rows.append(
                    Row(
                        name,
                        shape.precision,
                        shape.direction,
                        shape.length,
                        shape.batch,
                        1e3 * timing.median,
                        timing.spread,
                        peak_memory(runs[name], self.device) / 2**20,
                        timing.low / least.low,
                        math.hypot(timing.error, least.error) if timing is not least else 0.0,
                        timing.rounds,
                        *self._operations(case, shape, runs[name], timing.low),
                        _distance(case, given[name], exact[case.layer] if case.exact else None),
                    )
                )
                told(0.7 + 0.3 * len(rows) / len(timed))
            yield shape, rows

    def _inputs(self, shape: Shape) -> tuple[list[Tensor], Tensor | None]:
        """Queries, keys and values [B, H, T, D], and what comes back where there is a backward pass."""
        sizes = shape.batch, shape.heads, shape.length, shape.head_width
        kind, backward = TYPES[shape.precision], shape.direction == "backward"
        inputs = [torch.randn(sizes, device=self.device).to(kind).requires_grad_(backward) for _ in range(3)]
        return inputs, torch.randn(sizes, device=self.device).to(kind) if backward else None

    def _operations(
        self, case: Case, shape: Shape, run: Callable[[], None], seconds: float
    ) -> tuple[float | None, float | None]:
        if case.name == FLEX or self._chosen(case.module, shape)[0] == "flex":
            return None, None  # what is compiled cannot run under a counter
        with FlopCounterMode(display=False, custom_mapping=_KERNELS) as counter:
            run()
        count = counter.get_total_flops()
        if not count:
            return None, None
        if shape.precision not in self.rates:
            self.rates[shape.precision] = matmul_rate(TYPES[shape.precision], self.device)
        return count / 1e9, count / seconds / self.rates[shape.precision]

    @torch.no_grad()
    def _exact(self, shape: Shape, inputs: list[Tensor], layer: bool) -> Tensor | None:
        """Softmax attention of the first sequence in float64; of a layer with its projections."""
        if shape.length > _ERROR_LENGTH or (layer and not self.recipe.evaluate.peers):
            return None
        q, k, v = (x[:1].double() for x in inputs)
        if layer:
            module = self.cases.layers(shape)[0]
            parts = module.qkv(_rows(q)).unflatten(-1, (3, shape.heads, shape.head_width))  # [1, T, 3, H, D]
            q, k, v = parts.permute(2, 0, 3, 1, 4)
        one = [plain(*(x[:, h : h + 1] for x in (q, k, v)), shape.causal) for h in range(shape.heads)]
        found = torch.cat(one, 1)
        return module.out(_rows(found)) if layer else found

    def backends(self) -> list[dict[str, Any]]:
        """Which backend each mechanism takes at each length, and why."""
        shapes = [s for s in self.shapes() if s.precision == self.recipe.train.precisions[0]]
        shapes = [s for s in shapes if s.direction == shapes[0].direction]
        found = []
        for name, module in self.cases.modules.items():
            for shape in shapes:
                backend, reason = self._chosen(module, shape)
                found.append(
                    {"mechanism": name, "length": shape.length, "backend": backend, "reason": reason}
                )
        return found

    def _chosen(self, module: Mechanism | None, shape: Shape) -> tuple[str, str]:
        """The backend of a mechanism at a shape, and why; of what is none of ours nothing."""
        if module is None:
            return "", ""
        return explain_choice(
            shape.batch,
            shape.heads,
            shape.length,
            head_dim=shape.head_width,
            dtype=TYPES[shape.precision],
            device=self.device,
            mask=Causal() if shape.causal else None,
            grad=shape.direction == "backward",
            mechanism=module,
            backend=self.cases.backend_of(module),
        )


def _rows(heads: Tensor) -> Tensor:
    """[B, H, T, D] as rows [B, T, H D]."""
    return heads.transpose(1, 2).flatten(2)


def _given(case: Case, inputs: list[Tensor]) -> list[Tensor]:
    """What a case is called with: heads, or of a layer the queries as rows."""
    if not case.layer:
        return inputs
    return [_rows(inputs[0].detach()).contiguous().requires_grad_(inputs[0].requires_grad)]


def _step(case: Case, inputs: list[Tensor], grad: Tensor | None) -> None:
    if grad is None:
        with torch.no_grad():
            case.call(*inputs)
        return
    case.call(*inputs).backward(_rows(grad) if case.layer else grad)
    for tensor in (*inputs, *case.parameters):
        tensor.grad = None


def _distance(case: Case, inputs: list[Tensor], exact: Tensor | None) -> float | None:
    """How far the first sequence's output is from the exact one, by root mean squares."""
    if exact is None:
        return None
    with torch.no_grad():
        found = case.call(*inputs)[:1].double()
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
