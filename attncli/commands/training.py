"""What every training command does around the loop: build, say, train, show, and what to type next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attncli import console
from attncli.commands.outcomes import draw_outcomes
from attncli.commands.shared import Requirement, check_requirements, present, say_dry_run
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.loading import LoadedRecipe
from attncli.recipe.presenting import to_yaml
from attncli.recipe.sections import TrainSection
from attncli.reports.curves import draw_curves
from attncli.training import (
    ConsoleReporter,
    FitResult,
    RunFolder,
    Task,
    World,
    fit,
    load_weights,
    measuring,
    restore_weights,
)
from attncli.training.device import choose_arithmetic, describe_device, resolve_device, set_threads


def train(
    loaded: LoadedRecipe,
    build: Callable[[Any], Task],
    *,
    requirements: list[Requirement],
    out: Path | None,
    dry_run: bool,
) -> None:
    """A new run of ``loaded``, or with ``dry_run`` only what it would take.

    ``build`` makes the task of a recipe, with fresh weights.
    """
    keep_freed_memory()
    settings = loaded.recipe.train
    world = World.join()
    device = resolve_device(settings.device, world.local_rank, world.size)
    set_threads(settings.threads)
    task = build(loaded.recipe)
    settings = task.settle(settings)
    if dry_run:
        _dry_run(task, loaded, settings, device)
        return
    name = loaded.name.rpartition("/")[2]

    def create() -> str:
        text = to_yaml(loaded.recipe)
        run = RunFolder.create(out, command=loaded.command, recipe=name, text=text)
        task.save(run.path)
        return str(run.path)

    run = RunFolder.open(world.first(create))
    run_to_end(task, settings, run, requirements, resume=False)


def run_to_end(
    task: Task,
    settings: TrainSection,
    run: RunFolder,
    requirements: list[Requirement],
    *,
    resume: bool,
    recipe: str | None = None,
    quiet: bool = False,
) -> FitResult:
    """Train in ``run``, then show the result, draw the curves and say what can be done with it.

    ``quiet`` leaves the showing out: another run follows.
    """
    result = fit(task, settings, run, ConsoleReporter(), resume=resume, recipe=recipe)
    if not console.speaks():
        return result
    draw_curves(run.path)
    metrics = result.metrics | _finals(task, run)
    draw_outcomes(task, run.path)
    if quiet:
        return result
    stored = run.result() or {}
    present(
        {"run": str(run.path), **stored, "metrics": metrics, "speed": result.speed, **task.notes()},
        title=f"{run.name}: step {result.best_step:,} of {result.steps:,}",
    )
    console.say(f"run folder: {run.path} (recipe, best weights, curves.png)")
    for command in task.next_commands(run.path):
        console.say(f"next: {command}")
    check_requirements(requirements, metrics)
    return result


def _finals(task: Task, run: RunFolder) -> dict[str, float]:
    """Metrics of the best weights that are measured once; they go into the run's result too."""
    restore_weights(task.model, load_weights(run), f"{run.path}")
    with measuring(task.model, run):
        metrics = task.finals(run.path)
    if metrics:
        run.add_metrics(metrics)
    return metrics


def _dry_run(task: Task, loaded: LoadedRecipe, settings: TrainSection, device: torch.device) -> None:
    """Parameters, FLOPs, memory, tokens a batch, and the backend with its reason; one batch is run."""
    from attncli.bench.memory import peak_memory

    arithmetic = choose_arithmetic(settings.precision, device)
    arithmetic.apply()
    task.to(device)
    task.model.train()
    (batch,) = task.batches().next([0], settings.accumulate)
    units = task.size(batch) * settings.accumulate
    batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    counts = task.counts(batch)

    def step() -> None:
        with arithmetic.autocast(device):
            losses = task.losses(batch)
            loss = sum(losses[name] / max(count, 1) for name, count in counts.items())
        loss.backward()
        task.model.zero_grad(set_to_none=True)

    step()
    activations = peak_memory(step, device)
    parameters = sum(p.numel() for p in task.model.parameters())
    states = 3 if settings.optimizer == "adamw" else 2
    held = parameters * 4 * (1 + states)
    report = {
        "recipe": loaded.name,
        "device": describe_device(device),
        "precision": f"{arithmetic.precision} ({arithmetic.reason})",
        "parameters": parameters,
        f"{task.unit} a batch": units,
        "FLOPs a step": float(task.flops_a_step()),
        "memory": {
            "weights, gradients and optimizer": console.size(held),
            "one step, measured": console.size(activations),
        },
        **task.facts(device, arithmetic.dtype),
    }
    say_dry_run(report)
