"""Reading YAML: line numbers, plain values, and one clear error for everything else."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import RecipeError
from attncli.recipe.reading import LARGEST, Mapping, read_file, read_value, understand


def read(tmp_path: Path, content: str | bytes) -> Mapping:
    path = tmp_path / "r.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path)


def refused(tmp_path: Path, content: str | bytes) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, content)
    assert caught.value.exit_code == 2
    return [str(problem).removeprefix(str(tmp_path) + "/") for problem in caught.value.problems]


def test_every_key_has_its_line(tmp_path):
    tree = read(tmp_path, "# comment\ndata:\n  source: a\n\n  limit: 3\ntrain: {steps: 5,\n  batch: 2}\n")
    places = {key: place.rpartition(":")[2] for key, place in tree.places.items()}
    assert places == {"data": "2", "train": "6"}
    assert [place.rpartition(":")[2] for _, _, place in tree.entries["data"].items()] == ["3", "5"]
    assert [place.rpartition(":")[2] for _, _, place in tree.entries["train"].items()] == ["6", "7"]
    assert {key: item.value for key, item in tree.leaves()} == {
        "data.source": "a",
        "data.limit": 3,
        "train.steps": 5,
        "train.batch": 2,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-2.5e+4", -25000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("017", 17),  # an octal number in YAML 1.1
        ("1:30", "1:30"),  # ninety in YAML 1.1
        ("2024-01-02", "2024-01-02"),  # a date in YAML 1.1
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        ("e5", "e5"),
        ("1e", "1e"),
        ("--1", "--1"),
        ("0x10", "0x10"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars(text, value):
    assert understand(text) == value
    assert type(understand(text)) is type(value)


def test_quotes_keep_text(tmp_path):
    tree = read(tmp_path, "a: '1e-3'\nb: \"yes\"\nc: |\n  5\n")
    assert [item.value for _, item in tree.leaves()] == ["1e-3", "yes", "5\n"]


@given(st.floats(allow_nan=False) | st.integers() | st.booleans())
def test_what_yaml_writes_is_read_back(value):
    text = yaml.safe_dump(value).removesuffix("\n...\n").strip()
    assert read_value(text, "here").value == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "r.yaml:1: is empty"),
        ("  \n\n", "r.yaml:1: is empty"),
        ("# only this\n", "r.yaml:1: has comments only, no setting"),
        ("just words\n", "r.yaml:1: holds the text 'just words'"),
        ("- a\n- b\n", "r.yaml:1: holds a list"),
        ("train:\n\tsteps: 5\n", "r.yaml:2: is not valid YAML: a tab"),
        ("train:\n  steps: 5\n bad: 1\n", "r.yaml:3: is not valid YAML"),
        ("train: [1, 2\n", "r.yaml:2: is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: is not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "r.yaml:3: a is set twice"),
        ("a: &x {b: 1}\nc: *x\n", "r.yaml:1: aliases are not used"),
        ("a: &x [*x]\n", "r.yaml:1: "),
        ("a: {<<: {b: 1}}\n", "r.yaml:1: `<<` is not used"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "r.yaml:1: the tag tag:yaml.org,2002:python/object/apply",
        ),
        ("a: !thing 3\n", "r.yaml:1: the tag !thing is not allowed"),
        ("? [a, b]\n: 1\n", "r.yaml:1: a key must be a name"),
        (b"a: 1\nb: \xff\xfe\n", "r.yaml:2: is not a recipe: not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "r.yaml:1: is not a recipe"),
        (b"a: 1\nb: \x00\x01\n", "r.yaml:2: holds a character that YAML forbids (#x00)"),
        ("[" * 600, "is nested too deeply"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_line(tmp_path, content, said):
    assert said in refused(tmp_path, content)[0]


def test_all_duplicates_at_once(tmp_path):
    assert len(refused(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\n")) == 2


def test_byte_order_mark_is_no_key(tmp_path):
    assert list(read(tmp_path, b"\xef\xbb\xbfa: 1\n").entries) == ["a"]


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(RecipeError, match="there is no such file"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_file(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(RecipeError, match="too large"):
        read_file(tmp_path / "big.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        tree = read_file(path)
    except RecipeError as error:
        tree = error.problems
    assert isinstance(tree, Mapping) or tree
