"""The encoder of a task on labelled text: a pre-trained one out of a run or a Hugging Face folder, or a fresh one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from attncli.attention import explain_choice
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.errors import CheckpointError, Problem, nearest
from attncli.models.config import EncoderConfig
from attncli.models.families import resolve
from attncli.models.huggingface_encoders import Base, base_of_masked_lm, read_base
from attncli.models.text import SequenceModel, SpanModel, TextConfig, TokenModel, build_text, resolve_text, text_config
from attncli.recipe.loading import load_recipe
from attncli.recipe.text import EncoderModel
from attncli.training import RunFolder, load_weights

_CONFIG = "model.json"


@dataclass(frozen=True)
class Start:
    """What a model starts from."""

    tokenizer: EncoderTokenizer
    base: Base
    where: str


def open_base(section: EncoderModel) -> Start | None:
    """The base of a recipe; None where the encoder is to be fresh.

    Raises:
        CheckpointError: neither a run of ours with an encoder nor a folder that can be read as one.
    """
    if not section.base:
        return None
    path = Path(section.base).expanduser()
    if (path / "run.json").is_file():
        return _of_run(path)
    if (path / "config.json").is_file():
        return Start(EncoderTokenizer.load(path), read_base(path), f"Hugging Face folder {path}")
    raise CheckpointError(_nothing_there(path), then="attn runs list")


def _nothing_there(path: Path) -> Problem:
    what = f"model.base={path}: "
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
        return Problem(
            f"{what}neither a run (run.json) nor a Hugging Face folder (config.json); it holds {found}"
        )
    if path.exists():
        return Problem(f"{what}is a file; a run or a Hugging Face folder is wanted")
    near = nearest(path.name, [entry.name for entry in path.parent.glob("*/")])
    hint = f"did you mean {path.parent / near}?" if near else "a run of attn pretrain or a Hugging Face folder"
    return Problem(f"{what}there is no such folder", hint=hint)


def _of_run(path: Path) -> Start:
    run = RunFolder.open(path)
    command = run.info["command"]
    tokenizer = EncoderTokenizer.load(path)
    where = f"run {path}"
    if command == "pretrain":
        recipe = load_recipe(command, run.recipe_file).recipe
        if recipe.model.family == "gpt":
            raise CheckpointError(
                f"{path} is a causal language model; classifying, tagging and answering need an encoder "
                "that sees both sides",
                then="attn pretrain bert",
            )
        config = resolve(
            recipe.model,
            vocabulary=tokenizer.tokenizer.vocabulary,
            pad_id=tokenizer.tokenizer.pad_id,
            pair=recipe.train.objective.sentences != "none",
        )
        return Start(tokenizer, base_of_masked_lm(config, recipe.model.family, load_weights(run)), where)
    if (path / _CONFIG).is_file():
        config = load_config(path)
        return Start(
            tokenizer, base_of_masked_lm(config.encoder, config.family, load_weights(run)), where
        )
    raise CheckpointError(
        f"{path} is a run of attn {command}; an encoder comes from attn pretrain or attn finetune",
        then="attn runs list",
    )


def build_model(
    section: EncoderModel,
    task: str,
    labels: int,
    tokenizer: EncoderTokenizer,
    start: Start | None,
    *,
    length: int,
    seed: int,
) -> SequenceModel | TokenModel | SpanModel:
    """The model of a new run, with the base's weights unless the recipe wants fresh ones."""
    base = None if start is None else start.base
    config = resolve_text(
        section,
        task,
        labels,
        vocabulary=tokenizer.tokenizer.vocabulary,
        pad_id=tokenizer.tokenizer.pad_id,
        base=None if base is None else base.config,
        family=None if base is None else base.family,
        length=length,
    )
    torch.manual_seed(seed)
    return build_text(config, base if section.weights == "base" else None)


def save_config(config: TextConfig, folder: Path) -> None:
    """Store the model's shape: the base is not needed again."""
    (folder / _CONFIG).write_text(json.dumps(config.plain(), indent=2) + "\n", encoding="utf-8")


def load_config(folder: Path) -> TextConfig:
    """What :func:`save_config` stored; CheckpointError where it is missing or damaged."""
    path = folder / _CONFIG
    try:
        return text_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


def describe_model(
    model: nn.Module, config: EncoderConfig, section: EncoderModel, rows: int, length: int, dtype: torch.dtype
) -> list[str]:
    """Lines on an encoder: where it comes from, its size, its attention and how that is computed."""
    source = "fresh weights"
    if section.base:
        source = section.base + ("" if section.weights == "base" else " (its shape, fresh weights)")
    total = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    share = "" if learning == total else f", {learning:,} of them learn"
    name, reason = attention_backend(model, config, rows, length, dtype)
    return [
        f"model: {source}: {config.layers} layers of {config.width}, {total:,} parameters{share}",
        f"attention: {config.mechanism}, {config.position} positions, {config.heads} heads; {name}: {reason}",
    ]


def attention_backend(
    model: nn.Module, config: EncoderConfig, rows: int, length: int, dtype: torch.dtype
) -> tuple[str, str]:
    """The attention backend of a training step, and why."""
    options = {name: getattr(config, name) for name in ("window", "topk") if getattr(config, name)}
    return explain_choice(
        rows,
        config.heads,
        length,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        dtype=dtype,
        device=next(model.parameters()).device,
        dropout=config.attention_dropout,
        grad=True,
        mechanism=config.mechanism,
        backend=config.backend,
        **options,
    )
