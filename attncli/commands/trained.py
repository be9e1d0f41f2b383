"""A finished run, opened for use: its recipe, its task and its best weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands import shared
from attncli.errors import DataError, DeviceError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe, load_recipe
from attncli.recipe.schemas import kind_of
from attncli.recipe.sections import Recipe

if TYPE_CHECKING:
    import torch

    from attncli.training import RunFolder

TASKS = {
    "pretrain": ("attncli.tasks.pretrain", "PretrainTask"),
    "translate": ("attncli.tasks.translate", "TranslateTask"),
    "finetune/classify": ("attncli.tasks.encoder_classify", "EncoderClassifyTask"),
    "finetune/ner": ("attncli.tasks.tag", "TagTask"),
    "finetune/qa": ("attncli.tasks.answer", "AnswerTask"),
    "classify/han": ("attncli.tasks.han", "HanTask"),
    "classify/transformer": ("attncli.tasks.encoder_classify", "EncoderClassifyTask"),
    "classify/bag_of_words": ("attncli.tasks.bag_of_words", "BagTask"),
    "detect": ("attncli.tasks.detect", "DetectTask"),
    "segment": ("attncli.tasks.segment", "SegmentTask"),
    "classify/vit": ("attncli.tasks.image_classify", "ImageClassifyTask"),
    "classify/video": ("attncli.tasks.video_classify", "VideoTask"),
    "finetune/vit": ("attncli.tasks.image_classify", "ImageClassifyTask"),
}
"""Command, with the kind of recipe where it matters, to module and class of its task; imported when used."""


def task_class(command: str, recipe: Recipe) -> Any:
    """The task of a command's recipe."""
    module, name = _find(TASKS, command, recipe)
    return getattr(importlib.import_module(module), name)


METRIC_NAMES = {
    "pretrain": "attncli.tasks.language_metrics",
    "translate": "attncli.tasks.translation_metrics",
    "finetune": "attncli.tasks.label_metrics",
    "classify": "attncli.tasks.label_metrics",
    "detect": "attncli.tasks.detect_metrics",
    "segment": "attncli.tasks.segment_metrics",
}
"""The same to the module that names its metrics. No torch."""

APPLY = {
    "pretrain": "attncli.commands.apply_language",
    "translate": "attncli.commands.apply_translation",
    "finetune": "attncli.commands.apply_labels",
    "classify": "attncli.commands.apply_labels",
    "classify/vit": "attncli.commands.apply_images",
    "detect": "attncli.commands.apply_detect",
    "segment": "attncli.commands.apply_segments",
    "classify/video": "attncli.commands.apply_videos",
    "finetune/vit": "attncli.commands.apply_images",
}
"""The same to the module whose ``apply`` a run is applied with."""

INSPECT = {
    "pretrain": "attncli.commands.inspect_language",
    "translate": "attncli.commands.inspect_translation",
    "finetune": "attncli.commands.inspect_labels",
    "classify": "attncli.commands.inspect_labels",
    "classify/vit": "attncli.commands.inspect_images",
    "detect": "attncli.commands.inspect_detect",
    "segment": "attncli.commands.inspect_segments",
    "classify/video": "attncli.commands.inspect_videos",
    "finetune/vit": "attncli.commands.inspect_images",
}
"""The same to the module whose ``inspect`` shows what a run looks at."""

EXPORT = {
    "pretrain": "attncli.commands.export_language",
    "translate": "attncli.commands.export_translation",
    "finetune": "attncli.commands.export_text",
    "classify": "attncli.commands.export_text",
    "classify/vit": "attncli.commands.export_images",
    "classify/video": "attncli.commands.export_videos",
    "finetune/vit": "attncli.commands.export_images",
    "segment": "attncli.commands.export_segments",
}
"""The same to the module that writes a run for other libraries."""


def module_of(table: dict[str, str], command: str, recipe: Recipe) -> ModuleType:
    """The module of a command's recipe in one of the tables."""
    return importlib.import_module(_find(table, command, recipe))


def metric_names(command: str, recipe: Recipe) -> list[str]:
    """Metrics that a run of ``command`` reports."""
    return importlib.import_module(_find(METRIC_NAMES, command, recipe)).metric_names(recipe)


def _find(table: dict[str, Any], command: str, recipe: Recipe) -> Any:
    kind = f"{command}/{kind_of(command, recipe)}"
    return table[kind] if kind in table else table[command]


def open_run(
    command: str, first: str | Path, settings: list[str] | None = None
) -> tuple[RunFolder, LoadedRecipe]:
    """The run folder that ``first`` names and its recipe, with ``settings`` laid over it. No torch."""
    run = shared.open_run(shared.find_run(command, str(first)))
    return run, load_recipe(run.info["command"], run.recipe_file, settings)


def load_task(run: RunFolder, loaded: LoadedRecipe, *, data: bool) -> tuple[Any, torch.device]:
    """The task of ``run`` with its best weights, in eval mode; with its data only where ``data``.

    What training ran on says nothing of this machine: PyTorch takes its own number of threads, and a GPU
    that is not here is done without.
    """
    from attncli.layers.initialise import undrawn
    from attncli.ops.allocator import keep_freed_memory
    from attncli.training import load_weights, resolve_device, restore_weights

    keep_freed_memory()
    weights = load_weights(run)
    kind = task_class(run.info["command"], loaded.recipe)
    with undrawn():
        task = (kind.build if data else kind.opened)(loaded.recipe, run.path)
    restore_weights(task.model, weights, f"{run.path}")
    try:
        device = resolve_device(loaded.recipe.train.device)
    except DeviceError:
        device = resolve_device("auto")
    task.to(device)
    task.model.eval()
    return task, device


def read_inputs(inputs: list[str]) -> Iterator[tuple[str, str]]:
    """Each input text with its place: the argument itself, lines of a file, lines of standard input."""
    for given in inputs:
        if given == "-":
            yield from _lines("standard input", sys.stdin)
        elif Path(given).is_file():
            try:
                with Path(given).open(encoding="utf-8") as file:
                    yield from _lines(given, file)
            except UnicodeDecodeError as error:
                raise DataError(Problem("is not UTF-8 text", given)) from error
        else:
            yield "", given


def _lines(name: str, lines: Any) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{name}:{number}", line.rstrip("\n")


def want_inputs(inputs: list[str], then: str) -> None:
    """Refuse a call without any input."""
    if not inputs:
        raise RecipeError("an input is missing: a text in quotes, a file, or - for standard input", then=then)


def say_run(run: RunFolder) -> None:
    """One line on which weights are used."""
    result = run.result()
    state = "" if result else f" ({run.state}: its best weights so far)"
    console.say(f"using {run.path}{state}")
