"""Checks values against a recipe class, and says everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_origin

from pydantic import ValidationError

from attncli.errors import Problem, nearest
from attncli.recipe.reading import Mapping, Scalar, describe
from attncli.recipe.schemas import choices, kinds, section_of, suggest, wanted
from attncli.recipe.sections import Recipe, Rule, Section

COMMAND_LINE = "command line"
"""The place of an override."""


@dataclass
class Draft:
    """Values gathered from files and overrides for one recipe, and what is wrong with them so far."""

    recipe_class: type[Recipe]
    path: str = ""
    """The file that a problem without a line of its own is laid to."""
    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    """Dotted key to the place that set it last."""
    problems: list[Problem] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    """Keys whose value is not known because something about them is wrong."""

    def wrong(self, key: str, what: str, where: str | None, hint: str | None = None) -> None:
        """Note a problem with a key."""
        self.doubtful.add(key)
        self.problems.append(Problem(f"{key}: {what}", where, hint))

    def add(self, tree: Mapping) -> None:
        """Lay a file's settings over those so far; unknown keys and wrong kinds are noted."""
        self._merge(self.recipe_class, tree, self.values, "")

    def put(self, key: str, item: Scalar, where: str = COMMAND_LINE) -> None:
        """Lay one setting, by its dotted key, over those so far."""
        *parents, last = key.split(".")
        tree = branch = Mapping(where)
        for parent in parents:
            inner = Mapping(where)
            branch.set(parent, inner, where)
            branch = inner
        branch.set(last, item, where)
        self.add(tree)

    def _merge(self, section: type[Section], tree: Mapping, into: dict[str, Any], prefix: str) -> None:
        for name, item, where in tree.items():
            key = prefix + name
            info = section.model_fields.get(name)
            if info is None:
                self._unknown(key, where)
                continue
            inner = section_of(info.annotation)
            if inner is None:
                self.origin[key] = where
                into[name] = self._fit(key, info, item, where)
            elif isinstance(item, Mapping):
                self._merge(inner, item, into.setdefault(name, {}), key + ".")
            elif item.value is not None:  # a section left empty keeps what it has
                hint = f"set one of its keys, as {key}.{next(iter(inner.model_fields))}"
                self.wrong(key, f"is a section, not {describe(item)}", where, hint)

    def _unknown(self, key: str, where: str) -> None:
        meant = suggest(self.recipe_class, key)
        self.doubtful.update(meant)
        section, _, last = key.rpartition(".")
        if not meant:
            hint = None
        elif all(name.endswith("." + key) or (name.rpartition(".")[2] == last) for name in meant):
            hint = f"the full key is {' or '.join(meant)}"
        else:
            hint = f"did you mean {' or '.join(meant)}?"
        self.wrong(key, f"there is no such setting{f' in {section}' if section else ''}", where, hint)

    def _fit(self, key: str, info: Any, item: Scalar | Mapping, where: str) -> Any:
        """The value in the type that the setting wants, where nothing is lost by it."""
        members = kinds(info.annotation)
        if isinstance(item, Mapping):
            self.wrong(key, f"is one value, not a section; it takes {wanted(info)}", where)
            return None
        value = item.value
        lists = any(get_origin(kind) is list for kind in members)
        if value is None:
            if type(None) not in members:
                self.wrong(key, f"is empty; it takes {wanted(info)}", where)
            return None
        if isinstance(value, list):
            if not lists:
                self.wrong(key, f"is one value, not a list; it takes {wanted(info)}", where)
            return value
        if lists:
            return [value]
        numbers = {int, float, bool} & set(members)
        if not numbers and not isinstance(value, str) and (str in members or choices(info.annotation)):
            return item.text  # a folder called 2024, a choice called no
        if isinstance(value, float) and float not in members and int in members and value == value // 1:
            return int(value)  # 1e3
        return value

    def finish(self) -> Recipe | None:
        """The recipe, or None when there are problems."""
        recipe = None
        try:
            recipe = self._build()
        except ValidationError as error:
            for key, message, hint in _messages(self.recipe_class, error):
                self.wrong(key, message, self._place(key), hint)
            try:
                recipe = self._build()
            except ValidationError:
                return None
        for keys, why in _broken(recipe):
            if not self.doubtful.intersection(_with_parents(keys)):
                given = [key for key in keys if key in self.origin]
                where = self._place(given[0] if given else keys[0])
                others = [f"{key} is at {place}" for key in given[1:] if (place := self.origin[key]) != where]
                self.problems.append(Problem(f"{keys[0]}: {why}", where, "; ".join(others) or None))
        return None if self.problems else recipe

    def _build(self) -> Recipe:
        values = self.recipe_class().model_dump()  # a class may give a section other defaults than its own
        _lay(_without(self.values, self.doubtful), values)
        return self.recipe_class.model_validate(values, strict=True)

    def _place(self, key: str) -> str:
        return self.origin.get(key, self.path or COMMAND_LINE)


def _broken(section: Section, prefix: str = "") -> Iterator[Rule]:
    """The broken rules of a section and of the sections in it, with full keys."""
    for keys, why in section.cross_checks():
        yield tuple(prefix + key for key in keys), why
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from _broken(inner, f"{prefix}{name}.")


def _with_parents(keys: tuple[str, ...]) -> set[str]:
    parts = [key.split(".") for key in keys]
    return {".".join(part[:count]) for part in parts for count in range(1, len(part) + 1)}


def _without(values: dict[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without(value, keys, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if prefix + name not in keys or isinstance(value, dict)
    }


def _lay(values: dict[str, Any], over: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _lay(value, over[name])
        else:
            over[name] = value


def _messages(recipe: type[Recipe], error: ValidationError) -> list[tuple[str, str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for entry in error.errors(include_url=False, include_context=False):
        section: Any = recipe
        names: list[str] = []
        info = None
        for part in entry["loc"]:
            if section is None or part not in section.model_fields:
                break  # the rest names members of a union
            names.append(str(part))
            info = section.model_fields[part]
            section = section_of(info.annotation)
        value = entry["input"]
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        message = f"is {shown} but takes {wanted(info)}" if info else entry["msg"]
        near = nearest(value, choices(info.annotation) or ()) if info and isinstance(value, str) else None
        found.setdefault(".".join(names), (message, f"did you mean {near}?" if near else None))
    return [(key, *said) for key, said in found.items()]
