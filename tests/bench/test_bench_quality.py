"""Probes say what they claim, and mechanisms can be told apart by them."""

import json

import numpy as np
import pytest
import torch

from attncli.attention import MECHANISMS
from attncli.bench import quality
from attncli.bench.probes import _FIRST, ASK, BREAK, PAD, PROBES
from attncli.cli import run
from attncli.recipe.loading import load_recipe

CPU = torch.device("cpu")
TOY = [
    "model.layers=1",
    "model.width=16",
    "model.attention.heads=2",
    "train.seconds=0.05",
    "train.batch=4",
    "evaluate.examples=8",
]


def rows(name, count=50, length=40):
    probe = PROBES[name](length)
    drawn = probe.draw(count, np.random.default_rng(3))
    assert drawn.tokens.shape == (count, length)
    assert int(drawn.tokens.max()) < probe.vocabulary
    assert torch.equal(drawn.keep, drawn.tokens != PAD)
    assert (drawn.tokens.flatten()[drawn.at] == ASK).all()
    assert int(drawn.labels.max()) < probe.vocabulary
    for index, row in enumerate(drawn.tokens.tolist()):
        mine = (drawn.at // length) == index
        yield [x for x in row if x != PAD], (drawn.at[mine] % length).tolist(), drawn.labels[mine].tolist()


def test_copy_and_sorting_ask_for_what_stands_before_the_break():
    for name, change in (("copy", list), ("sorting", sorted)):
        for row, at, labels in rows(name):
            middle = row.index(BREAK)
            assert labels == change(row[:middle])
            assert at == list(range(middle + 1, len(row)))
            assert set(row[middle + 1 :]) == {ASK}


def test_recall_asks_for_what_went_with_a_key():
    for row, at, labels in rows("recall"):
        middle = row.index(BREAK)
        pairs = dict(zip(row[:middle:2], row[1:middle:2], strict=True))
        assert len(pairs) == middle // 2
        assert labels == [pairs[row[place - 1]] for place in at]


def test_listops_is_the_value_of_the_expression():
    names = [min, max, lambda x: int(np.median(x)), lambda x: sum(x) % 10]

    def value(tokens):
        token = tokens.pop(0) - _FIRST
        if token < 10:
            return token
        parts = []
        while tokens[0] != _FIRST + 14:
            parts.append(value(tokens))
        tokens.pop(0)
        return names[token - 10](parts)

    found = []
    for row, at, labels in rows("listops", 400):
        assert at == [0]
        assert labels == [value(row[1:]) + _FIRST]
        found += labels
    commonest = max(found.count(x) for x in set(found)) / len(found)
    assert commonest == pytest.approx(PROBES["listops"].chance, abs=0.06)


def test_a_mechanism_learns_a_probe_that_a_blind_one_cannot():
    recipe = load_recipe(
        "bench", "quality", ["train.seconds=6", "model.length=16", "data.probes=[copy]"]
    ).recipe
    (task,) = quality.tasks(recipe).values()
    seen = quality.measure(recipe, "scaled_dot", "copy", task, CPU)
    blind = recipe.model_copy(deep=True)
    blind.model.attention.window = 1
    near = quality.measure(blind, "window", "copy", task, CPU)
    assert seen.steps > 20
    assert seen.value > 2 * task.chance
    assert near.value < seen.value


def test_every_mechanism_takes_part(capfd):
    settings = [*TOY, "data.mechanisms=[all]", "data.probes=[copy]", "model.length=16"]
    assert run(["bench", "quality", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert [row["mechanism"] for row in report["rows"]] == list(MECHANISMS)
    assert all(0 <= row["value"] <= 1 and row["steps"] > 0 for row in report["rows"])


def test_masked_words_of_a_text(capfd, tmp_path):
    settings = [
        *TOY,
        "data.mechanisms=[scaled_dot,linear]",
        "data.probes=[masked,listops]",
        "train.seconds=0.3",
    ]
    assert run(["bench", "quality", *settings]) == 0
    shown = capfd.readouterr().out
    assert "masked loss" in shown
    picture, out = tmp_path / "q.png", tmp_path / "q.csv"
    assert run(["bench", "quality", *settings, "--picture", str(picture), "--out", str(out)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(out.read_text().splitlines()) == 1 + 4
    capfd.readouterr()
    assert "chance" in shown
    assert run(["bench", "quality", "data.probes=[copi]"]) == 2
    assert "copy" in capfd.readouterr().err
