"""Tagging as a task: how fast its parts learn."""

import pytest

from attncli.recipe.loading import load_recipe
from attncli.tasks.tag import TagTask


@pytest.mark.parametrize(
    ("settings", "fresh", "rate"),
    [
        (["model.crf=true"], False, 10.0),
        (["model.crf=true"], True, 1.0),
        (["model.crf=true", "train.head_rate=3"], False, 3.0),
        ([], False, 1.0),
    ],
)
def test_a_random_field_on_a_trained_encoder_learns_faster(monkeypatch, settings, fresh, rate):
    recipe = load_recipe("finetune", "finetune/ner", ["data.limit=20", *settings], None).recipe
    task = TagTask.build(recipe)
    monkeypatch.setattr(TagTask, "fresh", fresh)
    rates = {
        id(parameter): group["scale"] for group in task.parameter_groups() for parameter in group["params"]
    }
    assert {rates[id(p)] for p in task.model.encoder.parameters()} == {1.0}
    assert {rates[id(p)] for n, p in task.model.named_parameters() if not n.startswith("encoder.")} == {rate}
