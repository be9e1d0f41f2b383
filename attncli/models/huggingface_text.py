"""Models of text with their heads as Hugging Face folders, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.layers.lora import merged_state
from attncli.models.huggingface import Raw, read_safetensors
from attncli.models.huggingface_encoders import (
    CLASSES,
    encoder_shapes,
    named_as_saved,
    read_encoder_config,
    take,
)
from attncli.models.huggingface_folder import choose_model_type, huggingface_config, separate
from attncli.models.huggingface_names import encoder_names, head_names, root_of
from attncli.models.text import TextModel, build_text
from attncli.models.text_config import TextConfig, head_activation

_TASKS = {
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_PROBLEMS = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}


def text_model_type(config: TextConfig) -> str:
    """The ``model_type`` of transformers that computes what a model of ``config`` does.

    Raises:
        RecipeError: there is none; all settings that differ from the nearest.
    """
    encoder = replace(config.encoder, pair=False, head_activation=config.encoder.activation)
    problems: list[Problem] = []
    if config.pooling != "first" and not (config.family == "modernbert" and config.pooling == "mean"):
        problems.append(Problem(f"transformers has no model.pooling={config.pooling}", hint="it has first"))
    if config.crf:
        hint = "its models give each tag's own score; the scores of neighbouring tags have no place there"
        problems.append(Problem("transformers has no model.crf=True", hint=hint))
    found = config.family
    try:
        found = choose_model_type(config.family, encoder, head=False)
    except RecipeError as error:
        problems += error.problems
    if problems:
        raise RecipeError(*problems)
    wanted = head_activation(found, config.task, config.encoder)
    if config.head_activation != wanted:  # one family's blocks under another's head
        raise RecipeError(f"{found} has a head with {wanted}, not {config.head_activation}")
    return found


def save_text(
    model: TextModel,
    folder: Path,
    *,
    labels: Sequence[str] = (),
    kind: str = "single",
    special: Mapping[str, int | None],
) -> str:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``; the name of the class that loads it.

    ``labels``: names of the outputs. ``kind``: single, multi or regression, of sequences. ``special``: ids of
    special tokens by their name in ``config.json``. Low-rank updates are merged into the weights.

    Raises:
        RecipeError: as :func:`text_model_type`.
    """
    config = model.config
    model_type = text_model_type(config)
    name = CLASSES[model_type] + _TASKS[config.task]
    raw = huggingface_config(model_type, replace(config.encoder, pair=False), special)
    raw |= {"architectures": [name]} | _dropouts(model_type, config)
    if labels and config.task != "span":
        raw["id2label"] = {str(index): label for index, label in enumerate(labels)}
        raw["label2id"] = {label: index for index, label in enumerate(labels)}
    if config.task == "sequence":
        raw["problem_type"] = _PROBLEMS[kind]
        if model_type == "modernbert":
            raw["classifier_pooling"] = "mean" if config.pooling == "mean" else "cls"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(raw, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    tensors = _to_huggingface(model_type, config, merged_state(model))
    save_file(separate(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return name


def _to_huggingface(model_type: str, config: TextConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    encoder = config.encoder
    kv = (encoder.kv_heads or encoder.heads) * encoder.head_dim
    sizes = (encoder.heads * encoder.head_dim, kv, kv)
    found: dict[str, Tensor] = {}
    for entry in encoder_names(model_type, encoder) + head_names(model_type, encoder, config.task):
        found |= entry.give(state[entry.ours], sizes)
    if not encoder.segments and model_type not in ("modernbert", "distilbert"):
        table = f"{root_of(model_type)}.embeddings.token_type_embeddings.weight"
        found[table] = torch.zeros(1, encoder.word_width)  # a table they always have
    return found


def _dropouts(model_type: str, config: TextConfig) -> Raw:
    """Where a family's settings have the head's dropout."""
    if model_type == "albert":
        return {"classifier_dropout_prob": config.head_dropout}
    if model_type == "distilbert":
        return {"seq_classif_dropout": config.head_dropout, "qa_dropout": config.head_dropout}
    return {"classifier_dropout": config.head_dropout}


def load_text(folder: str | Path) -> tuple[TextModel, list[str]]:
    """The model and its labels of a folder with a head for sequences, tokens or spans.

    Raises:
        CheckpointError: a missing or damaged file, another architecture, or weights that do not fit.
    """
    folder = Path(folder)
    family, encoder, raw = read_encoder_config(folder)
    where = str(folder / "config.json")
    architecture = str((raw.get("architectures") or ["none"])[0])
    task = next((t for t, suffix in _TASKS.items() if architecture.endswith(suffix)), None)
    if task is None:
        hint = f"there are {', '.join('...' + suffix for suffix in _TASKS.values())}"
        raise CheckpointError(Problem(f"{architecture} has no head for labels", where=where, hint=hint))
    tensors = named_as_saved(read_safetensors(folder), family)
    entries = encoder_names(family, encoder) + head_names(family, encoder, task)
    last = entries[-2].theirs[0]  # the weight of the output layer
    if last not in tensors or not tensors[last].ndim:
        raise CheckpointError(Problem(f"{last} is missing", where=str(folder)))
    outputs = tensors[last].shape[0]
    pooling = raw.get("classifier_pooling", "cls") if family == "modernbert" and task == "sequence" else "cls"
    config = TextConfig(
        encoder=encoder,
        family=family,
        task=task,
        labels=outputs,
        pooling="mean" if pooling == "mean" else "first",
        head_activation=head_activation(family, task, encoder),
        head_dropout=next((raw[k] for k in _dropout_names(family) if raw.get(k) is not None), 0.1),
    )
    encoder_shapes(encoder, folder)  # settings that make no model are named before one is made
    model = build_text(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(take(entries, tensors, shapes, folder))
    names = raw.get("id2label") or {}
    return model, [str(names.get(str(index), f"LABEL_{index}")) for index in range(outputs)]


def _dropout_names(family: str) -> tuple[str, ...]:
    return tuple(_dropouts(family, TextConfig(encoder=None, family=family)))  # type: ignore[arg-type]
