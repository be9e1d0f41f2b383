"""The device, its threads and its arithmetic: what the settings ask for, what the machine likes."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from attncli.errors import DeviceError, Problem, nearest

_FASTER = 1.2  # how many times faster a cheaper arithmetic must be to be taken
_EXACT = 1e-5  # relative error up to which a float32 product counts as one


def resolve_device(name: str, local_rank: int = 0, processes: int = 1) -> torch.device:
    """The device that ``train.device`` names; auto takes a CUDA GPU when there is one, else the CPU.

    With several processes, ``auto`` and ``cuda`` give each process of a machine a GPU of its own.
    :class:`DeviceError` says what is missing.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", name)
    if match is None or (match[2] and match[1] != "cuda"):
        near = nearest(name, ["auto", "cpu", "cuda"])
        hint = f"did you mean {near}?" if near else "auto, cpu, cuda, cuda:1 ..."
        raise DeviceError(Problem(f"train.device={name!r} is no device", hint=hint))
    kind, found = match[1], torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cpu" or (kind == "auto" and not found):
        return torch.device("cpu")
    if not found:
        why = (
            "this PyTorch was built without CUDA"
            if torch.version.cuda is None and torch.version.hip is None
            else "PyTorch finds no GPU or no driver"
        )
        raise DeviceError(Problem(f"train.device={name}: {why}", hint="train.device=cpu"), then="attn doctor")
    index = int(match[2]) if match[2] else local_rank
    if index >= found:
        what = (
            f"{processes} processes, one GPU each"
            if processes > 1 and not match[2]
            else f"device cuda:{index}"
        )
        raise DeviceError(f"{what}: this machine has {found} GPU{'s' * (found > 1)}, counted from 0")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def set_threads(threads: int) -> int:
    """Let PyTorch use ``threads`` CPU threads (0: its own choice). The number in force."""
    most = os.cpu_count() or 1
    if threads > most:
        raise DeviceError(f"train.threads={threads}: this machine has {most} processors")
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


@dataclass(frozen=True)
class Arithmetic:
    """How numbers are multiplied. Stored with a run, so that it resumes with the same."""

    precision: str
    """float32, or bf16: autocast to bfloat16."""
    matmul: str = "highest"
    """What ``torch.set_float32_matmul_precision`` is given."""
    reason: str = ""

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Context for forward passes, in training and in evaluation."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def dtype(self) -> torch.dtype:
        """Type that matrix products and attention take."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def apply(self) -> None:
        """Set what is global to the process."""
        torch.set_float32_matmul_precision(self.matmul)

    def plain(self) -> dict[str, str]:
        """JSON values to rebuild it from."""
        return asdict(self)


def choose_arithmetic(
    precision: str, device: torch.device, measure: Callable[[torch.dtype], float] | None = None
) -> Arithmetic:
    """The arithmetic for ``train.precision``; auto measures a matrix product on a CPU.

    ``measure(dtype)`` gives seconds of one product, for tests.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not able:
            raise DeviceError(
                Problem(
                    f"train.precision=bf16: {torch.cuda.get_device_name(device)} has no bfloat16",
                    hint="train.precision=float32",
                )
            )
        if precision != "auto":
            return Arithmetic(precision, reason="set in the recipe")
        return Arithmetic("bf16" if able else "float32", reason=f"bfloat16 units: {'yes' if able else 'no'}")
    matmul = _cpu_matmul()
    if precision != "auto":
        return Arithmetic(precision, matmul, "set in the recipe")
    torch.set_float32_matmul_precision(matmul)
    seconds = measure or _product_seconds
    ratio = seconds(torch.float32) / seconds(torch.bfloat16)
    said = f"bf16 products run at {ratio:.2g} times the speed of float32"
    return Arithmetic("bf16" if ratio > _FASTER else "float32", matmul, said)


def _cpu_matmul() -> str:
    """medium where float32 products gain speed from it and stay float32 products.

    It lets PyTorch use oneDNN's kernel, which on some processors is twice MKL's and as exact; on
    others (AMX) it multiplies in bfloat16, which the error shows.
    """
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 256, generator=generator), torch.randn(256, 256, generator=generator)
    exact = a.double() @ b.double()
    try:
        torch.set_float32_matmul_precision("highest")
        plain = _product_seconds(torch.float32)
        torch.set_float32_matmul_precision("medium")
        other = _product_seconds(torch.float32)
        error = float(((a @ b).double() - exact).norm() / exact.norm())
    finally:
        torch.set_float32_matmul_precision(before)
    return "medium" if plain / other > _FASTER and error < _EXACT else "highest"


def _product_seconds(dtype: torch.dtype, size: int = 384, rounds: int = 15) -> float:
    """Fastest of ``rounds`` products [size, size] x [size, size]: a loaded machine only adds time."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    a @ b
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return min(times)


def memory_in_use(device: torch.device) -> int:
    """Bytes: the most a GPU's tensors have taken so far, or what the process holds in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024


def describe_device(device: torch.device) -> str:
    """For a run's first lines: the device's name, with the threads of a CPU."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    threads = torch.get_num_threads()
    return f"cpu, {_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


@contextlib.contextmanager
def memory_errors(advice: str) -> Any:
    """Turn running out of memory, on a GPU or a CPU, into a :class:`DeviceError` that ends in ``advice``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(Problem("the GPU's memory is full", hint=advice)) from error
    except MemoryError as error:
        raise DeviceError(Problem("main memory is full", hint=advice)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise DeviceError(Problem("main memory is full", hint=advice)) from error
