"""Question answering as a task: how long it trains."""

import pytest

from attncli.recipe.loading import load_recipe
from attncli.tasks.answer import AnswerTask


@pytest.mark.parametrize(
    ("an_epoch", "given", "steps"),
    [
        (252, [], 1000),
        (5500, [], 11000),
        (13, [], 650),
        (252, ["train.epochs=3"], 756),
        (252, ["train.steps=9"], 9),
    ],
)
def test_few_questions_are_seen_more_often(monkeypatch, an_epoch, given, steps):
    recipe = load_recipe("finetune", "finetune/qa", ["data.limit=20", *given], None).recipe
    task = AnswerTask.build(recipe)
    monkeypatch.setattr(AnswerTask, "fresh", False)
    monkeypatch.setattr(AnswerTask, "steps_an_epoch", lambda self, batch: an_epoch)
    settled = task.settle(recipe.train)
    assert settled.steps == steps
    assert min(an_epoch, steps) <= settled.evaluate_every <= steps
    assert steps / settled.evaluate_every <= 20


def test_fresh_weights_are_measured_once_a_pass_whatever_others_would_need():
    recipe = load_recipe("finetune", "finetune/qa", ["data.limit=40", "train.batch=8"], None).recipe
    task = AnswerTask.build(recipe)
    an_epoch = task.steps_an_epoch(8)
    settled = task.settle(recipe.train)
    assert settled.steps == recipe.train.fresh_epochs * an_epoch
    assert settled.evaluate_every == an_epoch
