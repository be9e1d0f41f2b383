"""``attn doctor``: what this machine is, how fast it multiplies, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

import attncli
from attncli import console
from attncli.bench.rates import copy_rate, matmul_rate
from attncli.data.cache import cache_folder
from attncli.training.device import choose_arithmetic

LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "datasets",
    "safetensors",
    "pydantic",
    "typer",
    "rich",
    "sacrebleu",
    "scikit-learn",
    "matplotlib",
    "tensorboard",
    "transformers",
)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "bf16", "asimd", "sve")


def doctor() -> None:
    """Report on the machine: tables on standard output, or one JSON document."""
    console.say("measuring; this takes a few seconds")
    report = examine()
    console.document(report)
    if console.json_mode():
        return
    for title in ("program", "processor", "device", "speed", "storage"):
        console.table([title, ""], list(report[title].items()))
    versions = [(name, version or "not installed") for name, version in report["libraries"].items()]
    console.table(["library", "version"], versions)
    if report["missing"]:
        console.table(["not there", "how to get it"], [(m["what"], m["how"]) for m in report["missing"]])
    else:
        console.result("nothing is missing")


def examine() -> dict[str, Any]:
    """All that :func:`doctor` says, as plain values."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arithmetic = choose_arithmetic("auto", device)
    arithmetic.apply()
    rates = {
        "float32 matrix product, GFLOP/s": matmul_rate(torch.float32, device) / 1e9,
        "bf16 matrix product, GFLOP/s": matmul_rate(torch.bfloat16, device) / 1e9,
        "copy, GB/s": copy_rate(device) / 1e9,
    }
    return {
        "program": {
            "attn": attncli.__version__,
            "python": f"{platform.python_version()} ({sys.executable})",
            "system": platform.platform(),
        },
        "processor": _processor(),
        "device": _device(device) | {"precision": f"{arithmetic.precision}: {arithmetic.reason}"},
        "speed": rates,
        "storage": _storage(),
        "libraries": {name: _version(name) for name in LIBRARIES} | {"torch": torch.__version__},
        "missing": _missing(),
    }


def _processor() -> dict[str, Any]:
    model, flags = platform.processor() or platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    except OSError:
        pass  # not Linux
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": model,
        "units": ", ".join(flag for flag in _FLAGS if flag in flags)
        or torch.backends.cpu.get_cpu_capability(),
        "processors": usable,
        "threads PyTorch uses": torch.get_num_threads(),
        "memory": _memory(),
    }


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
        if Path("/proc/meminfo").exists():
            text = Path("/proc/meminfo").read_text(encoding="utf-8")
            free = next(
                int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable")
            )
        return f"{console.size(total)}, {console.size(free)} free"
    except (OSError, ValueError, StopIteration):
        return "unknown"


def _device(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"device": "cpu"}
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = {f"cuda:{i}": f"{gpu.name}, {console.size(gpu.total_memory)}" for i, gpu in enumerate(found)}
    return {"device": "cuda", **named, "CUDA": torch.version.cuda}


def _storage() -> dict[str, Any]:
    cache = cache_folder()
    disk = shutil.disk_usage(Path.cwd())
    held = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return {
        "this folder": f"{Path.cwd()}, {console.size(disk.free)} free",
        "cache of tokenised text": f"{cache}, {console.size(held)}",
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing() -> list[dict[str, str]]:
    lacking = []
    if _version("tensorboard") is None:
        lacking.append(("tensorboard (train.tensorboard=true)", "pip install 'attncli[tensorboard]'"))
    if _version("transformers") is None:
        lacking.append(("transformers (the peer in attn bench train)", "pip install transformers"))
    if not any(map(shutil.which, (os.environ.get("CXX") or "g++", "g++", "clang++"))):
        lacking.append(
            ("a C++ compiler (train.compile=true)", "install g++ or clang++ with the system's packages")
        )
    if not torch.cuda.is_available():
        how = "not needed; where there is one, install the PyTorch build for it from pytorch.org"
        lacking.append(("a CUDA GPU", how))
    return [{"what": what, "how": how} for what, how in lacking]
