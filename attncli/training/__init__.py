"""The Task contract and the one training loop, with checkpoints, optimisers and schedules."""

from __future__ import annotations

import importlib
from typing import Any

# Names are fetched when asked for: listing runs needs run folders, not PyTorch.
_HOMES = {
    "checkpoints": ("Checkpoint", "Checkpoints", "load_weights"),
    "device": (
        "Arithmetic",
        "choose_arithmetic",
        "describe_device",
        "memory_in_use",
        "resolve_device",
        "set_threads",
    ),
    "distributed": ("World",),
    "fitting": ("fit", "measuring"),
    "progress": ("FitResult",),
    "records": ("read_records",),
    "reporter": ("ConsoleReporter", "Reporter"),
    "run": ("RunFolder",),
    "task": ("Batch", "Batches", "Goal", "Shard", "Task", "hidden_matrices"),
    "translations": ("Translations", "read_translations", "stored_translations", "write_translations"),
    "weights": ("restore_weights",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
