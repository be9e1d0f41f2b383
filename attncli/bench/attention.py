"""What the attention core costs beside calling the best backend directly, and how that grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention import Causal, attend, explain_choice
from attncli.bench.memory import peak_memory
from attncli.bench.timing import interleave

_QUADRATIC_LIMIT = 2**31  # bytes of scores above which the plain formula is left out


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
    peak_mib: float
    ratio: float
    """Time over the faster of the plain formula and the fused kernel called directly, by lower quartiles:
    what else runs on a machine only ever adds."""


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax attention as its formula reads; all [B, H, T, D]."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # [B, H, T, T]
    if causal:
        hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(-1) @ v


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def cases(causal: bool, mechanism: str, backend: str) -> dict[str, Attend]:
    """The core as users get it, and what they could have called themselves."""
    mask = Causal() if causal else None
    return {
        "attn": lambda q, k, v: attend(q, k, v, mask, mechanism=mechanism, backend=backend),
        "plain formula": lambda q, k, v: plain(q, k, v, causal),
        "scaled_dot_product_attention": lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, is_causal=causal
        ),
    }


def _step(call: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            call(*inputs)
        return
    torch.autograd.grad(call(*inputs), inputs, grad)


def measure(
    *,
    tokens: int,
    heads: int,
    head_width: int,
    lengths: list[int],
    causal: bool,
    mechanism: str,
    backend: str,
    precisions: list[str],
    directions: list[str],
    rounds: int,
    warmup: int,
    device: torch.device,
    seed: int,
) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """For each precision, direction and length: a note on the backend chosen, and a row a case."""
    types = {"float32": torch.float32, "bf16": torch.bfloat16}
    named = cases(causal, mechanism, backend)
    for precision in precisions:
        for direction in directions:
            for length in lengths:
                torch.manual_seed(seed)
                batch = max(1, tokens // length)
                shape = batch, heads, length, head_width
                backward = direction == "backward"
                inputs = [
                    torch.randn(shape, device=device, dtype=types[precision]).requires_grad_(backward)
                    for _ in range(3)
                ]
                grad = torch.randn(shape, device=device, dtype=types[precision])
                quadratic = batch * heads * length**2 * inputs[0].element_size()
                run = {
                    name: partial(_step, call, inputs, grad, backward)
                    for name, call in named.items()
                    if not (name == "plain formula" and quadratic > _QUADRATIC_LIMIT)
                }
                timed = interleave(run, rounds=rounds, warmup=warmup, device=device)
                direct = min(t.low for name, t in timed.items() if name != "attn")
                rows = [
                    Row(
                        name,
                        precision,
                        direction,
                        length,
                        batch,
                        1e3 * timing.median,
                        timing.spread,
                        peak_memory(run[name], device) / 2**20,
                        timing.low / direct,
                    )
                    for name, timing in timed.items()
                ]
                chosen, reason = explain_choice(
                    batch,
                    heads,
                    length,
                    head_dim=head_width,
                    dtype=types[precision],
                    device=device,
                    mask=Causal() if causal else None,
                    grad=backward,
                    mechanism=mechanism,
                    backend=backend,
                )
                yield {"length": length, "backend": chosen, "reason": reason}, rows


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
