"""The training loss of one part of a batch, as a module that PyTorch's DDP engine can wrap."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from attncli.training.distributed import World
from attncli.training.task import Batch, Task


class Objective(nn.Module):
    """The task's loss; its forward pass gives what to differentiate and what to log."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._losses = task.losses

    def forward(self, batch: Batch, scales: dict[str, float]) -> tuple[Tensor, Tensor]:
        """The sum of the loss terms times their ``scales``, and the terms themselves [len(scales)]."""
        terms = self._losses(batch)
        loss = functools.reduce(torch.add, (terms[name] * scale for name, scale in scales.items()))
        return loss, torch.stack([terms[name].detach().double() for name in scales])


def build_objective(task: Task, world: World, device: torch.device, rounds: int) -> nn.Module:
    """The objective, wrapped for several processes.

    One part is run forward and backward before: DDP must be told whether some parameters get no
    gradient, and looks for them in every step then.
    """
    objective = Objective(task)
    if world.size == 1:
        return objective
    buffers = [(buffer, buffer.clone()) for buffer in task.model.buffers()]
    (part,) = task.batches().next(world.parts(rounds)[:1], world.size * rounds)
    objective(move(part, device), dict.fromkeys(task.counts(part), 1.0))[0].backward()
    unused = [p for p in objective.parameters() if p.requires_grad and p.grad is None]
    objective.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    (unused_somewhere,) = world.add([float(len(unused))])
    engine = nn.parallel.DistributedDataParallel
    renamed = "forward_sync_buffers" in inspect.signature(engine).parameters  # in PyTorch 2.13
    return engine(
        objective,
        gradient_as_bucket_view=True,
        find_unused_parameters=unused_somewhere > 0,
        **{"forward_sync_buffers" if renamed else "broadcast_buffers": False},
    )


def exchange(objective: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Context of one round: processes exchange gradients in the backward pass of the last one only."""
    if last or not isinstance(objective, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return objective.no_sync()


def move(value: Any, device: torch.device) -> Any:
    """``value`` with every tensor in it on ``device``; the copy to a GPU does not wait."""
    if isinstance(value, Tensor):
        if device.type == "cuda" and value.device.type == "cpu":
            return value.pin_memory().to(device, non_blocking=True)
        return value.to(device)
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(move(item, device) for item in value)
    return value
