"""Training and measuring as the rest of the program calls them: :func:`fit`, :func:`measuring`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from attncli.errors import DeviceError, Interrupted, Problem
from attncli.recipe.sections import TrainSection
from attncli.training.device import choose_arithmetic, memory_errors
from attncli.training.distributed import World
from attncli.training.loop import Loop
from attncli.training.progress import FitResult
from attncli.training.reporter import Reporter
from attncli.training.run import RunFolder
from attncli.training.signals import StopRequest
from attncli.training.task import Task


def fit(
    task: Task,
    settings: TrainSection,
    run: RunFolder,
    reporter: Reporter | None = None,
    resume: bool = False,
    *,
    recipe: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> FitResult:
    """Train ``task`` to ``settings.steps`` in ``run``, or go on with it where its newest checkpoint stands.

    Afterwards the model holds the last weights; :func:`load_weights` gives the best. Under torchrun
    every process calls it, with the same folder. ``recipe`` (YAML) takes the place of the run's recipe
    once it is certain that the run can go on with these settings. ``clock`` gives seconds.

    Raises :class:`Interrupted` (state saved), :class:`RecipeError` (settings that cannot be, a loss
    that is not finite), :class:`CheckpointError` (nothing sound to resume from, another model),
    :class:`DeviceError` (no such device, memory or disk full).
    """
    world = World.join()
    world.first(run.acquire)
    loop: Loop | None = None
    try:
        with _explained(settings), StopRequest(2.0 if world.size > 1 else 0.0) as stop:
            loop = Loop(task, settings, run, world, stop, clock)
            return loop.run_all(reporter, resume, recipe)
    except BaseException as error:
        halted = isinstance(error, Interrupted | KeyboardInterrupt)
        if world.chief:
            with contextlib.suppress(DeviceError):
                run.update(state="interrupted" if halted else "failed")
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "stopped at once; the steps since the last checkpoint are lost",
                then=f"attn resume {run.path}",
            ) from error
        raise
    finally:
        if loop is not None:
            loop.close()
        run.release()


@contextlib.contextmanager
def measuring(model: nn.Module, run: RunFolder) -> Iterator[None]:
    """In eval mode, without gradients, in the precision that ``run`` was trained in where it is possible."""
    device = next(model.parameters()).device
    arithmetic = choose_arithmetic(run.info.get("arithmetic", {}).get("precision", "float32"), device)
    arithmetic.apply()
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), arithmetic.autocast(device):
            yield
    finally:
        model.train(training)


@contextlib.contextmanager
def _explained(settings: TrainSection) -> Iterator[None]:
    """Errors of PyTorch that settings cause, as errors of ours."""
    try:
        with memory_errors(
            f"train.accumulate={settings.accumulate * 2}, or train.gradient_checkpointing=true"
        ):
            yield
    except Exception as error:
        if settings.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            what = f"torch.compile failed: {str(error).strip().splitlines()[0]}"
            raise DeviceError(Problem(what, hint="train.compile=false")) from error
        raise
