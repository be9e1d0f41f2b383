"""Overrides: typed by the schema, exact, and never a traceback."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attncli.errors import RecipeError
from attncli.recipe.loading import load_recipe
from attncli.recipe.pretrain import PretrainRecipe
from attncli.recipe.schemas import known_keys
from attncli.recipe.schemas import settings as all_settings

KEYS = [key for key, _ in all_settings(PretrainRecipe)]


def value_of(recipe, key):
    for part in key.split("."):
        recipe = getattr(recipe, part)
    return recipe


def problems(*overrides, data=None):
    with pytest.raises(RecipeError) as caught:
        load_recipe("pretrain", "bert", list(overrides), data)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.steps=500", 500),
        ("train.steps=1e3", 1000),
        ("train.learning_rate=1e-4", 1e-4),
        ("train.learning_rate=1", 1.0),
        ("train.compile=true", True),
        ("train.compile=no", False),
        ("model.layers=", None),
        ("model.layers=null", None),
        ("model.norm=pre", "pre"),
        ("train.average=none", "none"),
        ("data.source=a=b.txt", "a=b.txt"),
        ("data.source=123", "123"),
        ("data.source=", ""),
        ("data.source= - x: [", " - x: ["),
        ("data.validation=0.1", 0.1),
        ("data.validation=held.txt", "held.txt"),
        ("train.schedule.warmup=100", 100),
        ("train.schedule.warmup=.05", 0.05),
    ],
)
def test_values_are_typed_by_the_schema(text, value):
    got = value_of(load_recipe("pretrain", "bert", [text]).recipe, text.partition("=")[0])
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heads=4", "heads: there is no such setting (the full key is model.attention.heads)"),
        ("train.stpes=3", "train.stpes: there is no such setting in train (did you mean train.steps?)"),
        ("train.steps", "'train.steps' is not a setting; settings are key=value"),
        ("=5", "'=5' is not a setting"),
        ("train..steps=5", "'train..steps=5' is not a setting"),
        ("train.steps=", "train.steps: is empty; it takes a whole number >= 1"),
        ("train.steps=0", "train.steps: is 0 but takes a whole number >= 1"),
        ("train.steps=[1]", "train.steps: is one value, not a list"),
        ("train.steps={a: 1}", "train.steps: '{a: 1}' is a mapping"),
        ("train.steps=[", "train.steps: '[' is not valid YAML"),
        ("train={steps: 5}", "train: '{steps: 5}' is a mapping; settings are given one by one"),
        ("train=5", "train: is a section, not the number 5 (set one of its keys, as train.steps)"),
        ("train.steps.x=5", "train.steps: is one value, not a section"),
        ("extends=gpt", "extends: belongs in a recipe file"),
    ],
)
def test_wrong_ones_are_said_with_their_place(text, said):
    (only,) = problems(text)
    assert only.startswith(f"command line: {said}")


def test_as_many_as_wanted_the_last_one_counts_and_all_errors_show():
    recipe = load_recipe("pretrain", "bert", ["train.steps=1", "train.batch=2", "train.steps=3"]).recipe
    assert (recipe.train.steps, recipe.train.batch) == (3, 2)
    assert len(problems("train.steps=x", "heads=1", "train.batch=0", "oops")) == 4


def test_data_is_short_for_its_source():
    assert load_recipe("pretrain", "bert", [], "a b.txt").recipe.data.source == "a b.txt"
    assert load_recipe("pretrain", "bert", ["data.source=x"], "x").recipe.data.source == "x"
    (only,) = problems("data.source=a", data="b")
    assert "--data b and data.source=a both name the data" in only


def test_the_command_to_type_next():
    for overrides in (["heads=4"], ["model.family=gpt"]):
        with pytest.raises(RecipeError) as caught:
            load_recipe("pretrain", "bert", overrides)
        assert caught.value.then == "attn recipes show pretrain/bert"


NUMBERS = st.one_of(st.integers(1, 10**9), st.floats(1e-9, 0.9)).map(repr)
VALUES = st.text(max_size=20) | NUMBERS | st.sampled_from(["true", "null", "auto"])


def outcome(*overrides):
    """The recipe, or the error."""
    try:
        return load_recipe("pretrain", "bert", list(overrides)).recipe
    except RecipeError as error:
        return error


@settings(deadline=None)
@given(st.sampled_from([key for key in KEYS if key != "extends"]), VALUES)
def test_a_value_arrives_or_is_refused_under_its_key(key, text):
    got = outcome(f"{key}={text}")
    if isinstance(got, RecipeError):
        blamed = {problem.what.partition(":")[0] for problem in got.problems}
        assert key in blamed or key in RULED
        return
    value = value_of(got, key)
    if dict(all_settings(PretrainRecipe))[key].annotation is str:
        assert value == text
    elif isinstance(value, float):
        assert value == float(text.strip().strip("'\"").replace("_", ""))


RULED = {"model.family", "train.objective.kind", "train.objective.sentences", "train.batch"}
"""Settings with a rule that may be laid to another one."""


@settings(deadline=None)
@example("train.steps", 0, "")
@given(st.sampled_from(known_keys(PretrainRecipe)), st.integers(0, 40), st.text(max_size=3))
def test_no_misspelling_ends_in_anything_but_a_recipe_error(key, at, letters):
    wrong = key[:at] + letters + key[at + 1 :]
    if wrong in KEYS:
        return
    found = problems(f"{wrong}=5")
    assert all(problem.startswith("command line: ") for problem in found)


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=3))
def test_no_arguments_at_all_end_in_anything_else(texts):
    got = outcome(*texts)
    assert not isinstance(got, RecipeError) or (got.problems and got.then)
