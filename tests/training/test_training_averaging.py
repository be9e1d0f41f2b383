from __future__ import annotations

import pytest
import torch
from torch import nn
from training_tasks import Regression, train

from attncli.training import Checkpoints, load_weights
from attncli.training.averaging import LastAverage, MovingAverage, build_average


def walk(model, average, steps, snapshot_every=0):
    """Change the weights like training does; all values passed through, in float64."""
    generator, history = torch.Generator().manual_seed(0), [model.weight.detach().double().clone()]
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight += torch.randn(model.weight.shape, generator=generator)
        average.update(step)
        if snapshot_every and step % snapshot_every == 0:
            average.snapshot(step)
        history.append(model.weight.detach().double().clone())
    return history


def test_moving_average_follows_its_formula():
    model = nn.Linear(5, 3, bias=False)
    average = MovingAverage(model, decay=0.9)
    history = walk(model, average, 150)
    expected = history[0]
    for step, weight in enumerate(history[1:], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    assert (average.value()["weight"].double() - expected).abs().max() < 1e-5


def test_last_average_is_the_mean_of_the_last_snapshots():
    model = nn.Linear(5, 3, bias=False)
    average = LastAverage(model, count=3)
    assert average.value() is None
    history = walk(model, average, 50, snapshot_every=10)
    expected = (history[30] + history[40] + history[50]) / 3
    assert (average.value()["weight"].double() - expected).abs().max() < 1e-6
    assert sorted(average.snapshots()) == [30, 40, 50]


@pytest.mark.parametrize("kind", ["none", "ema", "last"])
def test_applied_swaps_in_and_out_exactly(kind):
    model = nn.Linear(5, 3, bias=False)
    average = build_average(kind, model, decay=0.9, count=2)
    walk(model, average, 20, snapshot_every=5)
    before, place = model.weight.detach().clone(), model.weight.data_ptr()

    def fail():
        with average.applied():
            held = before if kind == "none" else average.value()["weight"]
            assert torch.equal(model.weight, held)
            assert kind == "none" or not torch.equal(model.weight, before)
            raise ZeroDivisionError  # an evaluation that fails must not leave the average behind

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(model.weight, before)
    assert model.weight.data_ptr() == place


@pytest.mark.parametrize("kind", ["ema", "last"])
def test_evaluation_and_the_best_weights_are_the_averaged_ones(tmp_path, kind):
    seen = []

    class Watched(Regression):
        def evaluate(self, shard):
            seen.append({n: p.detach().clone() for n, p in self.model.named_parameters()})
            return {"error": -float(len(seen))}  # ever better, so that the last is the best

    import training_tasks

    training_tasks.TASKS["watched"] = Watched
    _, task, run = train(tmp_path / "run", task="watched", average=kind, steps=20)
    best = load_weights(run)
    live = task.model.state_dict()
    assert all(torch.equal(best[name], seen[-1][name]) for name in best)
    assert any(not torch.equal(best[name], live[name]) for name in best)
    raw = Checkpoints(run).best().weights(averaged=False)
    assert all(torch.equal(raw[name], live[name]) for name in raw)
    fresh = Regression()
    fresh.model.load_state_dict(best)


def test_averaging_may_begin_in_a_resumed_run(tmp_path):
    train(tmp_path / "run", steps=10)
    _, task, run = train(tmp_path / "run", steps=20, average="ema", ema_decay=0.5, resume=True)
    best, live = load_weights(run), task.model.state_dict()
    assert any(not torch.equal(best[name], live[name]) for name in best)
