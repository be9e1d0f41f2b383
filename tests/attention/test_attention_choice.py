"""The choice of backend: measured once, the same ever after, explained, and cheap."""

import json
import threading
import time

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attncli.attention import (
    Causal,
    Dense,
    Documents,
    Padding,
    Window,
    attend,
    build_position,
    choices,
    explain_choice,
    use_choices,
)
from attncli.attention.backends import choice, store


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A machine on which nothing was measured yet."""
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_used", {})
    choice._exact.clear()
    store.forget()
    return tmp_path / "cache"


def other_process():
    """What a new process knows: only the file."""
    choice._exact.clear()
    store.forget()


def test_measured_once_then_read(fresh, monkeypatch):
    name, reason = explain_choice(2, 4, 64, head_dim=16, grad=True)
    assert name in ("fused", "chunked", "reference")
    key = "cpu float32 bh8 q64 k64 d16 none small grad"
    assert reason == f"measured on this machine for {key}"
    (file,) = fresh.glob("*.json")
    assert json.loads(file.read_text())["choices"] == {key: name}
    monkeypatch.setattr(choice, "_measure", lambda *_: pytest.fail("measured again"))
    for _ in range(2):
        other_process()
        assert explain_choice(2, 4, 60, head_dim=16, grad=True)[0] == name  # the same bucket


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lengths_that_fill_no_vector_are_another_kind_in_half_width(fresh, dtype):
    for length in (60, 63, 64):
        explain_choice(2, 4, length, head_dim=16, dtype=dtype)
    kinds = {key.endswith(" rest") for key in choices()}
    assert kinds == ({True, False} if dtype == torch.bfloat16 else {False})
    assert len(choices()) == len(kinds)


def test_what_the_file_says_is_taken(fresh):
    key = "cpu float32 bh8 q64 k64 d16 none small"
    for name in ("fused", "chunked", "reference"):
        fresh.mkdir(exist_ok=True)
        store.path().write_text(json.dumps({"choices": {key: name}}))
        other_process()
        assert explain_choice(2, 4, 64, head_dim=16)[0] == name


def test_the_first_writer_wins(fresh):
    answers, ready = [], threading.Barrier(4)

    def process(name):
        ready.wait()
        answers.append(store.settle("key", lambda: time.sleep(0.05) or name))

    threads = [threading.Thread(target=process, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    store.forget()
    assert store.lookup("key") == answers[0]
    assert store.settle("key", lambda: "late") == answers[0]
    assert not list(fresh.glob("*.json.*"))  # nothing half-written is left


def test_another_process_that_wrote_meanwhile_wins(fresh):
    assert store.lookup("key") is None  # the file was read, and had nothing
    fresh.mkdir()
    store.path().write_text(json.dumps({"choices": {"key": "theirs"}}))
    assert store.settle("key", lambda: "ours") == "theirs"
    assert store.lookup("key") == "theirs"


@pytest.mark.parametrize("content", ["", "{", '{"choices": 3}', "[1]", '{"choices": {"a": null}}'])
def test_a_damaged_file_is_replaced(fresh, content):
    fresh.mkdir()
    store.path().write_text(content)
    name, _ = explain_choice(1, 2, 16, head_dim=8)
    assert name in json.loads(store.path().read_text())["choices"].values()


def test_without_a_writable_folder_choices_stay_in_memory(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "file" / "below"))
    first = explain_choice(1, 2, 16, head_dim=8)
    monkeypatch.setattr(choice, "_measure", lambda *_: pytest.fail("measured again"))
    choice._exact.clear()
    assert explain_choice(1, 2, 16, head_dim=8) == first


def test_measuring_leaves_no_trace(fresh):
    """Two runs with one seed draw the same numbers, whether or not a backend was measured between."""
    state = torch.get_rng_state()
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    state = torch.get_rng_state()
    for context in (torch.no_grad(), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            out = attend(q, q, q, backend="auto")
    assert torch.equal(torch.get_rng_state(), state)
    assert out.dtype == torch.bfloat16
    assert q.grad is None
    with torch.inference_mode():
        attend(*torch.randn(3, 1, 2, 32, 8))
    assert len(choices()) == 4


def test_measuring_within_a_checkpointed_block_saves_nothing_for_it(fresh):
    """Gradient checkpointing counts what its block saves for the backward pass, and computes it again."""
    x = torch.randn(1, 2, 40, 8, requires_grad=True)
    out = checkpoint(lambda x: attend(x, x, x, backend="auto"), x, use_reentrant=False)
    out.square().sum().backward()
    assert len(choices()) == 1
    assert x.grad.any()


def test_a_run_carries_its_choices(fresh, monkeypatch):
    size = {"head_dim": 8, "grad": True}
    explain_choice(1, 2, 32, **size)
    carried = json.loads(json.dumps(choices()))
    (key,) = carried
    monkeypatch.setattr(choice, "_measure", lambda *_: pytest.fail("measured"))
    for name in ("chunked", "reference"):
        with use_choices({key: name}):
            assert explain_choice(1, 2, 32, **size) == (name, f"given with the run for {key}")
            assert choices()[key] == name
            x = torch.randn(1, 2, 32, 8, requires_grad=True)
            kind = type(attend(x, x, x).grad_fn).__name__
            assert kind.startswith("_Chunked") == (name == "chunked")
    assert explain_choice(1, 2, 32, **size)[0] == carried[key]


def test_rules_that_need_no_measuring(fresh, monkeypatch):
    monkeypatch.setattr(choice, "_measure", lambda *_: pytest.fail("measured"))
    keep = Padding(torch.ones(1, 8192, dtype=torch.bool))
    ids = Documents(torch.zeros(1, 8192, dtype=torch.int64))
    long = {"head_dim": 64, "grad": True}
    for mask in (Causal() & keep, ids):  # never a dense mask at this length
        name, reason = explain_choice(1, 8, 8192, mask=mask, **long)
        assert (name, reason) == ("chunked", "the mask is too large to be made dense")
    name, reason = explain_choice(1, 8, 8192, dropout=0.1, **long)
    assert name == "chunked"
    assert "dropout" in reason
    learnt = build_position("t5", width=64, heads=8, head_dim=64, max_length=8192)
    bias = learnt.bias(8192, 8192, torch.device("cpu"))
    assert explain_choice(1, 8, 8192, bias=bias, **long)[0] == "chunked"
    assert explain_choice(1, 2, 2048, head_dim=8, mechanism="topk", topk=3)[0] == "chunked"
    assert explain_choice(1, 2, 64, head_dim=8, mechanism="additive")[0] == "reference"
    assert explain_choice(1, 2, 64, head_dim=8, backend="chunked") == ("chunked", "asked for")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert explain_choice(1, 2, 64, head_dim=8) == ("fused", "the rule under torch.compile")
    assert choices() == {}


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (None, "none"),
        (Causal(), "causal"),
        (Padding(torch.ones(2, 256, dtype=torch.bool)), "row"),
        (Window(8, 7), "band16"),
        (Causal() & Window(15, None), "band16"),
        (Dense(torch.ones(256, 256, dtype=torch.bool)), "dense"),
    ],
)
def test_kinds_of_masks_are_told_apart(fresh, mask, kind):
    _, reason = explain_choice(2, 2, 256, head_dim=8, mask=mask)
    assert reason.endswith(f"q256 k256 d8 {kind} small")


def test_the_faster_function_is_found():
    def spin(seconds):
        def run():
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                pass

        return run

    for order in (("slow", "fast", "even"), ("fast", "even", "slow")):
        times = {"slow": 0.008, "even": 0.004, "fast": 0.002}
        assert choice.min_time({name: spin(times[name]) for name in order}) == "fast"


def test_the_choice_costs_little():
    """What attend adds to a kernel, in processor time a call, on tensors too small to matter."""
    q = torch.randn(1, 2, 8, 8)
    with torch.no_grad(), use_choices({}):
        attend(q, q, q)

        def cost(function):
            best = float("inf")
            for _ in range(10):
                start = time.process_time()
                for _ in range(50):
                    function()
                best = min(best, (time.process_time() - start) / 50)
            return best

        added = cost(lambda: attend(q, q, q)) - cost(lambda: F.scaled_dot_product_attention(q, q, q))
    assert added < 150e-6  # the smallest of our measured lengths, 128, takes thirty times that
