"""Benchmarks: honest arithmetic on known times, and the commands end to end at toy size."""

import importlib.util
import json

import pytest
import torch

from attncli.bench import timing
from attncli.bench.attention import Row, growth
from attncli.bench.memory import peak_memory
from attncli.bench.rates import matmul_rate
from attncli.bench.timing import Timing, interleave
from attncli.bench.train import StepBatch, flops_a_step, table
from attncli.cli import run as run_program
from attncli.recipe.loading import load_recipe

CPU = torch.device("cpu")
TOY = ["model.size=tiny", "model.length=16", "train.batch=2", "evaluate.rounds=2", "evaluate.warmup=0"]


def test_timing_summarises_by_median_and_quartiles():
    assert Timing.of([3.0]) == Timing(3.0, 3.0, 3.0, 1)
    t = Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (t.median, t.low, t.high) == (3.0, 2.0, 4.0)
    assert t.spread == pytest.approx(2 / 3)


def test_cases_run_in_turn_and_warmup_does_not_count(monkeypatch):
    calls, now = [], [0.0]

    def step(name, seconds):
        calls.append(name)
        now[0] += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    done = interleave(
        {"a": lambda: step("a", 1.0), "b": lambda: step("b", 5.0)}, rounds=3, warmup=1, device=CPU
    )
    assert calls == ["a", "b"] * 4
    assert done["a"].median == 1.0
    assert done["b"].median == 5.0
    assert done["a"].rounds == 3


def test_a_case_that_times_itself_is_believed():
    assert interleave({"far": lambda: 7.5}, rounds=2, warmup=0, device=CPU)["far"].median == 7.5


def test_peak_memory_is_that_of_the_call():
    x = torch.ones(250_000)  # 1 MB

    def call():
        a = x + 1
        b = a + 1  # two alive
        del a
        return b + 1

    assert peak_memory(call, CPU) == pytest.approx(2e6, rel=0.01)


def test_rates_divide_operations_by_seconds(monkeypatch):
    monkeypatch.setattr("attncli.bench.rates.clock", lambda call, device: 0.5)
    assert matmul_rate(torch.float32, CPU, rounds=1) == 2 * 2048**3 / 0.5


def test_table_divides_by_the_right_thing():
    recipe = load_recipe("bench", "train", TOY).recipe
    timed = {("attn", "float32"): Timing.of([0.5]), ("peer", "float32"): Timing.of([2.0])}
    ours, peer = table(recipe, timed, {"float32": 1e9})
    assert ours["tokens_per_second"] == 2 * 16 / 0.5
    assert peer["attn_times_as_fast"] == 4.0
    assert ours["share_of_rate"] == pytest.approx(flops_a_step(recipe) / 0.5 / 1e9)


def test_flops_of_bert_mini_are_those_of_the_paper_count():
    recipe = load_recipe("bench", "train", []).recipe
    width, layers, inner, tokens, length, words = 256, 4, 1024, 32 * 128, 128, 8192
    body = (
        2 * tokens * layers * (4 * width * width + 2 * width * inner) + 4 * tokens * length * width * layers
    )
    masked = round(0.15 * tokens)
    head = 2 * masked * (width * words + width * width)
    assert flops_a_step(recipe) == pytest.approx(3 * (body + head), rel=1e-3)


def test_batch_masks_the_share_asked_for():
    recipe = load_recipe("bench", "train", TOY).recipe
    batch = StepBatch.random(recipe, CPU)
    assert len(batch.labels_at) == round(0.15 * 32)
    assert (batch.dense_labels != -100).sum() == len(batch.labels)
    assert torch.equal(batch.dense_labels.flatten()[batch.labels_at], batch.labels)


def test_growth_finds_the_exponent():
    rows = [
        Row("x", "float32", "forward", n, 1, milliseconds=1e-6 * n**2, spread=0, peak_mib=3e-3 * n, ratio=1)
        for n in (512, 1024, 2048, 4096)
    ]
    (fit,) = growth(rows)
    assert fit["time_exponent"] == pytest.approx(2.0)
    assert fit["memory_exponent"] == pytest.approx(1.0)


def test_bench_train_command(capfd, tmp_path):
    out = tmp_path / "bench.csv"
    assert run_program(["bench", "train", *TOY, "--json", "--out", str(out)]) == 0
    report = json.loads(capfd.readouterr().out)
    cases = {row["case"] for row in report["rows"]}
    assert "attn" in cases
    if importlib.util.find_spec("transformers"):
        assert {"transformers eager", "transformers sdpa"} <= cases
    assert sum(report["parts"].values()) == pytest.approx(1)
    assert len(out.read_text().splitlines()) == 1 + len(report["rows"])


def test_bench_attention_command(capfd):
    settings = ["data.lengths=[16,32]", "data.tokens=32", "model.attention.heads=2", "evaluate.rounds=2"]
    assert run_program(["bench", "attention", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert len(report["rows"]) == 2 * 2 * 3
    assert all(row["peak_mib"] > 0 for row in report["rows"])
    assert run_program(["bench", "attention", *settings]) == 0
    assert "backend chosen" in capfd.readouterr().out


def test_bench_mistakes(capfd):
    assert run_program(["bench", "attentoin"]) == 2
    assert "attention" in capfd.readouterr().err
    assert run_program(["bench", "train", "model.heads=3"]) == 2
    assert "model.attention.heads" in capfd.readouterr().err
    assert run_program(["bench", "train", "--out", "x.xml"]) == 2
    assert ".csv" in capfd.readouterr().err
