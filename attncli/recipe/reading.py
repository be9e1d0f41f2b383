"""YAML read into plain values that remember the file and line they stand on.

The tree is composed, never constructed: no tag, anchor or object can do more than be refused. Scalars
are understood as YAML 1.2 does for numbers (``1e-3`` is a number) and as YAML 1.1 for booleans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attncli.errors import Problem, RecipeError

LARGEST = 1 << 20
"""Bytes; a recipe is a page of text, and something larger is another kind of file."""

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {word for base in ("true", "yes", "on") for word in (base, base.title(), base.upper())}
_FALSE = {word for base in ("false", "no", "off") for word in (base, base.title(), base.upper())}
_INT = re.compile(r"[-+]?\d+(?:_\d+)*", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_SPECIAL = {
    sign + word: float(sign + word[1:])
    for sign in ("", "+", "-")
    for word in (".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN")
}


@dataclass(frozen=True)
class Scalar:
    """A value that is not a mapping: the Python value, the text it was written as, and its place."""

    value: Any
    text: str
    where: str


@dataclass
class Mapping:
    """A mapping: its entries by key, and the place of each key."""

    where: str
    entries: dict[str, Scalar | Mapping] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Scalar | Mapping, where: str) -> None:
        """Add or replace an entry."""
        self.entries[key] = value
        self.places[key] = where

    def items(self) -> Iterator[tuple[str, Scalar | Mapping, str]]:
        """Key, value and place of each entry."""
        return ((key, value, self.places[key]) for key, value in self.entries.items())

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Scalar]]:
        """Dotted key and value of everything below that is not a mapping."""
        for key, item in self.entries.items():
            if isinstance(item, Mapping):
                yield from item.leaves(f"{prefix}{key}.")
            else:
                yield prefix + key, item


def read_file(path: Path, *, then: str | None = None) -> Mapping:
    """The mapping in a YAML file.

    Raises :class:`RecipeError` with file and line for anything that is not one mapping of plain values.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size <= LARGEST else None
    except FileNotFoundError:
        raise RecipeError(Problem("there is no such file", str(path)), then=then) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(Problem(f"cannot be read: {reason}", str(path)), then=then) from None
    if raw is None:
        raise RecipeError(Problem("is too large for a recipe (over 1 MiB)", str(path)), then=then)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{path}:{raw[: error.start].count(10) + 1}"
        raise RecipeError(Problem("is not a recipe: not UTF-8 text", place), then=then) from None
    if not text.strip():
        raise RecipeError(Problem("is empty", f"{path}:1"), then=then)
    tree = _parse(text, str(path), lines=True, then=then)
    if tree is None:
        raise RecipeError(Problem("has comments only, no setting", f"{path}:1"), then=then)
    if not isinstance(tree, Mapping):
        what = f"holds {describe(tree)} where settings are wanted, as in `train:` and below it `  steps: 100`"
        raise RecipeError(Problem(what, tree.where), then=then)
    return tree


def read_value(text: str, where: str) -> Scalar | Mapping:
    """One YAML value, as given on the command line."""
    tree = _parse(text, where, lines=False, then=None)
    return Scalar(None, text, where) if tree is None else tree


def describe(item: Scalar | Mapping) -> str:
    """What kind of value this is, for a message: ``the text 'abc'``, ``the number 3``."""
    if isinstance(item, Mapping):
        return "a mapping"
    value = item.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {item.text}"
    if isinstance(value, int | float):
        return f"the number {_short(item.text)}"
    return "a list" if isinstance(value, list) else f"the text {_short(value)!r}"


def understand(text: str) -> Any:
    """The Python value of a plain (unquoted) YAML scalar."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if len(text) <= 400:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return _SPECIAL.get(text, text)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(text: str, name: str, *, lines: bool, then: str | None) -> Scalar | Mapping | None:
    problems: list[Problem] = []

    def at(mark: yaml.Mark | None) -> str:
        return f"{name}:{mark.line + 1}" if lines and mark is not None else name

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = None if root is None else _convert(root, at, problems, set())
    except yaml.MarkedYAMLError as error:
        what = " ".join(filter(None, (error.context, error.problem)))
        if "\\t" in what or "'\t'" in what:
            what = "a tab stands where YAML wants spaces; indent with spaces"
        mark = error.problem_mark or error.context_mark
        raise RecipeError(Problem(f"is not valid YAML: {what}", at(mark)), then=then) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        place = f"{name}:{line}" if lines else name
        raise RecipeError(
            Problem(f"holds a character that YAML forbids (#x{code:02x})", place), then=then
        ) from None
    except RecursionError:
        raise RecipeError(Problem("is nested too deeply for a recipe", name), then=then) from None
    except (ValueError, yaml.YAMLError) as error:
        raise RecipeError(Problem(f"is not valid YAML: {error}", name), then=then) from None
    if problems:
        raise RecipeError(*problems, then=then)
    return tree


def _convert(node: yaml.Node, at: Any, problems: list[Problem], seen: set[int]) -> Scalar | Mapping:
    where = at(node.start_mark)
    if id(node) in seen:
        problems.append(Problem("aliases are not used in recipes; `extends` shares settings", where))
        return Scalar(None, "", where)
    seen.add(id(node))
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        problems.append(Problem(f"the tag {node.tag} is not allowed: recipes hold plain values", where))
        return Scalar(None, "", where)
    if isinstance(node, yaml.ScalarNode):
        # by style, not by tag: YAML 1.1 takes 1e-3 for text and 1:30 for ninety
        return Scalar(understand(node.value) if node.style is None else node.value, node.value, where)
    if isinstance(node, yaml.SequenceNode):
        items = [_convert(child, at, problems, seen) for child in node.value]
        values = [item.value if isinstance(item, Scalar) else {} for item in items]
        return Scalar(values, str(values), where)
    mapping = Mapping(where)
    for key_node, value_node in node.value:
        place = at(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem("a key must be a name", place))
            continue
        key = key_node.value
        if key_node.tag == "tag:yaml.org,2002:merge":
            problems.append(Problem("`<<` is not used in recipes; `extends` shares settings", place))
        elif key in mapping.entries:
            problems.append(Problem(f"{key} is set twice; it stands at {mapping.places[key]} already", place))
        else:
            mapping.set(key, _convert(value_node, at, problems, seen), place)
    return mapping
