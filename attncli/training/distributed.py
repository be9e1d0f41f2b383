"""Several processes, as started by torchrun: who this one is, sums over all, and decisions made once."""

from __future__ import annotations

import atexit
import gc
import importlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from attncli import errors
from attncli.errors import AttnError, DeviceError, Problem

T = TypeVar("T")
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class World:
    """The processes of this run. Implements :class:`~attncli.training.task.Shard`.

    Values that the loop exchanges are few and live on the CPU, so they go through gloo; gradients of
    GPUs go through NCCL.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.interrupted: Callable[[], bool] = lambda: False

    @classmethod
    def join(cls) -> World:
        """This process's world: torchrun's when it started us, else one process. May be called again."""
        if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
            return cls()
        absent = [name for name in _VARIABLES if name not in os.environ]
        if absent:
            raise DeviceError(
                Problem(f"WORLD_SIZE is set, but not {', '.join(absent)}", hint="start with torchrun")
            )
        if not dist.is_initialized():
            # DDP imports it, and its functions would keep the group they find for ever: none yet
            importlib.import_module("torch.distributed.nn")
            gpus = torch.cuda.is_available() and dist.is_nccl_available()
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))

    @property
    def chief(self) -> bool:
        """Whether this process saves and reports."""
        return self.rank == 0

    def parts(self, rounds: int) -> list[int]:
        """The parts of a batch cut into ``size * rounds`` that are this process's."""
        return list(range(self.rank * rounds, (self.rank + 1) * rounds))

    def mine(self, items: Iterable[T]) -> Iterator[T]:
        """Every ``size``-th of ``items``, starting at this rank.

        Alone, it also stops an evaluation that the user has interrupted.
        """
        for item in itertools.islice(items, self.rank, None, self.size):
            if self.size == 1 and self.interrupted():
                raise EvaluationStopped
            yield item

    def sum(self, totals: dict[str, float]) -> dict[str, float]:
        """``totals`` added up over all processes in float64; a key that one lacks counts as 0 there."""
        if self.size == 1:
            return {key: float(value) for key, value in totals.items()}
        summed: dict[str, float] = {}
        for one in self._gather({key: float(value) for key, value in totals.items()}):
            for key, value in one.items():
                summed[key] = summed.get(key, 0.0) + value
        return summed

    def gather(self, items: list[T]) -> list[T]:
        """The items (JSON values) of all processes, one process after the other."""
        return items if self.size == 1 else list(itertools.chain.from_iterable(self._gather(items)))

    def add(self, values: Sequence[float]) -> list[float]:
        """``values``, as many in each process, added up over all: one exchange."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def first(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returns in the first process (a JSON value), in all of them.

        An error of ours is raised in all of them too. The others wait meanwhile.
        """
        if self.size == 1:
            return make()
        answer: dict[str, Any] = {}
        crash: BaseException | None = None
        if self.chief:
            try:
                answer = {"value": make()}
            except AttnError as error:
                problems = [[p.what, p.where, p.hint] for p in error.problems]
                answer = {"error": type(error).__name__, "problems": problems, "then": error.then}
            except BaseException as error:  # told to the others, so that they do not wait for ever
                answer, crash = (
                    {"error": "DeviceError", "problems": [["process 0 failed", None, None]]},
                    error,
                )
        told = self._gather(answer)[0]
        if crash is not None:
            raise crash
        if "error" in told:
            kind = getattr(errors, told["error"], AttnError)
            raise kind(*(Problem(*p) for p in told["problems"]), then=told.get("then"))
        return told["value"]

    def _gather(self, value: Any) -> list[Any]:
        """One JSON value of each process, in all of them; no pickles travel."""
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([mine.numel()]))
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: mine.numel()] = mine
        rows: list[Tensor] = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(rows, padded)
        return [json.loads(bytes(row[: int(size)].numpy())) for row, size in zip(rows, sizes, strict=True)]


class EvaluationStopped(Exception):
    """The user interrupted in the middle of an evaluation."""


def _leave() -> None:
    """End the group and its threads, which could abort the process in the middle of its exit."""
    gc.collect()  # a DDP that is no longer used holds the group
    if dist.is_initialized():
        dist.destroy_process_group()
