"""The learning rate over the steps, as a share of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable

from attncli.recipe.sections import ScheduleSection


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    # Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _one_minus_sqrt(progress: float) -> float:
    # Hägele et al. 2024, https://arxiv.org/abs/2405.18392: better than a linear cool-down
    return 1.0 - math.sqrt(progress)


def _constant(progress: float) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "wsd": _one_minus_sqrt,
    "constant": _constant,
}


def warmup_steps(schedule: ScheduleSection, steps: int) -> int:
    """Updates of the warm-up, at least 1: the first update of a run without one is at the peak."""
    share = schedule.warmup
    return max(1, round(share * steps) if share < 1 else int(share))


def rate_share(schedule: ScheduleSection, step: int, steps: int) -> float:
    """Share of the peak learning rate that update ``step`` (1 to ``steps``) uses.

    With ``w`` warm-up steps the rate is ``step / w`` up to ``w``. Afterwards it falls from the peak
    to the floor, which it would reach at ``steps + 1``: no update is wasted on a rate of zero.

    - linear, cosine: over all steps after the warm-up.
    - wsd: constant, then ``1 - sqrt`` over the last ``decay`` share of the steps.
    - inverse_sqrt: ``sqrt(w / step)``, never below the floor (Vaswani et al. 2017,
      https://arxiv.org/abs/1706.03762); it does not depend on ``steps``.
    - constant: the peak.
    """
    warm = warmup_steps(schedule, steps)
    if step < warm:
        return step / warm
    if schedule.kind == "inverse_sqrt":
        return max(schedule.floor, math.sqrt(warm / step))
    start = warm
    if schedule.kind == "wsd":
        start = max(warm, steps - max(1, round(schedule.decay * steps)))
    if step <= start:
        return 1.0
    progress = min(1.0, (step - start) / (steps + 1 - start))
    return schedule.floor + (1.0 - schedule.floor) * _SHAPES[schedule.kind](progress)
