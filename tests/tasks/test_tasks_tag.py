"""Tagging as a task: how fast its parts learn, how its tags are chosen."""

import itertools
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.data.tagged import TagLabels
from attncli.recipe.loading import load_recipe
from attncli.tasks.tag import TagTask


@pytest.mark.parametrize(
    ("changes", "fresh", "rate"),
    [
        (["model.crf=true"], False, 10.0),
        (["model.crf=true"], True, 1.0),
        (["model.crf=true", "train.head_rate=3"], False, 3.0),
        ([], False, 1.0),
    ],
)
def test_a_random_field_on_a_trained_encoder_learns_faster(monkeypatch, changes, fresh, rate):
    recipe = load_recipe("finetune", "finetune/ner", ["data.limit=20", *changes], None).recipe
    task = TagTask.build(recipe)
    monkeypatch.setattr(TagTask, "fresh", fresh)
    rates = {
        id(parameter): group["scale"] for group in task.parameter_groups() for parameter in group["params"]
    }
    assert {rates[id(p)] for p in task.model.encoder.parameters()} == {1.0}
    assert {rates[id(p)] for n, p in task.model.named_parameters() if not n.startswith("encoder.")} == {rate}


@given(st.sampled_from(["iob1", "iob2", "bioes"]), st.integers(1, 4), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_words_get_the_likeliest_tags_that_the_scheme_allows(scheme, words, seed):
    """Of all sequences, by trying each; without a random field too."""
    recipe = load_recipe("finetune", "finetune/ner", [], None).recipe
    marks = "BIES" if scheme == "bioes" else "BI"
    labels = TagLabels(["O", *(f"{mark}-{kind}" for kind in ("X", "Y") for mark in marks)], scheme, scheme)
    task = TagTask(recipe, None, labels, None, types.SimpleNamespace(crf=None))
    logits = torch.randn(1, words, len(labels.names), generator=torch.Generator().manual_seed(seed))
    task.model = lambda **_: logits
    (found,) = task.predict({"words_keep": torch.ones(1, words, dtype=torch.bool)})
    start, end, step = labels.allowed()
    worth = {
        row: float(logits[0, range(words), row].sum())
        for row in itertools.product(range(len(labels.names)), repeat=words)
        if start[row[0]] and end[row[-1]] and all(step[pair] for pair in itertools.pairwise(row))
    }
    assert tuple(found) == max(worth, key=worth.get)
