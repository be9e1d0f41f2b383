"""From a name or file and overrides to a checked recipe."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from attncli.errors import Problem, RecipeError
from attncli.recipe import catalogue
from attncli.recipe.checking import COMMAND_LINE, Draft
from attncli.recipe.reading import Mapping, Scalar, read_file, read_value
from attncli.recipe.schemas import SCHEMAS, kinds, recipe_classes, settings, wanted
from attncli.recipe.sections import Recipe

OVERRIDE = re.compile(r"(?P<key>[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)=(?P<value>.*)", re.ASCII | re.DOTALL)
"""``key.sub=value``, split on the first ``=``."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe without a fault, and where it comes from."""

    command: str
    name: str
    """``pretrain/bert`` for a shipped recipe, else the file's stem."""
    path: Path
    recipe: Recipe
    origin: dict[str, str]
    """Dotted key to ``file:line`` or ``command line``, for the settings that are not defaults."""


def load_recipe(
    command: str, name_or_path: str | Path, overrides: list[str] | None = None, data: str | None = None
) -> LoadedRecipe:
    """Read a recipe by name or path, lay ``overrides`` and ``data`` (the data source) over it, and check it.

    Raises :class:`RecipeError` with every problem at once, each with its place.
    """
    path, name, shipped = _locate(command, str(name_or_path))
    show = f"attn recipes show {name if shipped else path}"
    check = f"attn recipes check {path}"
    trees, root = _chain(command, path, then=check)
    draft = Draft(_class_of(command, trees, root), str(path))
    for tree in trees:
        draft.add(tree)
    from_files = len(draft.problems)
    apply_overrides(draft, overrides or [], data)
    recipe = draft.finish()
    if recipe is None:
        typed = not from_files and (overrides or data is not None)
        raise RecipeError(*draft.problems, then=show if typed else check)
    return LoadedRecipe(command, name, path, recipe, dict(draft.origin))


def apply_overrides(draft: Draft, overrides: list[str], data: str | None = None) -> None:
    """Lay ``key.sub=value`` settings over a draft; what is wrong with them is noted there."""
    types = dict(settings(draft.recipe_class))
    data_key = draft.recipe_class.data_key
    sources = set()
    for text in overrides:
        match = OVERRIDE.fullmatch(text)
        if match is None:
            what = f"{text!r} is not a setting; settings are key=value, as in train.steps=500"
            draft.problems.append(Problem(what, COMMAND_LINE))
            continue
        key, value = match["key"], match["value"]
        if key == "extends":
            hint = "give the recipe itself as the first argument"
            draft.wrong(key, "belongs in a recipe file", COMMAND_LINE, hint)
            continue
        info = types.get(key)
        if info is not None and set(kinds(info.annotation)) <= {str, type(None)}:
            item: Scalar | Mapping = Scalar(value, value, COMMAND_LINE)
        else:
            try:
                item = read_value(value, COMMAND_LINE)
            except RecipeError as error:
                takes = f"; it takes {wanted(info)}" if info else ""
                for problem in error.problems:
                    draft.wrong(key, f"{value!r} {problem.what}{takes}", COMMAND_LINE)
                continue
            if isinstance(item, Mapping):
                takes = f"it takes {wanted(info)}" if info else "settings are given one by one"
                draft.wrong(key, f"{value!r} is a mapping; {takes}", COMMAND_LINE)
                continue
        if key == data_key:
            sources.add(value)
        draft.put(key, item)
    if data is not None:
        if sources - {data}:
            what = f"--data {data} and {data_key}={sources.pop()} both name the data; give one"
            draft.problems.append(Problem(what, COMMAND_LINE))
        draft.put(data_key, Scalar(data, data, COMMAND_LINE))


def command_of(path: Path) -> str:
    """The command that a recipe file is for.

    Known from its folder (``pretrain/x.yaml``), the ``run.json`` beside it, or the recipe it extends;
    else the one that knows most of its keys.
    """
    if path.parent.name in SCHEMAS:
        return path.parent.name
    try:
        command = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        command = None
    if command in SCHEMAS:
        return command
    tree = read_file(path)
    base = tree.entries.get("extends")
    if isinstance(base, Scalar) and isinstance(base.value, str):
        command = base.value.partition("/")[0]
        if command in SCHEMAS:
            return command
    return min(
        SCHEMAS, key=lambda command: min(_misfits(kind, [tree]) for kind in recipe_classes(command).values())
    )


def _class_of(command: str, trees: list[Mapping], root: Path) -> type[Recipe]:
    """The kind of recipe: that of the shipped recipe at its root, or else the one it fits best."""
    classes = recipe_classes(command)
    shipped = {entry.path.resolve(): entry.name for entry in catalogue.shipped() if entry.command == command}
    name = shipped.get(root.resolve())
    return classes[name] if name in classes else min(classes.values(), key=lambda kind: _misfits(kind, trees))


def _misfits(kind: type[Recipe], trees: list[Mapping]) -> int:
    known = {"extends", *(key for key, _ in settings(kind))}
    return sum(key not in known for tree in trees for key, _ in tree.leaves())


def _locate(command: str, text: str) -> tuple[Path, str, bool]:
    """Path and name of a recipe, and whether it ships with the program."""
    if catalogue.matches(text, command):
        entry = catalogue.find(text, command)
        return entry.path, entry.full, True
    path = Path(os.path.expanduser(text))
    if path.exists() or path.suffix in (".yaml", ".yml"):
        for entry in catalogue.shipped():
            if path.resolve() == entry.path.resolve() and entry.command == command:
                return path, entry.full, True
        return path, path.stem, False
    raise unknown_recipe(command, text)


def unknown_recipe(command: str, text: str) -> RecipeError:
    """The error for a first argument that is neither a recipe's name nor a path."""
    near = catalogue.nearest_name(text, command)
    names = [entry.name for entry in catalogue.shipped() if entry.command == command]
    other = [entry for entry in catalogue.matches(text) if entry.command != command]
    if other:
        what = f"{other[0].full} is a recipe of another command"
        return RecipeError(what, then=f"attn {other[0].command} {other[0].name}")
    if "/" in text and not near:
        return RecipeError(f"there is no file or folder {text}", then=f"attn recipes list {command}")
    what = f"{text!r} is no recipe, file or run folder"
    if near:
        return RecipeError(f"{what}; did you mean {near}?", then=f"attn {command} {near}")
    return RecipeError(f"{what}; the recipes are {', '.join(names)}", then=f"attn recipes list {command}")


def _chain(command: str, path: Path, then: str) -> tuple[list[Mapping], Path]:
    """The trees of a recipe and of all it extends, the base first, and the path of that base."""
    trees: list[Mapping] = []
    visited: list[Path] = []
    current: Path | None = path
    place = None
    while current is not None:
        if current.resolve() in visited:
            loop = [*visited[visited.index(current.resolve()) :], current.resolve()]
            what = f"extends: the recipes extend each other in a circle: {' -> '.join(map(str, loop))}"
            raise RecipeError(Problem(what, place), then=then)
        visited.append(current.resolve())
        tree = read_file(current, then=then)
        trees.insert(0, tree)
        place = tree.places.pop("extends", None)
        base = tree.entries.pop("extends", None)
        if base is None or (isinstance(base, Scalar) and base.value is None):
            break
        if not isinstance(base, Scalar) or isinstance(base.value, list):
            raise RecipeError(Problem("extends: names one other recipe", place), then=then)
        current = _base(command, current, base.text, place, then)
    return trees, visited[-1]


def _base(command: str, child: Path, text: str, place: str | None, then: str) -> Path:
    if catalogue.matches(text, command):
        return catalogue.find(text, command).path
    if Path(text).suffix in (".yaml", ".yml"):
        path = child.parent / os.path.expanduser(text)
        if path.is_file():
            return path
        raise RecipeError(Problem(f"extends: there is no file {path}", place), then=then)
    owner = text.partition("/")[0]
    if owner != command and owner in SCHEMAS:
        what = f"extends: {text} is a recipe of attn {owner}; only one of attn {command} can be extended"
        raise RecipeError(Problem(what, place), then=then)
    near = catalogue.nearest_name(text, command)
    hint = f"did you mean {near}?" if near else f"a recipe of attn {command}, or a path to a .yaml file"
    raise RecipeError(Problem(f"extends: no recipe is named {text!r}", place, hint), then=then)
