from __future__ import annotations

import math

import pytest

from attncli.recipe.sections import ScheduleSection
from attncli.training.schedules import rate_share, warmup_steps


def curve(steps, **values):
    schedule = ScheduleSection(**values)
    return [rate_share(schedule, step, steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "inverse_sqrt", "wsd", "constant"])
def test_warm_up_rises_in_equal_steps_to_the_peak(kind):
    rates = curve(100, kind=kind, warmup=8)
    assert rates[:8] == pytest.approx([k / 8 for k in range(1, 9)])
    assert max(rates) == 1.0


def test_warm_up_is_a_share_below_one_and_steps_from_one_on():
    assert warmup_steps(ScheduleSection(warmup=0.1), 250) == 25
    assert warmup_steps(ScheduleSection(warmup=1), 250) == 1
    assert warmup_steps(ScheduleSection(warmup=40), 250) == 40
    assert warmup_steps(ScheduleSection(warmup=0), 250) == 1


def test_linear():
    # 5 steps of warm-up, then 5/6 ... 1/6 of the way: zero would come at step 11
    assert curve(10, kind="linear", warmup=5)[4:] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_linear_to_a_floor():
    assert curve(10, kind="linear", warmup=5, floor=0.4)[9] == pytest.approx(0.4 + 0.6 / 6)


def test_cosine():
    rates = curve(9, kind="cosine", warmup=0, floor=0.2)
    for step, rate in enumerate(rates, start=1):
        assert rate == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * (step - 1) / 9)) / 2)


def test_inverse_sqrt_does_not_know_the_end():
    short, long = curve(50, kind="inverse_sqrt", warmup=10), curve(500, kind="inverse_sqrt", warmup=10)
    assert short == long[:50]
    assert long[39] == pytest.approx(0.5)  # sqrt(10 / 40)
    assert curve(1000, kind="inverse_sqrt", warmup=10, floor=0.3)[-1] == 0.3


def test_warmup_stable_decay():
    rates = curve(100, kind="wsd", warmup=10, decay=0.2)
    assert rates[9:80] == [1.0] * 71
    for k in range(1, 21):
        assert rates[79 + k] == pytest.approx(1 - math.sqrt(k / 21))


def test_constant():
    assert curve(20, kind="constant", warmup=0) == [1.0] * 20


@pytest.mark.parametrize("kind", ["linear", "cosine", "inverse_sqrt", "wsd", "constant"])
@pytest.mark.parametrize("warmup", [0, 0.5, 1, 7, 1000])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_shortest_runs_train_at_every_step(kind, warmup, steps):
    rates = curve(steps, kind=kind, warmup=warmup)
    assert all(0 < rate <= 1 for rate in rates)
