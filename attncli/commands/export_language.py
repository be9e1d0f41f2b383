"""Language models as folders that ``transformers`` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from attncli.commands.shared import write_json
from attncli.errors import RecipeError

if TYPE_CHECKING:
    from attncli.tasks.pretrain import PretrainTask
    from attncli.training import RunFolder


def check(task: PretrainTask, run: RunFolder, format: str) -> None:
    """Refuse what transformers has not, before anything is written."""
    from attncli.models.huggingface_folder import choose_model_type

    try:
        choose_model_type(task.recipe.model.family, task.config)
    except RecipeError as error:
        then = task.next_commands(run.path)[0]
        raise RecipeError(*error.problems, then=then) from None


def _write_language(task: PretrainTask, folder: Path) -> None:
    from attncli.models.huggingface_folder import save_huggingface

    tokenizer = task.tokenizer
    begin, end = ("eos", "eos") if task.causal else ("cls", "sep")  # a document's end begins the next
    roles = {"pad": "pad", "bos": begin, "eos": end} | ({} if task.causal else {"cls": "cls", "sep": "sep"})
    special = {f"{name}_token_id": getattr(tokenizer, f"{role}_id") for name, role in roles.items()}
    save_huggingface(task.model, folder, family=task.recipe.model.family, special=special)
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    inputs = ["input_ids", "attention_mask"]
    if getattr(task.config, "segments", 0):
        inputs.insert(1, "token_type_ids")
    settings |= {"model_max_length": task.config.length, "model_input_names": inputs}
    settings |= {"clean_up_tokenization_spaces": False}
    write_json(path, settings)
    if task.causal:
        _bare(folder / "tokenizer.json")


def _bare(path: Path) -> None:
    """Nothing put around a text: a causal model goes on behind it."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["post_processor"] = None
    write_json(path, values)


def _use_language(task: PretrainTask, folder: str) -> str:
    if task.causal:
        return f"from transformers import pipeline; print(pipeline('text-generation', {folder!r})('Once'))"
    mask = task.tokenizer.tokens[task.tokenizer.mask_id]
    text = f"A {mask} is an object."
    return f"from transformers import pipeline; print(pipeline('fill-mask', {folder!r})({text!r}))"


WRITERS = {"hf": (_write_language, _use_language)}
"""Format to what writes it, and to Python that applies what was written."""
