"""A real run killed at random moments ends bit-identical to an undisturbed one; signals save."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from commands_support import SMALL, write_text

SETTINGS = [
    *SMALL,
    "train.steps=60",
    "train.batch=8",
    "train.evaluate_every=10",
    "train.checkpoint_every=3",
    "train.log_every=1",
    "train.average=ema",
]


def start(*arguments, **options):
    command = [sys.executable, "-m", "attncli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(path):
    weights = {p.name: p.read_bytes() for p in sorted((path / "checkpoints").glob("*/model.safetensors"))}
    last = sorted((path / "checkpoints").iterdir())[-1]
    result = json.loads((path / "result.json").read_text())
    return (
        weights,
        (last / "optimizer.safetensors").read_bytes(),
        (path / "metrics.jsonl").read_bytes(),
        result["metrics"],
        result["best_step"],
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus = write_text(folder / "text.txt", documents=200)
    process = start("pretrain", "bert", "--data", corpus, "--out", folder / "run", *SETTINGS)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return corpus, finished(folder / "run")


def test_killed_anywhere_and_resumed_is_bit_identical(undisturbed, tmp_path):
    corpus, expected = undisturbed
    run, rng, kills = tmp_path / "run", random.Random(7), 0
    process = start("pretrain", "bert", "--data", corpus, "--out", run, *SETTINGS)
    while kills < 4:
        before = (
            len((run / "timings.jsonl").read_text().splitlines()) if (run / "timings.jsonl").exists() else 0
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:  # let it get some steps further
            time.sleep(0.02)
            lines = (
                (run / "timings.jsonl").read_text().splitlines() if (run / "timings.jsonl").exists() else []
            )
            if len(lines) > before + rng.randint(1, 8):
                break
        time.sleep(rng.random() * 0.1)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        process = start("resume", run)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert kills >= 2
    assert finished(run) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(undisturbed, tmp_path, number):
    corpus, expected = undisturbed
    run = tmp_path / "run"
    process = start("pretrain", "bert", "--data", corpus, "--out", run, *SETTINGS)
    while not (run / "timings.jsonl").exists() or len((run / "timings.jsonl").read_text().splitlines()) < 4:
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"next: attn resume {run}" in err
    assert "Traceback" not in err
    done = start("resume", run)
    _, err = done.communicate(timeout=300)
    assert done.returncode == 0, err
    assert finished(run) == expected


def test_two_processes_give_the_losses_of_one(undisturbed, tmp_path):
    corpus, _ = undisturbed
    settings = [*SETTINGS, "train.steps=6", "model.dropout=0", "train.precision=float32"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert start("pretrain", "bert", "--data", corpus, "--out", one, *settings).wait(300) == 0
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "attncli",
    ]
    command += ["pretrain", "bert", "--data", str(corpus), "--out", str(two), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("masked_loss") == 1  # one process speaks

    def losses(path):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
