"""Benchmarks: honest arithmetic on known times, and the commands end to end at toy size."""

import importlib.util
import json
import statistics
from random import Random

import pytest
import torch

from attncli.attention import MECHANISMS, Causal
from attncli.attention.layouts import LAYOUTS
from attncli.bench import timing
from attncli.bench.attention import Row, growth
from attncli.bench.cases import Cases
from attncli.bench.compare import compare
from attncli.bench.layers import build_layers
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


def test_the_error_of_a_quartile_is_its_scatter_over_samples():
    assert Timing.of([2.0] * 8).error == 0
    random = Random(0)
    samples = [[random.gauss(10, 1) for _ in range(40)] for _ in range(300)]
    timings = [Timing.of(sample) for sample in samples]
    scatter = statistics.stdev(timing.low for timing in timings) / 10
    told = statistics.fmean(timing.error for timing in timings)
    assert told == pytest.approx(scatter, rel=0.3)


def test_noisy_cases_are_measured_for_longer(monkeypatch):
    random, now = Random(1), [0.0]

    def rounds(scatter, budget):
        def step():
            now[0] += random.uniform(1 - scatter, 1 + scatter)

        return interleave({"x": step}, rounds=5, warmup=0, device=CPU, until=0.05, budget=budget)["x"].rounds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    assert rounds(0.0, 1e9) == 5
    assert 5 < rounds(0.9, 1e9) <= 50
    assert rounds(0.9, 1.0) == 5  # the time is over


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


TOY_ATTENTION = [
    "data.mechanisms=[scaled_dot,longformer,linear]",
    "data.lengths=[1024,2048]",
    "data.tokens=1024",
    "model.attention.heads=1",
    "model.attention.window=8",
    "model.head_width=8",
    "train.directions=[forward]",
    "evaluate.rounds=3",
    "evaluate.peers=false",
]


def test_bench_attention_command(capfd, tmp_path):
    out, picture = tmp_path / "a.json", tmp_path / "a.png"
    assert run_program(["bench", "attention", *TOY_ATTENTION, "--json", "--out", str(out)]) == 0
    report = json.loads(capfd.readouterr().out)
    assert json.loads(out.read_text())["rows"] == report["rows"]
    rows = {(row["case"], row["length"]): row for row in report["rows"]}
    assert len(rows) == 2 * 5
    assert all(row["peak_mib"] > 0 for row in rows.values())
    exact, approximate = rows["attn scaled_dot", 1024], rows["attn linear", 1024]
    assert exact["error"] < 1e-5 < 0.01 < approximate["error"]
    assert exact["gigaflop"] == pytest.approx(4 * 1024**2 * 8 / 1e9)
    assert approximate["gigaflop"] == pytest.approx(2 * 2 * 1024 * 8 * 9 / 1e9)
    fits = {fit["case"]: fit for fit in report["growth"]}
    assert fits["attn longformer"]["memory_exponent"] < 1.2 < fits["plain formula"]["memory_exponent"]
    assert {"mechanism": "linear", "length": 2048}.items() <= report["choices"][-1].items()

    assert run_program(["bench", "attention", *TOY_ATTENTION, "--picture", str(picture)]) == 0
    shown = capfd.readouterr().out
    assert "backend of longformer by length: 1024: blocks" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("what", ["attention", "quality", "train", "translate", "decode"])
def test_a_dry_run_says_what_would_be_measured(capfd, monkeypatch, what):
    monkeypatch.setattr(timing, "interleave", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("attncli.bench.quality.measure", lambda *_: pytest.fail("measured"))
    assert run_program(["bench", what, "--dry-run", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["recipe"] == f"bench/{what}"
    if what == "attention":
        assert told["time"] == "12 shapes, 5 seconds each: 1:00"
        assert {"attn window", "plain formula"} <= set(told["cases"])
    elif what == "quality":
        assert told["time"].startswith("10:40")
    else:
        assert told["rounds"] > 1


def test_layouts_side_by_side(capfd):
    settings = [*TOY_ATTENTION[2:], "data.mechanisms=[scaled_dot]", "data.lengths=[64]", "data.layouts=[all]"]
    settings += ["model.attention.heads=4", "train.directions=[forward,backward]"]
    assert run_program(["bench", "attention", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    names = list(LAYOUTS)
    forward = {row["case"] for row in report["rows"] if row["direction"] == "forward"}
    assert forward >= {f"{kind} {name}" for kind in ("layer", "decode") for name in names}
    layers = [row for row in report["rows"] if row["case"].startswith(("layer ", "decode "))]
    assert all(row["error"] is None and row["milliseconds"] > 0 for row in layers)
    assert len(layers) == 3 * len(names)
    assert [row["held"] for row in report["held"]] == [2 * 4 * 8, 2 * 8, 2 * 8, 4 * 8]


def test_what_cannot_be_timed_is_left_out_and_said(capfd):
    settings = [*TOY_ATTENTION[1:], "data.mechanisms=[all]", "data.lengths=[16]", "data.causal=true"]
    settings.remove("model.attention.window=8")
    assert run_program(["bench", "attention", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["left_out"] == [f"{name}: it has no causal form" for name in ("linformer", "nystrom")]
    assert len(report["rows"]) == len(MECHANISMS) - 2 + 2


def _rows(seed, slower=1.0, spread=0.1, count=12):
    """Two cases at several shapes, times off by noise of the size of the spread."""
    random = Random(seed)
    return [
        {
            "case": case,
            "precision": "float32",
            "direction": "forward",
            "length": 128 * number,
            "batch": 1,
            "spread": spread * random.uniform(0.5, 1.5),
            "ratio": random.gauss(1, spread / 3) * (slower if case == "attn window" else 1),
        }
        for case in ("attn window", "attn linear")
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("spread", [0.02, 0.15, 0.4])
def test_a_slow_down_is_flagged_and_noise_is_not(spread):
    found = []
    for seed in range(40):
        changes = compare(_rows(seed, 1.0, spread), _rows(-seed - 1, 1.3, spread))
        found.append({change.case: change.verdict for change in changes})
    assert sum(verdicts["attn window"] == "slower" for verdicts in found) >= 38
    assert sum(verdicts["attn linear"] == "the same" for verdicts in found) >= 38


def test_compare_takes_an_earlier_result(capfd, tmp_path, monkeypatch):
    out = tmp_path / "before.json"
    base = ["bench", "attention", *TOY_ATTENTION]
    assert run_program([*base, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    for row in report["rows"]:
        if row["case"] == "attn longformer":
            row["ratio"] /= 20
            row["spread"] = 0.1
    out.write_text(json.dumps(report))
    assert run_program([*base, "--compare", str(out)]) == 6
    found = capfd.readouterr()
    assert "slower than" in found.err
    assert "attn longformer" in found.err.split("slower than")[1]
    for wrong, said in (
        ("nothing.json", "no such file"),
        (__file__, "no JSON result of attn bench attention"),
    ):
        assert run_program([*base, "--compare", wrong]) == 2
        assert said in capfd.readouterr().err
    assert run_program(["bench", "train", "--picture", "x.png"]) == 2
    assert "belongs to attn bench attention and quality" in capfd.readouterr().err


@pytest.mark.parametrize("causal", [False, True])
def test_layers_of_other_libraries_compute_what_ours_does(causal):
    exact, layers, left_out = build_layers(
        heads=2, head_dim=8, causal=causal, kind=torch.float32, device=CPU, peers=True, seed=1
    )
    assert {"attn layer", "torch.nn.MultiheadAttention"} <= layers.keys()
    assert left_out == []
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        want = exact(x.double(), mask=Causal() if causal else None)
        for name, (call, parameters) in layers.items():
            assert torch.allclose(call(x).double(), want, atol=1e-5), name
            assert sum(p.numel() for p in parameters) == 4 * 16 * 16, name
    grads = [torch.autograd.grad(call(x).sum(), parameters) for call, parameters in layers.values()]
    assert all(len(found) >= 2 for found in grads)


def test_layers_stand_beside_the_mechanisms(capfd, monkeypatch):
    monkeypatch.setattr(Cases, "_flex", lambda self, shape: [])  # compiling takes half a minute
    settings = [*TOY_ATTENTION[:-1], "data.lengths=[1024]", "data.mechanisms=[scaled_dot]"]
    settings += ["train.directions=[forward,backward]", "data.causal=true"]
    assert run_program(["bench", "attention", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    rows = {(row["case"], row["direction"]): row for row in report["rows"]}
    for direction in ("forward", "backward"):
        mine, theirs = rows["attn layer", direction], rows["torch.nn.MultiheadAttention", direction]
        assert theirs["ratio"] == 1
        assert mine["error"] < 1e-5
        assert theirs["error"] < 1e-5
    backward = rows["attn layer", "backward"]["gigaflop"]
    assert backward > 2 * rows["attn layer", "forward"]["gigaflop"]


def test_bench_mistakes(capfd):
    assert run_program(["bench", "attentoin"]) == 2
    assert "attention" in capfd.readouterr().err
    assert run_program(["bench", "train", "model.heads=3"]) == 2
    assert "model.attention.heads" in capfd.readouterr().err
    assert run_program(["bench", "train", "--out", "x.xml"]) == 2
    assert ".csv" in capfd.readouterr().err
