"""Which command reads which recipe classes, and questions about a class: its keys, types and rules."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from attncli.errors import RecipeError, nearest
from attncli.recipe.sections import Recipe, Section

SCHEMAS: dict[str, dict[str, tuple[str, str]]] = {
    "pretrain": {"pretrain": ("attncli.recipe.pretrain", "PretrainRecipe")},
    "translate": {
        "transformer": ("attncli.recipe.translate", "TransformerRecipe"),
        "seq2seq": ("attncli.recipe.translate", "Seq2SeqRecipe"),
    },
    "finetune": {
        "classify": ("attncli.recipe.finetune", "ClassifyRecipe"),
        "ner": ("attncli.recipe.finetune", "TagRecipe"),
        "qa": ("attncli.recipe.finetune", "AnswerRecipe"),
        "vit": ("attncli.recipe.image", "FinetuneImageRecipe"),
    },
    "classify": {
        "han": ("attncli.recipe.classify", "HanRecipe"),
        "transformer": ("attncli.recipe.classify", "TransformerRecipe"),
        "bag_of_words": ("attncli.recipe.classify", "BagRecipe"),
        "vit": ("attncli.recipe.image", "ImageRecipe"),
        "video": ("attncli.recipe.video", "VideoRecipe"),
    },
    "detect": {
        "faster_rcnn": ("attncli.recipe.detect", "FasterRcnnRecipe"),
        "detr": ("attncli.recipe.detect", "DetrRecipe"),
    },
    "segment": {"segment": ("attncli.recipe.segment", "SegmentRecipe")},
    "bench": {
        "train": ("attncli.recipe.bench", "BenchTrainRecipe"),
        "attention": ("attncli.recipe.bench", "BenchAttentionRecipe"),
        "decode": ("attncli.recipe.bench", "BenchDecodeRecipe"),
        "translate": ("attncli.recipe.bench", "BenchTranslateRecipe"),
        "quality": ("attncli.recipe.bench", "BenchQualityRecipe"),
    },
}
"""Command to its kinds of recipe, each with the module and class that describe it; imported when asked for.

Where a command has several kinds, each is named like the shipped recipe that the others extend.
"""


def recipe_classes(command: str) -> dict[str, type[Recipe]]:
    """The kinds of recipe that a command reads."""
    if command not in SCHEMAS:
        near = nearest(command, SCHEMAS)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(SCHEMAS)}"
        raise RecipeError(f"no command named {command!r} takes a recipe; {hint}", then="attn recipes list")
    return {kind: getattr(importlib.import_module(m), name) for kind, (m, name) in SCHEMAS[command].items()}


def kind_of(command: str, recipe: Recipe) -> str:
    """Which kind of recipe of ``command`` it is."""
    return next(kind for kind, (_, name) in SCHEMAS[command].items() if name == type(recipe).__name__)


def section_of(annotation: Any) -> type[Section] | None:
    """The section class when a key holds a section, else None."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def kinds(annotation: Any) -> list[Any]:
    """The members of a union, or the one type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for member in get_args(annotation) for kind in kinds(member)]
    return [annotation]


def choices(annotation: Any) -> list[Any] | None:
    """The values of a Literal (within an optional too), else None."""
    for kind in kinds(annotation):
        if get_origin(kind) is Literal:
            return list(get_args(kind))
    return None


def settings(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a section as (dotted key, pydantic field), sections themselves left out."""
    for name, info in section.model_fields.items():
        inner = section_of(info.annotation)
        if inner:
            yield from settings(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, info


@cache
def known_keys(section: type[Section]) -> tuple[str, ...]:
    """Every dotted key below a section, of sections and of settings."""
    keys = []
    for name, info in section.model_fields.items():
        keys.append(name)
        inner = section_of(info.annotation)
        if inner:
            keys += [f"{name}.{key}" for key in known_keys(inner)]
    return tuple(keys)


def wanted(info: Any) -> str:
    """What a setting takes, in words: ``a whole number >= 1, or nothing``."""
    listed = choices(info.annotation)
    if listed:
        words = ["one of " + ", ".join(map(str, listed))]
    else:
        members = kinds(info.annotation)
        if float in members:
            members = [kind for kind in members if kind is not int]
        words = [_KIND_NAMES.get(kind) or _list(kind) for kind in members if kind is not type(None)]
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {_number(getattr(rule, name))}"
        for rule in info.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    text = " or ".join(words) + (" " + " and ".join(limits) if limits else "")
    return text + (", or empty" if type(None) in kinds(info.annotation) else "")


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _list(kind: Any) -> str:
    (item,) = get_args(kind)
    listed = choices(item)
    return (
        f"a list of {', '.join(map(str, listed)) if listed else _KIND_NAMES[item].removeprefix('a ') + 's'}"
    )


def suggest(recipe: type[Recipe], key: str) -> list[str]:
    """Keys that a mistaken dotted ``key`` may have meant, the likeliest first; empty when none is near.

    A key that lacks its section (``heads``) finds every key that ends so; else spelling decides, first
    among its neighbours, then everywhere.
    """
    known = known_keys(recipe)
    folded = key.lower().replace("-", "_")
    ends = [name for name in known if name == folded or name.endswith("." + folded)]
    if ends:
        return ends
    section, _, last = folded.rpartition(".")
    neighbours = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    near = nearest(last, neighbours)
    if near:
        return [neighbours[near]]
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    if elsewhere:
        return elsewhere
    near = nearest(folded, known)
    if near:
        return [near]
    near = nearest(last, {name.rpartition(".")[2] for name in known})
    return [name for name in known if name.rpartition(".")[2] == near] if near else []


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) or abs(value) < 10**6 else f"{value:.3g}"
