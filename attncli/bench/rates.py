"""The machine's own limits: how fast it multiplies matrices and copies memory."""

from __future__ import annotations

import torch

from attncli.bench.timing import clock

_SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}


def matmul_rate(dtype: torch.dtype, device: torch.device, rounds: int = 5) -> float:
    """FLOP/s of the fastest of a few square products of random matrices in ``dtype``; the best round counts.

    It is a limit to hold other figures against, hence the best and not the median.
    """
    best = 0.0
    for size in _SIZES.get(device.type, _SIZES["cpu"]):
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        a @ b
        if clock(lambda a=a, b=b: a @ b, device) > 2.0:  # no unit for this type: one look is enough
            rounds = 1
        for _ in range(rounds):
            best = max(best, 2 * size**3 / clock(lambda a=a, b=b: a @ b, device))
    return best


def copy_rate(device: torch.device, rounds: int = 5) -> float:
    """Bytes per second of a large copy, counting what is read and what is written."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = min(clock(lambda: target.copy_(source), device) for _ in range(rounds))
    return 2 * source.numel() * source.element_size() / seconds
