"""``attn recipes``: list, show, copy and check."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from attncli import console
from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.recipe import catalogue
from attncli.recipe.loading import LoadedRecipe, command_of, load_recipe
from attncli.recipe.presenting import json_schema, to_yaml
from attncli.recipe.reading import Scalar, read_file
from attncli.recipe.schemas import SCHEMAS, recipe_classes
from attncli.recipe.sections import Recipe


def list_recipes(command: str | None = None) -> None:
    """A table of the shipped recipes."""
    if command is not None:
        recipe_classes(command)
    rows = []
    for entry in catalogue.shipped():
        if command in (None, entry.command):
            description = read_file(entry.path).entries.get("description")
            rows.append((entry.full, description.text if isinstance(description, Scalar) else ""))
    console.document({"recipes": [{"name": name, "description": text} for name, text in rows]})
    if not console.json_mode():
        console.table(["recipe", "what it trains"], rows)
        console.say(f"next: attn recipes show {rows[0][0]}")


def show(name: str, overrides: list[str], *, schema: bool = False, resolved: bool = False) -> None:
    """A recipe with every setting: explained, plain (``resolved``), or its JSON schema."""
    if schema:
        described = json_schema(_kind(name))
        console.document(described)
        if not console.json_mode():
            console.result(json.dumps(described, indent=2))
        return
    loaded = _load(name, overrides)
    if console.json_mode():
        values = loaded.recipe.model_dump(mode="json", exclude={"extends"})
        about = {"name": loaded.name, "command": loaded.command, "path": str(loaded.path)}
        console.document({**about, "recipe": values, "set_at": loaded.origin})
        return
    console.say(f"# {loaded.name}, a recipe of attn {loaded.command} ({loaded.path})")
    console.result(to_yaml(loaded.recipe, explain=not resolved, origin=loaded.origin), end="")


def copy(name: str, to: Path | None, *, force: bool = False) -> None:
    """Copy a shipped recipe, comments included, into the user's hands."""
    entry = catalogue.find(name)
    target = to or Path(f"{entry.path.stem}.yaml")
    if target.is_dir():
        target = target / f"{entry.path.stem}.yaml"
    elif target.suffix not in (".yaml", ".yml"):
        then = f"attn recipes copy {name} {target.with_suffix('.yaml')}"
        raise RecipeError(f"{target} is no .yaml file and no folder", then=then)
    if target.exists() and not force:
        then = f"attn recipes copy --force {name} {to or ''}".rstrip()
        raise RecipeError(f"{target} exists; nothing was written", then=then)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(entry.path, target)
    shown = str(target) if target.is_absolute() or target.parent != Path() else f"./{target}"
    console.document({"recipe": entry.full, "path": str(target)})
    if not console.json_mode():
        console.result(shown)
    console.say(f"next: attn {entry.command} {shown}")


def check(names: list[str], command: str | None = None) -> None:
    """Check recipes, files and folders of files; all problems of all of them at once."""
    problems: list[Problem] = []
    good: list[LoadedRecipe] = []
    files = _files(names)
    if not files:
        raise RecipeError(f"no .yaml file in {', '.join(names)}", then="attn recipes list")
    for name in files:
        try:
            good.append(_load(name, [], command))
        except RecipeError as error:
            problems += error.problems
    console.document({"good": [str(loaded.path) for loaded in good]})
    if not console.json_mode():
        for loaded in good:
            console.result(f"{loaded.path}: good, for attn {loaded.command}")
    if problems:
        raise RecipeError(*problems, then=f"attn recipes check {' '.join(names)}")


def _kind(name: str) -> type[Recipe]:
    """The class of a recipe, or of the one kind of recipe that a command reads."""
    if name in SCHEMAS and not catalogue.matches(name):
        classes = recipe_classes(name)
        if len(classes) > 1:
            what = f"attn {name} reads several kinds of recipe: {', '.join(classes)}"
            raise RecipeError(what, then=f"attn recipes show {name}/{next(iter(classes))} --schema")
        return next(iter(classes.values()))
    return type(_load(name, []).recipe)


def _files(names: list[str]) -> list[str]:
    found = []
    for name in names:
        path = Path(os.path.expanduser(name))
        if path.is_dir() and not catalogue.matches(name):
            found += [str(file) for file in sorted(path.rglob("*.yaml"))]
        else:
            found.append(name)
    return found


def _load(name: str, overrides: list[str], command: str | None = None) -> LoadedRecipe:
    """A recipe by name or by file, of whatever command; a run folder gives the recipe it ran."""
    if catalogue.matches(name, command):
        entry = catalogue.find(name, command)
        return load_recipe(entry.command, entry.full, overrides)
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        if not (path / "recipe.yaml").exists():
            raise CheckpointError(f"{path} is no run folder: it has no recipe.yaml", then="attn recipes list")
        path = path / "recipe.yaml"
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return load_recipe(command or command_of(path), path, overrides)
    entry = catalogue.find(name, command)  # raises, with the nearest name
    return load_recipe(entry.command, entry.full, overrides)
