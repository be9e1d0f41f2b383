from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from attncli.errors import DeviceError
from attncli.training.device import (
    Arithmetic,
    choose_arithmetic,
    describe_device,
    resolve_device,
    set_threads,
)

CPU = torch.device("cpu")


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    gpus(monkeypatch, 0)
    assert resolve_device("auto") == CPU
    gpus(monkeypatch, 2)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("auto", local_rank=1, processes=2) == torch.device("cuda", 1)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize(
    ("name", "found", "said"),
    [
        ("cdua", 0, "did you mean cuda?"),
        ("cpu:1", 0, "is no device"),
        ("tpu9", 0, "is no device"),
        ("cuda", 0, "train.device=cpu"),
        ("cuda:3", 2, "device cuda:3: this machine has 2 GPUs"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, name, found, said):
    gpus(monkeypatch, found)
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert said in str(caught.value)


def test_more_processes_than_gpus(monkeypatch):
    gpus(monkeypatch, 1)
    with pytest.raises(DeviceError, match="2 processes, one GPU each: this machine has 1 GPU"):
        resolve_device("auto", local_rank=1, processes=2)


def test_threads():
    before = torch.get_num_threads()
    try:
        assert set_threads(0) == before
        assert set_threads(1) == 1
        assert "1 thread" in describe_device(CPU)
    finally:
        torch.set_num_threads(before)
    with pytest.raises(DeviceError, match=f"this machine has {os.cpu_count()} processors"):
        set_threads(100_000)


@pytest.mark.parametrize(("ratio", "taken"), [(4.1, "bf16"), (1.1, "float32"), (0.13, "float32")])
def test_precision_auto_goes_by_a_measurement(ratio, taken):
    chosen = choose_arithmetic("auto", CPU, lambda dtype: ratio if dtype is torch.float32 else 1.0)
    assert chosen.precision == taken
    assert f"{ratio:.2g} times" in chosen.reason


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_set_precision_is_not_questioned(precision):
    assert choose_arithmetic(precision, CPU, lambda dtype: 1 / 0).precision == precision


def test_arithmetic_as_json_and_as_context():
    chosen = choose_arithmetic("bf16", CPU)
    assert Arithmetic(**chosen.plain()) == chosen
    a = torch.ones(4, 4)
    with chosen.autocast(CPU):
        assert (a @ a).dtype == torch.bfloat16
    with Arithmetic("float32").autocast(CPU):
        assert (a @ a).dtype == torch.float32


def test_the_matmul_setting_keeps_float32_products(monkeypatch):
    before = torch.get_float32_matmul_precision()
    chosen = choose_arithmetic("float32", CPU)
    try:
        chosen.apply()
        a, b = torch.randn(200, 300), torch.randn(300, 100)
        error = ((a @ b).double() - a.double() @ b.double()).norm() / (a.double() @ b.double()).norm()
        assert error < 1e-5
    finally:
        torch.set_float32_matmul_precision(before)


def test_memory_is_that_of_this_process():
    # a fresh process: in this one, what earlier tests left may be given back in between
    program = """
import torch
from attncli.training.device import memory_in_use
before = memory_in_use(torch.device("cpu"))
held = torch.ones(64 * 2**20)  # 256 MiB
print(memory_in_use(torch.device("cpu")) - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 200 * 2**20 < int(run.stdout) < 400 * 2**20


@pytest.mark.usefixtures("gpu")
def test_a_gpu_s_arithmetic_comes_with_its_reason():
    there = torch.device("cuda", 0)
    assert choose_arithmetic("float32", there).reason == "set in the recipe"
    found = choose_arithmetic("auto", there)
    assert found.reason == f"bfloat16 units: {'yes' if found.precision == 'bf16' else 'no'}"
