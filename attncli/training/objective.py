"""The training loss of one part of a batch, as a module that PyTorch's DDP engine can wrap."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
from torch import Tensor, nn

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


def build_objective(task: Task, processes: int) -> nn.Module:
    """The objective, wrapped for several processes."""
    objective = Objective(task)
    if processes == 1:
        return objective
    return nn.parallel.DistributedDataParallel(
        objective,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        find_unused_parameters=True,  # a part may lack a loss term, and with it a head
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
