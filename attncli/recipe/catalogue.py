"""The recipes that ship with the program: ``<command>/<name>``, found in a wheel and in a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import attncli
from attncli.errors import RecipeError, nearest


@dataclass(frozen=True)
class Entry:
    """A shipped recipe."""

    command: str
    name: str
    path: Path

    @property
    def full(self) -> str:
        """``command/name``."""
        return f"{self.command}/{self.name}"


def folder() -> Path:
    """Where the shipped recipes are: inside an installed package, or beside it in a checkout."""
    package = Path(attncli.__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


@cache
def shipped(root: Path | None = None) -> tuple[Entry, ...]:
    """Every recipe below the catalogue's folder, however deep, sorted by name."""
    root = root or folder()
    found = []
    for path in sorted(root.rglob("*.yaml"), key=lambda path: path.with_suffix("")):
        command, *rest = path.relative_to(root).with_suffix("").parts
        if rest:
            found.append(Entry(command, "/".join(rest), path))
    return tuple(found)


def matches(name: str, command: str | None = None) -> list[Entry]:
    """The recipes that ``name`` can mean: ``pretrain/bert``, or ``bert`` alone."""
    entries = [entry for entry in shipped() if command in (None, entry.command)]
    full = [entry for entry in entries if entry.full == name]
    return full or [entry for entry in entries if entry.name == name]


def find(name: str, command: str | None = None) -> Entry:
    """The one recipe of that name; :class:`RecipeError` names the nearest when there is none."""
    found = matches(name, command)
    if len(found) == 1:
        return found[0]
    then = f"attn recipes list {command}" if command else "attn recipes list"
    if found:
        several = " or ".join(entry.full for entry in found)
        raise RecipeError(f"the name {name!r} fits more than one recipe: {several}", then=then)
    near = nearest_name(name, command)
    raise RecipeError(
        f"no recipe is named {name!r}" + (f"; did you mean {near}?" if near else ""),
        then=then,
    )


def nearest_name(name: str, command: str | None = None) -> str | None:
    """The recipe name most like a mistaken one, in the form that was typed."""
    entries = [entry for entry in shipped() if command in (None, entry.command)]
    return nearest(name, [entry.full if "/" in name else entry.name for entry in entries])
