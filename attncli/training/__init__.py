"""The Task contract and the one training loop, with checkpoints, optimisers and schedules."""

from attncli.training.checkpoints import Checkpoint, Checkpoints, load_weights
from attncli.training.device import (
    Arithmetic,
    choose_arithmetic,
    describe_device,
    memory_in_use,
    resolve_device,
    set_threads,
)
from attncli.training.distributed import World
from attncli.training.loop import fit
from attncli.training.progress import FitResult
from attncli.training.records import read_records
from attncli.training.reporter import ConsoleReporter, Reporter
from attncli.training.run import RunFolder
from attncli.training.task import Batch, Batches, Goal, Shard, Task, hidden_matrices
from attncli.training.weights import restore_weights

__all__ = [
    "Arithmetic",
    "Batch",
    "Batches",
    "Checkpoint",
    "Checkpoints",
    "ConsoleReporter",
    "FitResult",
    "Goal",
    "Reporter",
    "RunFolder",
    "Shard",
    "Task",
    "World",
    "choose_arithmetic",
    "describe_device",
    "fit",
    "hidden_matrices",
    "load_weights",
    "memory_in_use",
    "read_records",
    "resolve_device",
    "restore_weights",
    "set_threads",
]
