"""Measuring finished weights as the loop measures them while training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from attncli.training.device import choose_arithmetic
from attncli.training.run import RunFolder


@contextmanager
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
