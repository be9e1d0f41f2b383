from __future__ import annotations

import json
import math
import os
import signal

import pytest
import torch
import training_tasks
from torch import nn
from training_tasks import Regression, Reporter, Tokens, new_run, section, train

from attncli.errors import DeviceError, Interrupted, RecipeError
from attncli.training import Checkpoints, RunFolder, fit, read_records
from attncli.training.schedules import rate_share


class Log(Reporter):
    def __init__(self, at=None):
        self.events, self.steps, self.facts, self.at = [], [], None, at or {}

    def on_start(self, facts):
        self.facts = facts
        self.events.append("start")

    def on_step(self, step, units, values):
        self.steps.append((step, units, values))
        if step in self.at:
            self.at[step]()

    def on_evaluation(self, step, metrics, best):
        self.events.append(("evaluation", step, best))

    def on_checkpoint(self, step, path):
        self.events.append(("checkpoint", step))

    def on_end(self, result):
        self.events.append(("end", result and result["state"]))


def metrics_of(run):
    return read_records(run.metrics_file)


@pytest.mark.parametrize("task", ["regression", "tokens"])
def test_an_update_does_not_depend_on_how_its_batch_is_cut(tmp_path, task):
    options = {"dropout": 0.0} if task == "regression" else {}
    runs = {
        n: train(tmp_path / str(n), task=task, accumulate=n, steps=20, task_options=options)
        for n in (1, 3, 5)
    }
    for n in (3, 5):  # 5 does not divide the batch of 12
        for one, other in zip(runs[1][1].model.parameters(), runs[n][1].model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        for one, other in zip(metrics_of(runs[1][2]), metrics_of(runs[n][2]), strict=True):
            assert one.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-5)


def test_the_loop_does_what_a_plain_loop_would(tmp_path):
    """Against a loop written out by hand, of one optimizer that it does not use."""
    task = Regression(batch=12, dropout=0.0)
    values = section(steps=15, clip=0.05, learning_rate=0.02, weight_decay=0.1)
    batches, model = task.batches(), task.model
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    for step in range(1, 16):
        (batch,) = batches.next([0], 1)
        loss = (model(batch["x"]) - batch["y"]).pow(2).mean()
        model.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in model.parameters()))
        rate = 0.02 * rate_share(values.schedule, step, 15)
        with torch.no_grad():
            for p, (m, v) in moments.items():
                gradient = p.grad * min(1.0, 0.05 / norm)
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.999).add_(0.001 * gradient**2)
                if p.ndim == 2:
                    p.mul_(1 - rate * 0.1)
                p.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    _, fitted, run = train(
        tmp_path / "run",
        steps=15,
        clip=0.05,
        learning_rate=0.02,
        weight_decay=0.1,
        log_every=1,
        task_options={"dropout": 0.0},
    )
    for one, other in zip(model.parameters(), fitted.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    last = [r for r in metrics_of(run) if "loss" in r][-1]
    assert last["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert last["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_training_learns(tmp_path):
    result, task, _ = train(tmp_path / "run", steps=80, learning_rate=0.02)
    with torch.no_grad():
        untrained = float((Regression().model.eval()(task.x[192:]) - task.y[192:]).pow(2).mean())
    assert result.metrics["error"] < untrained / 5


def test_lines_of_metrics_are_means_over_their_window(tmp_path):
    every = train(tmp_path / "every", task="tokens", log_every=1, steps=8)[2]
    fourth = train(tmp_path / "fourth", task="tokens", log_every=4, steps=8)[2]
    single = [r for r in metrics_of(every) if "loss" in r]
    window = [r for r in metrics_of(fourth) if "loss" in r]
    assert [r["step"] for r in window] == [4, 8]
    batches, counts = Tokens().batches(), []
    for _ in range(8):
        counts.append(Tokens().counts(batches.next([0], 1)[0])["token"])
    expected = sum(c * r["loss/token"] for c, r in zip(counts[4:], single[4:], strict=True)) / sum(counts[4:])
    assert window[1]["loss/token"] == pytest.approx(expected)
    assert window[1]["loss"] == pytest.approx(window[1]["loss/token"] + window[1]["loss/pair"])
    assert set(window[0]) == {
        "step",
        "epoch",
        "loss",
        "loss/pair",
        "loss/token",
        "learning_rate",
        "gradient_norm",
    }


def test_a_term_that_a_batch_has_nothing_of(tmp_path):
    class Rare(Tokens):
        def batches(self):
            stream = super().batches()
            make = stream.make

            def without(chosen, generator):
                batch = make(chosen, generator)
                batch["kind"] = torch.full_like(batch["kind"], -100)
                return batch

            stream.make = without
            return stream

    training_tasks.TASKS["rare"] = Rare
    _, _, run = train(tmp_path / "run", task="rare", steps=8)
    assert [r["loss/pair"] for r in metrics_of(run) if "loss" in r] == [0.0, 0.0]


def test_the_order_of_events(tmp_path):
    log = Log()
    train(tmp_path / "run", steps=12, evaluate_every=6, checkpoint_every=4, reporter=log)
    assert log.events == [
        "start",
        ("checkpoint", 4),
        ("evaluation", 6, True),
        ("checkpoint", 6),
        ("checkpoint", 8),
        ("evaluation", 12, True),
        ("checkpoint", 12),
        ("end", "finished"),
    ]
    assert [step for step, _, values in log.steps if values] == [4, 8, 12]
    assert {units for _, units, _ in log.steps} == {12.0}
    assert log.facts["precision"] == "float32"
    assert log.facts["parameters"] == sum(p.numel() for p in Regression().model.parameters())


def test_without_intervals_there_is_one_evaluation_and_one_checkpoint(tmp_path):
    log = Log()
    train(tmp_path / "run", steps=7, evaluate_every=0, reporter=log)
    assert log.events == ["start", ("evaluation", 7, True), ("checkpoint", 7), ("end", "finished")]


class Scripted(Regression):
    """Its evaluations are ``errors``, one after the other."""

    errors: tuple = ()

    def evaluate(self, shard):
        self.done = getattr(self, "done", -1) + 1
        return {"error": self.errors[self.done]}


def scripted(*errors):
    training_tasks.TASKS["scripted"] = type("Now", (Scripted,), {"errors": errors})
    return "scripted"


def test_early_stopping_counts_evaluations_without_improvement(tmp_path):
    task = scripted(0.5, 0.4, 0.6, 0.4, 0.3, 0.31, 0.32, 0.33, 0.1)
    result, _, run = train(tmp_path / "run", task=task, steps=100, evaluate_every=2, patience=3)
    assert (result.steps, result.best_step, result.stopped_early) == (16, 10, True)
    assert result.metrics == {"error": 0.3}
    assert result.last == {"error": 0.33}
    assert run.result()["state"] == "stopped early"
    assert Checkpoints(run).best().step == 10


def test_an_early_stopped_run_goes_on_with_more_patience(tmp_path):
    train(tmp_path / "run", task=scripted(0.5, 0.6, 0.7), steps=20, evaluate_every=2, patience=2)
    again, _, _ = train(
        tmp_path / "run", task=scripted(0.9), resume=True, steps=20, evaluate_every=2, patience=2
    )
    assert (again.steps, again.stopped_early) == (6, True)
    more, _, _ = train(
        tmp_path / "run", task=scripted(0.8, 0.1, 0.2), resume=True, steps=12, evaluate_every=2, patience=5
    )
    assert (more.steps, more.best_step, more.stopped_early) == (12, 10, False)


def test_of_equal_evaluations_the_later_is_the_best_and_patience_ends(tmp_path):
    task = scripted(0.5, 0.4, 0.4, 0.4, 0.4, 0.4)
    result, _, _ = train(tmp_path / "run", task=task, steps=12, evaluate_every=2, patience=3)
    assert (result.steps, result.best_step, result.stopped_early) == (10, 10, True)


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path):
    nan = float("nan")
    result, _, run = train(tmp_path / "run", task=scripted(nan, 0.5, nan), steps=6, evaluate_every=2)
    assert (result.best_step, result.metrics) == (4, {"error": 0.5})
    assert json.loads(run.result_file.read_text())["last"] == {"error": None}
    none, _, run = train(tmp_path / "none", task=scripted(nan), steps=2)
    assert none.best_step == 2
    assert not (run.path / "best.json").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path, bad):
    class Bad(Regression):
        step = 0

        def losses(self, batch):
            self.step += 1
            return {
                name: loss * (bad if self.step == 17 else 1.0) for name, loss in super().losses(batch).items()
            }

    training_tasks.TASKS["bad"] = Bad
    with pytest.raises(RecipeError) as caught:
        train(tmp_path / "run", task="bad")
    assert "not finite at step 17; the checkpoint of step 10 is intact" in str(caught.value)
    assert "learning_rate" in str(caught.value)
    assert caught.value.then == f"attn resume {tmp_path / 'run'} train.learning_rate=0.0005"
    run = RunFolder.open(tmp_path / "run")
    assert run.state == "failed"
    assert Checkpoints(run).newest()[0].step == 10
    result, _, _ = train(tmp_path / "run", resume=True, learning_rate=0.0005)
    assert result.steps == 30


def test_a_gradient_that_is_not_finite_stops_even_where_the_loss_is(tmp_path):
    class Root(Regression):
        def losses(self, batch):
            return {"square": (self.model(batch["x"]) * 0).sqrt().sum()}  # the slope at 0 is infinite

    training_tasks.TASKS["root"] = Root
    with pytest.raises(RecipeError, match="not finite at step 1; there is no checkpoint yet"):
        train(tmp_path / "run", task="root")


def test_a_stop_within_an_evaluation_saves_and_repeats_it(tmp_path):
    class Slow(Regression):
        def evaluate(self, shard):
            def interrupt(items):
                for place, item in enumerate(items):
                    if place == 2 and self.stop_here:
                        os.kill(os.getpid(), signal.SIGTERM)
                    yield item

            class Shard:
                mine, sum = staticmethod(lambda items: shard.mine(interrupt(items))), staticmethod(shard.sum)

            return super().evaluate(Shard())

    expected = train(tmp_path / "whole", average="ema")[2]
    training_tasks.TASKS["slow"] = Slow
    Slow.stop_here = True
    with pytest.raises(Interrupted, match="after step 10") as caught:
        train(tmp_path / "run", task="slow", average="ema")
    assert caught.value.then == f"attn resume {tmp_path / 'run'}"
    run = RunFolder.open(tmp_path / "run")
    assert not [r for r in metrics_of(run) if "evaluation" in r]
    Slow.stop_here = False
    train(run.path, task="slow", average="ema", resume=True)
    assert run.metrics_file.read_bytes() == expected.metrics_file.read_bytes()


def test_a_second_interrupt_stops_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    log = Log(at={13: twice})
    with pytest.raises(Interrupted, match="stopped at once"):
        train(tmp_path / "run", reporter=log)
    assert log.events[-1] == ("end", None)
    run = RunFolder.open(tmp_path / "run")
    assert run.state == "interrupted"
    assert Checkpoints(run).all()[-1].step == 10
    assert signal.getsignal(signal.SIGINT) is before
    train(run.path, resume=True)


def test_a_finished_run_is_extended(tmp_path):
    train(tmp_path / "run", steps=20)
    log = Log()
    result, _, run = train(tmp_path / "run", steps=30, resume=True, reporter=log)
    assert result.steps == 30
    assert [step for step, _, _ in log.steps] == list(range(21, 31))
    assert log.facts["notes"][0] == "resuming after step 20 of 30"
    assert "train.steps was 20" in log.facts["notes"][1]
    rates = {r["step"]: r["learning_rate"] for r in metrics_of(run) if "loss" in r}
    assert rates[24] == pytest.approx(1e-3 * rate_share(section().schedule, 24, 30))
    assert rates[20] == pytest.approx(1e-3 * rate_share(section().schedule, 20, 20))
    assert [r["step"] for r in metrics_of(run) if "evaluation" in r] == [10, 20, 30]


def test_a_run_is_not_made_shorter_than_it_is(tmp_path):
    train(tmp_path / "run", steps=20)
    with pytest.raises(RecipeError, match="at step 20 already"):
        train(tmp_path / "run", steps=19, resume=True)


def test_the_recipe_is_replaced_only_where_the_run_can_go_on(tmp_path):
    _, _, run = train(tmp_path / "run", steps=20)
    with pytest.raises(RecipeError):
        fit(Regression(batch=12), section(steps=19), run, resume=True, recipe="shorter: 1\n")
    assert run.recipe_file.read_text() == "train: {}\n"
    fit(Regression(batch=12), section(steps=21), run, resume=True, recipe="longer: 1\n")
    assert run.recipe_file.read_text() == "longer: 1\n"


def test_starting_anew_in_a_run_with_checkpoints_is_refused(tmp_path):
    _, task, run = train(tmp_path / "run", steps=4)
    with pytest.raises(RecipeError, match="checkpoints already") as caught:
        fit(task, section(), run)
    assert caught.value.then == f"attn resume {run.path}"


class Clock:
    """Time that passes in steps (2 s), evaluations (50 s) and saves (700 s), and not otherwise."""

    now = 0.0

    def __call__(self):
        return self.now


def test_throughput_is_real_units_over_the_time_of_training_steps(tmp_path, monkeypatch):
    clock = Clock()

    class Timed(Regression):
        def losses(self, batch):
            clock.now += 2.0
            return super().losses(batch)

        def size(self, batch):
            return 5 * len(batch["x"])

        def evaluate(self, shard):
            clock.now += 50.0
            return super().evaluate(shard)

    original = Checkpoints.save

    def save(self, *args):
        clock.now += 700.0
        return original(self, *args)

    monkeypatch.setattr(Checkpoints, "save", save)
    task, run, log = Timed(batch=12), new_run(tmp_path / "run"), Log()
    result = fit(task, section(accumulate=2), run, log, clock=clock)
    assert result.speed == {"examples_per_second": 60 / 4, "seconds": 120.0}
    timings = read_records(run.timings_file)
    assert {r["examples_per_second"] for r in timings if "examples_per_second" in r} == {15.0}
    assert {r["evaluation_seconds"] for r in timings if "evaluation_seconds" in r} == {50.0}
    assert {r["checkpoint_seconds"] for r in timings if "checkpoint_seconds" in r} == {700.0}
    assert all(r["memory"] > 1e6 for r in timings if "memory" in r)
    assert all(r["waited"] == 0.0 for r in timings if "waited" in r)
    longer = fit(Timed(batch=12), section(accumulate=2, steps=40), run, resume=True, clock=clock)
    assert longer.speed == {"examples_per_second": 15.0, "seconds": 160.0}


def test_waiting_for_batches_is_recorded_and_the_stream_is_closed(tmp_path):
    class Waiting(Regression):
        def batches(self):
            stream = super().batches()
            stream.waited, stream.closed = 0.0, 0
            take = stream.next

            def slow(*arguments):
                stream.waited += 0.5
                return take(*arguments)

            def close():
                stream.closed += 1

            stream.next, stream.close = slow, close
            self.stream = stream
            return stream

    task, run = Waiting(batch=12), new_run(tmp_path / "run")
    fit(task, section(steps=4, log_every=2), run)
    waited = [r["waited"] for r in read_records(run.timings_file) if "waited" in r]
    assert waited == [1.0, 2.0]
    assert task.stream.closed == 1


def test_metrics_hold_nothing_of_the_clock(tmp_path):
    _, _, run = train(tmp_path / "run")
    known = {"step", "epoch", "loss", "learning_rate", "gradient_norm", "evaluation"}
    assert {key for record in metrics_of(run) for key in record} == known


def test_a_batch_smaller_than_its_parts_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be cut into 13 parts"):
        train(tmp_path / "run", accumulate=13)


def test_gradient_checkpointing_is_asked_of_the_model(tmp_path):
    with pytest.raises(RecipeError, match="Sequential cannot do it"):
        train(tmp_path / "run", gradient_checkpointing=True)

    class Able(Regression):
        def __init__(self, **options):
            super().__init__(**options)
            self.model.gradient_checkpointing = lambda on: self.asked.append(on)

        asked: list = []  # noqa: RUF012

    training_tasks.TASKS["able"] = Able
    train(tmp_path / "able", task="able", gradient_checkpointing=True, steps=1)
    assert Able.asked == [True]


def test_compiled_models_train_and_keep_their_names(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    _, task, _ = train(tmp_path / "run", steps=2, compile=True)
    assert compiled == [task.model]


def test_a_failing_compiler_is_explained(tmp_path, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def fail(self):
        raise BackendCompilerFailed("inductor", RuntimeError("no C++ compiler"), None)

    monkeypatch.setattr(nn.Module, "compile", fail)
    with pytest.raises(DeviceError, match=r"torch\.compile failed.*train\.compile=false"):
        train(tmp_path / "run", compile=True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_full_memory_is_explained(tmp_path, error):
    class Large(Regression):
        def losses(self, batch):
            raise error

    training_tasks.TASKS["large"] = Large
    with pytest.raises(DeviceError, match=r"train\.accumulate=6") as caught:
        train(tmp_path / "run", task="large", accumulate=3)
    assert "memory is full" in str(caught.value)


def test_arithmetic_is_decided_once_in_a_run(tmp_path, monkeypatch):
    from attncli.training import loop
    from attncli.training.device import Arithmetic

    asked = []

    def choose(wanted, device):
        asked.append(wanted)
        return Arithmetic("bf16" if len(asked) == 1 else "float32")

    monkeypatch.setattr(loop, "choose_arithmetic", choose)
    train(tmp_path / "run", steps=4, precision="auto")
    assert RunFolder.open(tmp_path / "run").info["arithmetic"]["precision"] == "bf16"
    log = Log()
    train(tmp_path / "run", steps=8, precision="auto", resume=True, reporter=log)
    assert asked == ["auto"]
    assert log.facts["precision"] == "bf16"
    train(tmp_path / "run", steps=10, precision="float32", resume=True)
    assert asked == ["auto", "float32"]


def test_bf16_autocasts_training_and_evaluation(tmp_path):
    seen = set()

    class Typed(Regression):
        def __init__(self, **options):
            super().__init__(**options)
            self.model[0].register_forward_hook(lambda m, i, out: seen.add((m.training, out.dtype)))

    training_tasks.TASKS["typed"] = Typed
    train(tmp_path / "run", task="typed", steps=2, precision="bf16")
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


def test_choices_are_stored_before_what_follows_from_them_and_given_back(tmp_path):
    class Choosing(Regression):
        def __init__(self, **options):
            super().__init__(**options)
            self.made = {}

        def losses(self, batch):
            self.made.setdefault("attention 12", "chunked")
            return super().losses(batch)

        def choices(self):
            return dict(self.made)

        def restore_choices(self, choices):
            self.made = {**choices, "restored": True}

    training_tasks.TASKS["choosing"] = Choosing
    log = Log(at={1: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(Interrupted):
        train(tmp_path / "run", task="choosing", reporter=log)
    assert json.loads((tmp_path / "run" / "choices.json").read_text()) == {"attention 12": "chunked"}
    _, task, _ = train(tmp_path / "run", task="choosing", resume=True)
    assert task.made == {"attention 12": "chunked", "restored": True}


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, _, run = train(tmp_path / "run", steps=8, tensorboard=True)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [4, 8]
    (evaluation,) = events.Scalars("evaluation/error")
    assert evaluation.value == pytest.approx(run.result()["metrics"]["error"])


def test_tensorboard_missing_says_how_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RecipeError, match="not installed") as caught:
        train(tmp_path / "run", tensorboard=True)
    assert caught.value.then == "pip install 'attncli[tensorboard]'"


def test_the_console_reporter_speaks_on_standard_error_alone(tmp_path, capsys):
    from attncli.training import ConsoleReporter

    train(tmp_path / "run", steps=20, reporter=ConsoleReporter())
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 10  error 0." in err
    train(tmp_path / "run", steps=30, reporter=ConsoleReporter(), resume=True)
    assert "resuming after step 20 of 30" in capsys.readouterr().err
