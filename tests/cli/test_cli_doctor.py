"""``attn doctor``: what it measures and what it finds missing."""

import json

import pytest
import torch

from attncli import cli, console
from attncli.commands import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "matmul_rate", lambda dtype, device: 2e11 if dtype == torch.float32 else 8e11)
    monkeypatch.setattr(doctor, "copy_rate", lambda device: 2e10)
    yield
    console.start()


def test_report(capsys):
    assert cli.run(["doctor"]) == 0
    told = capsys.readouterr()
    for words in (
        "float32 matrix product, GFLOP/s   200.0",
        "bf16 matrix product, GFLOP/s      800.0",
        f"torch          {torch.__version__}",
        "precision",
        "threads PyTorch uses",
        "GiB free",
    ):
        assert words in told.out
    assert told.err == "measuring; this takes a few seconds\n"


def test_json(capsys):
    assert cli.run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["program", "processor", "device", "speed", "storage", "libraries", "missing"]
    assert report["speed"]["copy, GB/s"] == 20.0
    assert report["processor"]["processors"] >= 1
    assert report["device"]["precision"].startswith(("float32: ", "bf16: "))
    assert report["libraries"]["torch"] == torch.__version__


def test_what_is_missing_comes_with_the_way_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.run(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "pip install 'attncli[tensorboard]'" in told
    assert "pip install transformers" in told
    assert "a C++ compiler (train.compile=true)" in told
    assert "a CUDA GPU" in told


def test_the_measured_rates_are_of_this_machine(monkeypatch):
    monkeypatch.undo()
    rate = doctor.matmul_rate(torch.float32, torch.device("cpu"), rounds=1)
    assert 1e8 < rate < 1e14
