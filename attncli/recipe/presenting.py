"""A recipe written out: as YAML with every setting explained, as plain values, as a JSON schema."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from attncli.recipe.reading import understand
from attncli.recipe.schemas import section_of, wanted
from attncli.recipe.sections import Recipe, Section

_PLAIN = re.compile(r"[A-Za-z][\w./-]*(?: [\w./-]+)*", re.ASCII)


def to_yaml(recipe: Recipe, *, explain: bool = False, origin: dict[str, str] | None = None) -> str:
    """The recipe with every setting, as YAML that reads back to the same values.

    ``explain``: each setting below what it means and takes, and where its value comes from.
    """
    lines: list[str] = []
    _write(recipe, lines, 0, "", explain, origin or {})
    return "\n".join(lines).strip("\n") + "\n"


def json_schema(kind: type[Recipe]) -> dict[str, Any]:
    """JSON schema of a kind of recipe, for editors."""
    schema = kind.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _write(
    section: Section, lines: list[str], depth: int, prefix: str, explain: bool, origin: dict[str, str]
) -> None:
    pad = "  " * depth
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        key = prefix + name
        inner = section_of(info.annotation)
        if name == "extends" and not prefix:
            continue  # what is written here stands alone
        if explain:
            if depth < 2 and lines and inner:
                lines.append("")
            text = " ".join((inner.__doc__ if inner else info.description or "").replace("``", "").split())
            if inner is None:
                source = f" Set at {Path(origin[key]).name}." if key in origin else ""
                text = f"{text} Takes {wanted(info)}.{source}"
            lines.extend(textwrap.wrap(text, 100, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}#   "))
        if inner:
            lines.append(f"{pad}{name}:")
            _write(value, lines, depth + 1, key + ".", explain, origin)
        else:
            lines.append(f"{pad}{name}: {scalar(value)}".rstrip())


def scalar(value: Any) -> str:
    """A value as YAML, quoted only where it would read back as something else."""
    if value is None:
        return "null"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and understand(value) == value
        return value if plain else json.dumps(value, ensure_ascii=True)
    return json.dumps(value) if isinstance(value, bool | list) else repr(value)
