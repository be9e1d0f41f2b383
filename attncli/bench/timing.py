"""Timing of several cases in one run, interleaved, so that a drifting machine drifts for all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one case: median, and the quartiles as its spread."""

    median: float
    low: float
    high: float
    rounds: int
    error: float = 0.0
    """Standard error of ``low`` as a share of it, by resampling the rounds."""

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """Summary of single measurements."""
        if len(seconds) < 2:
            return cls(seconds[0], seconds[0], seconds[0], len(seconds))
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(statistics.median(seconds), low, high, len(seconds), _error(seconds, low))


def _error(seconds: list[float], low: float) -> float:
    """Bootstrap of the lower quartile (Efron 1979): how it scatters over samples drawn from the sample."""
    draw = random.Random(0)
    again = [
        statistics.quantiles(draw.choices(seconds, k=len(seconds)), n=4, method="inclusive")[0]
        for _ in range(_RESAMPLED)
    ]
    return statistics.stdev(again) / low if low else 0.0


_RESAMPLED = 100


def clock(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that one ``call`` takes, the work it queues on a GPU included (measured there by events)."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def interleave(
    cases: dict[str, Callable[[], float | None]],
    *,
    rounds: int,
    warmup: int = 2,
    device: torch.device | None = None,
    on_round: Callable[[int], None] | None = None,
    until: float | None = None,
    budget: float = 0.0,
) -> dict[str, Timing]:
    """Run every case once a round, in turn, and summarise each over the rounds.

    A case that returns a number has taken its own time, in seconds (one that runs in another process).
    ``warmup`` rounds come first and do not count; ``on_round`` hears the number of rounds done. With
    ``until`` the rounds go on while some case's error is above it, for ``budget`` seconds in all, ten times
    ``rounds`` at most: a noisy machine is measured for longer.
    """
    device = device or torch.device("cpu")
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    began, done, end = time.perf_counter(), 0, warmup + rounds
    while done < end:
        for name, call in cases.items():
            took = _timed(call, device)
            if done >= warmup:
                seconds[name].append(took)
        done += 1
        if on_round:
            on_round(min(done, warmup + rounds))
        if done == end and until is not None and end < warmup + 10 * rounds:
            noisy = any(Timing.of(measured).error > until for measured in seconds.values())
            if noisy and time.perf_counter() - began < budget:
                end += rounds
    return {name: Timing.of(measured) for name, measured in seconds.items()}


def _timed(call: Callable[[], float | None], device: torch.device) -> float:
    own: list[float | None] = []
    took = clock(lambda: own.append(call()), device)
    return took if own[0] is None else own[0]
