"""The one training loop, which every task runs through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from torch import Tensor

from attncli.errors import Interrupted, Problem, RecipeError
from attncli.recipe.sections import TrainSection
from attncli.training.averaging import build_average
from attncli.training.checkpoints import Checkpoint, Checkpoints
from attncli.training.device import (
    Arithmetic,
    choose_arithmetic,
    describe_device,
    memory_in_use,
    resolve_device,
    set_threads,
)
from attncli.training.distributed import EvaluationStopped, World
from attncli.training.files import disk_errors, write_json
from attncli.training.meter import Meter
from attncli.training.objective import build_objective, exchange, move
from attncli.training.optimizers import Optimizers, clip_gradients
from attncli.training.progress import FitResult, Progress
from attncli.training.records import Records
from attncli.training.reporter import Reporter, Reporters, TensorBoardReporter
from attncli.training.resume import check_length, starting_point
from attncli.training.rows import make_sparse
from attncli.training.run import RunFolder
from attncli.training.schedules import rate_share
from attncli.training.seeds import seed_generators
from attncli.training.signals import StopRequest
from attncli.training.task import Batch, Task
from attncli.training.weights import restore_weights
from attncli.training.window import FiniteWatch, LossWindow


class Loop:
    """One call of :func:`fit`: what it works with, and where it stands."""

    def __init__(
        self,
        task: Task,
        settings: TrainSection,
        run: RunFolder,
        world: World,
        stop: StopRequest,
        clock: Callable[[], float],
    ) -> None:
        self.task, self.settings, self.run = task, settings, run
        self.world, self.stop, self.clock = world, stop, clock
        parts = world.size * settings.accumulate
        if settings.batch < parts:
            raise RecipeError(
                f"train.batch={settings.batch} cannot be cut into {parts} parts "
                f"({world.size} processes x train.accumulate={settings.accumulate})"
            )
        world.interrupted = lambda: stop.requested
        set_threads(settings.threads)
        self.device = resolve_device(settings.device, world.local_rank, world.size)
        self.arithmetic = self._arithmetic()
        task.to(self.device)
        model = task.model.train()
        if settings.gradient_checkpointing:
            switch = getattr(model, "gradient_checkpointing", None)
            if switch is None:
                raise RecipeError(f"train.gradient_checkpointing=true: {type(model).__name__} cannot do it")
            switch(True)
        if settings.compile:
            model.compile()
        if world.size == 1 and self.device.type == "cpu" and not settings.compile:
            make_sparse(model)
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self.optimizers = Optimizers(model, task.parameter_groups(), settings, half)
        self.average = build_average(
            settings.average, model, decay=settings.ema_decay, count=settings.average_last
        )
        with self.arithmetic.autocast(self.device):
            self.objective = build_objective(task, world, self.device, settings.accumulate)
        self.batches = task.batches()
        self.checkpoints = Checkpoints(run)
        self.progress = Progress(steps=settings.steps)
        self.meter = Meter(clock)
        self.reporter = Reporter()
        self.metrics: Records | None = None
        self.timings: Records | None = None
        self.choices: dict[str, Any] = {}
        self.saved: int | None = None  # step of the checkpoint that holds what we hold
        self.window = LossWindow(world, self.device)
        self.watch = FiniteWatch(self.device, self._diverged)

    def _arithmetic(self) -> Arithmetic:
        """Decided once in a run: a machine under load measures differently the next time."""

        def decide() -> dict[str, str]:
            known, wanted = self.run.info.get("arithmetic"), self.settings.precision
            if known and wanted in ("auto", known["precision"]):
                return known
            decided = choose_arithmetic(wanted, self.device).plain()
            self.run.update(arithmetic=decided)
            return decided

        arithmetic = Arithmetic(**self.world.first(decide))
        arithmetic.apply()
        return arithmetic

    def run_all(self, reporter: Reporter | None, resume: bool, recipe: str | None) -> FitResult:
        """Begin or go on, train, end."""
        progress, notes = self._begin(resume)
        if recipe is not None:
            self.world.first(lambda: self.run.replace_recipe(recipe))
        if self.world.chief:
            told = [reporter] if reporter is not None else []
            if self.settings.tensorboard:
                told.append(TensorBoardReporter(self.run.path / "tensorboard"))
            self.reporter = Reporters(told)
        self.reporter.on_start(self._facts(notes))
        stopped = self._after_step(self.stop.requested) if progress.pending else self._exhausted()
        while not stopped and progress.step < self.settings.steps:
            stopped = self._step()
        if self.saved != progress.step:
            self._save()
        return self._end()

    # Beginning, in a new run or an old one

    def _begin(self, resume: bool) -> tuple[Progress, list[str]]:
        """Load the newest sound checkpoint when there is one; sentences on what was found."""

        found = self.world.first(lambda: starting_point(self.run, self.checkpoints, resume))
        notes: list[str] = found["notes"]
        if found["choices"]:
            self.choices = found["choices"]
            self.task.restore_choices(self.choices)
        if found["step"] is not None:
            notes += self._restore(Checkpoint(self.checkpoints.path(found["step"])))
        self.world.first(self._open_files)
        return self.progress, notes

    def _open_files(self) -> None:
        progress = self.progress
        if progress.step < self.settings.steps:
            self.run.result_file.unlink(missing_ok=True)
        self._point_best()
        self.metrics = Records(self.run.metrics_file, progress.step)
        self.timings = Records(self.run.timings_file, progress.step)
        self.run.update(state="running", device=describe_device(self.device), processes=self.world.size)

    def _restore(self, found: Checkpoint) -> list[str]:
        """Set everything to where ``found`` stands; sentences on what that means."""
        place, steps = f"the checkpoint of step {found.step}", self.settings.steps
        state = found.state()
        progress = Progress(**state["progress"])
        notes = check_length(progress, steps, self.settings.schedule, self.run)
        restore_weights(self.task.model, found.weights(averaged=False), place)
        self.optimizers.load(found.optimizer(), place)
        self.average.load(found.average(), found.snapshots())
        self.batches.load_state_dict(state["data"])
        self.meter = Meter(self.clock, progress.units, progress.seconds)
        self.window.load(state["window"])
        progress.steps = steps
        self.progress, self.saved = progress, found.step
        return notes

    def _facts(self, notes: list[str]) -> dict[str, Any]:
        settings, parameters = self.settings, list(self.task.model.parameters())
        return {
            "run": str(self.run.path),
            "device": describe_device(self.device),
            "precision": self.arithmetic.precision,
            "precision_reason": self.arithmetic.reason,
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "steps": settings.steps,
            "step": self.progress.step,
            "batch": settings.batch,
            "accumulate": settings.accumulate,
            "processes": self.world.size,
            "unit": self.task.unit,
            "averaging": settings.average,
            "task": self.task.describe(self.device, self.arithmetic.dtype),
            "notes": notes,
        }

    # One step

    def _step(self) -> bool:
        """Forward, backward, update; then whatever is due. Whether training should stop."""
        settings, progress, world = self.settings, self.progress, self.world
        self.meter.start()
        step = progress.step + 1
        mine = world.parts(settings.accumulate)
        parts = self.batches.next(mine, world.size * settings.accumulate)
        counts, units, stopping = self._totals(parts)
        share = rate_share(settings.schedule, step, settings.steps)
        self.optimizers.set_share(share)
        self.optimizers.clear()
        # DDP averages over processes; the loss is a sum over them
        scales = {name: world.size / count if count else 0.0 for name, count in counts.items()}
        sums = torch.zeros(len(counts), dtype=torch.float64, device=self.device)
        for round_, (number, part) in enumerate(zip(mine, parts, strict=True), start=1):
            seed_generators(settings.seed, step, number)
            with exchange(self.objective, last=round_ == len(parts)):
                with self.arithmetic.autocast(self.device):
                    loss, terms = self.objective(move(part, self.device), scales)
                loss.backward()
            sums += terms
        norm = clip_gradients(self.optimizers.parameters, settings.clip)
        # other processes know their own losses only; a bad one makes the common gradient bad
        self.watch.note(step, norm if world.size > 1 else norm + sums.sum())
        self.optimizers.step()
        self.average.update(step)
        self.window.add(counts, sums)
        progress.step = step
        self.meter.add(units)
        self._keep_choices()
        logged = step % settings.log_every == 0 or step == settings.steps
        self.reporter.on_step(step, units, self._log(share, norm) if logged else None)
        every = settings.evaluate_every
        progress.pending = step == settings.steps or bool(every and step % every == 0)
        if self._checkpoint_due():
            self.average.snapshot(step)
        return self._after_step(stopping if world.size > 1 else self.stop.requested)

    def _totals(self, parts: list[Batch]) -> tuple[dict[str, float], float, bool]:
        """Counts and units of the global batch, and whether any process was asked to stop."""
        counts: dict[str, float] = {}
        for part in parts:
            for name, count in self.task.counts(part).items():
                counts[name] = counts.get(name, 0.0) + float(count)
        names = sorted(counts)
        mine = [float(sum(map(self.task.size, parts))), float(self.stop.requested)]
        units, stopping, *totals = self.world.add(mine + [counts[name] for name in names])
        return dict(zip(names, totals, strict=True)), units, stopping > 0

    def _log(self, share: float, norm: Tensor) -> dict[str, float]:
        """A line of metrics and one of timings; their values."""
        progress = self.progress
        self.watch.check()  # waits for a GPU, so the meter may stop
        terms = self.window.means()
        self.meter.stop()
        values = {"loss": sum(terms.values())}
        if len(terms) > 1:
            values |= {f"loss/{name}": value for name, value in terms.items()}
        values |= {"learning_rate": self.settings.learning_rate * share, "gradient_norm": float(norm)}
        timing = {f"{self.task.unit}_per_second": self.meter.lap(), "memory": memory_in_use(self.device)}
        if self.metrics and self.timings:
            self.metrics.add(step=progress.step, epoch=float(self.batches.epoch), **values)
            waited = float(getattr(self.batches, "waited", 0.0))
            self.timings.add(step=progress.step, seconds=self.meter.seconds, waited=waited, **timing)
        return values | timing

    def _keep_choices(self) -> None:
        """Store what was decided by measuring before anything that followed from it is stored."""
        choices = self.task.choices()
        if choices != self.choices:
            self.choices = dict(choices)
            if self.world.chief:
                with disk_errors("choices.json"):
                    write_json(self.run.path / "choices.json", self.choices)

    def _diverged(self, step: int) -> NoReturn:
        settings, kept = self.settings, self.checkpoints.all()
        stand = f"the checkpoint of step {kept[-1].step} is intact" if kept else "there is no checkpoint yet"
        advice = "a lower train.learning_rate, a longer train.schedule.warmup"
        if self.arithmetic.precision != "float32":
            advice += ", train.precision=float32"
        raise RecipeError(
            Problem(f"the loss or its gradient is not finite at step {step}; {stand}", hint=f"try {advice}"),
            then=f"attn resume {self.run.path} train.learning_rate={settings.learning_rate / 2:g}",
        )

    # What is due after some steps

    def _checkpoint_due(self) -> bool:
        step, settings = self.progress.step, self.settings
        every = settings.checkpoint_every or settings.evaluate_every
        return step == settings.steps or bool(every and step % every == 0)

    def _exhausted(self) -> bool:
        return bool(self.settings.patience) and self.progress.waited >= self.settings.patience

    def _after_step(self, stopping: bool) -> bool:
        """Evaluate and save where due, stop where asked. Whether patience is at its end."""
        best = False
        if stopping:
            self._interrupt()
        if self.progress.pending:
            try:
                best = self._evaluate()
            except EvaluationStopped:
                self._interrupt()
        if best or self._checkpoint_due():
            self._save()
        return self._exhausted()

    def _interrupt(self) -> None:
        if self.saved != self.progress.step:
            self._save()
        raise Interrupted(
            f"interrupted after step {self.progress.step:,}; everything is saved",
            then=f"attn resume {self.run.path}",
        )

    def _evaluate(self) -> bool:
        """Evaluate the (averaged) weights; whether they are the best so far."""
        self.watch.check()
        self.meter.stop()
        progress, started = self.progress, self.clock()
        self.reporter.on_evaluation_start(progress.step)
        self.task.model.eval()
        seed_generators(self.settings.seed, "evaluation")
        try:
            with self.average.applied(), torch.no_grad(), self.arithmetic.autocast(self.device):
                metrics = {name: float(v) for name, v in self.task.evaluate(self.world).items()}
        finally:
            self.task.model.train()
        self._keep_choices()
        best = progress.note_evaluation(self.task.goal, metrics)
        if self.metrics and self.timings:
            self.metrics.add(step=progress.step, epoch=float(self.batches.epoch), evaluation=metrics)
            self.timings.add(step=progress.step, evaluation_seconds=self.clock() - started)
        self.reporter.on_evaluation(progress.step, metrics, best)
        return best

    def _save(self) -> None:
        """Write a checkpoint of this step; the first process does, all wait for it."""
        self.watch.check()
        self.meter.stop()
        progress, started = self.progress, self.clock()
        window = self.window.state()
        progress.units, progress.seconds = self.meter.units, self.meter.seconds

        def write() -> None:
            for records in (self.metrics, self.timings):
                records.flush()
            state = {"progress": asdict(progress), "window": window, "data": self.batches.state_dict()}
            saved = self.checkpoints.save(
                progress.step,
                self.task.model,
                self.optimizers.tensors(),
                state,
                self.average.value(),
                self.average.snapshots(),
            )
            self._point_best()
            self.checkpoints.prune(self.settings.keep)
            self.timings.add(step=progress.step, checkpoint_seconds=self.clock() - started)
            self.reporter.on_checkpoint(progress.step, saved.path)

        self.world.first(write)
        self.saved = progress.step

    def _point_best(self) -> None:
        best = self.progress.best
        self.checkpoints.point_best({k: best[k] for k in ("step", "metric", "value")} if best else None)

    def _end(self) -> FitResult:
        progress = self.progress
        chosen = progress.best or progress.last
        speed = {f"{self.task.unit}_per_second": self.meter.rate, "seconds": self.meter.seconds}
        early = progress.step < self.settings.steps
        result = FitResult(
            chosen["metrics"], chosen["step"], progress.last["metrics"], progress.step, early, speed
        )
        told = {"format": 1, "state": "stopped early" if early else "finished", **asdict(result)}

        def write() -> None:
            with disk_errors(str(self.run.result_file)):
                write_json(self.run.result_file, told)
            self.run.update(state="finished")

        self.world.first(write)
        reporter, self.reporter = self.reporter, Reporter()
        reporter.on_end(told)
        return result

    def close(self) -> None:
        """Close the files; a reporter that was not told the end is told that there is none."""
        self.reporter.on_end(None)
        for records in (self.metrics, self.timings):
            if records is not None:
                records.close()
        close = getattr(self.batches, "close", None)  # worker processes, where it has some
        if close is not None:
            close()
