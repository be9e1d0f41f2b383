"""The encoder of a task on labelled text: pre-trained, out of a run or a Hugging Face folder, or fresh."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attncli.attention import explain_choice
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.errors import CheckpointError, Problem, nearest
from attncli.models.adaptation import adapt, parameter_groups
from attncli.models.families import resolve
from attncli.models.flops import model_flops
from attncli.models.huggingface_encoders import Base, base_of_masked_lm, read_base
from attncli.models.parts import mechanism_options
from attncli.models.text import (
    SequenceModel,
    SpanModel,
    TextConfig,
    TokenModel,
    build_text,
    resolve_text,
    text_config,
)
from attncli.recipe.finetune import EncoderRecipe
from attncli.recipe.loading import load_recipe
from attncli.recipe.text import EncoderModel, LabelTrain
from attncli.training import RunFolder, load_weights
from attncli.training.task import hidden_matrices

_CONFIG = "model.json"
_MOST_PASSES = 50.0
_EVALUATIONS = 20
"""At most, where few examples are gone over many times."""
Model = SequenceModel | TokenModel | SpanModel


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
    raise CheckpointError(nothing_there(path), then="attn runs list")


def nothing_there(path: Path) -> Problem:
    """What is wrong with a base that is neither a run nor a folder of ours."""
    what = f"model.base={path}: "
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
        return Problem(
            f"{what}neither a run (run.json) nor a Hugging Face folder (config.json); it holds {found}"
        )
    if path.exists():
        return Problem(f"{what}is a file; a run or a Hugging Face folder is wanted")
    near = nearest(path.name, [entry.name for entry in path.parent.glob("*/")])
    hint = (
        f"did you mean {path.parent / near}?" if near else "a run of attn pretrain or a Hugging Face folder"
    )
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
        return Start(tokenizer, base_of_masked_lm(config.encoder, config.family, load_weights(run)), where)
    raise CheckpointError(
        f"{path} is a run of attn {command}; an encoder comes from attn pretrain or attn finetune",
        then="attn runs list",
    )


@dataclass(frozen=True)
class Beginning:
    """What a task on an encoder begins with: a base, the files of its own run, or nothing."""

    tokenizer: EncoderTokenizer | None
    """None: one is to be trained on the data."""
    base: Base | None = None
    config: TextConfig | None = None
    """Of a run that is gone on with or applied."""

    def model(self, recipe: EncoderRecipe, task: str, labels: int, tokenizer: EncoderTokenizer) -> Model:
        """The model, with the base's weights unless the recipe wants fresh ones."""
        if self.config is not None:
            return self.stored(recipe.model)
        section, base = recipe.model, self.base
        if base is None:  # as many positions as the data needs
            length = max(section.length, recipe.data.max_length)
            section = section.model_copy(update={"length": length})
        config = resolve_text(
            section,
            task,
            labels,
            vocabulary=tokenizer.tokenizer.vocabulary,
            pad_id=tokenizer.tokenizer.pad_id,
            base=None if base is None else base.config,
            family=None if base is None else base.family,
            length=recipe.data.max_length,
            first=base is None or base.first,
        )
        torch.manual_seed(recipe.train.seed)
        model = build_text(config, base if section.weights == "base" else None)
        adapt(model, section)
        return model

    def stored(self, section: EncoderModel) -> Model:
        """The model of the run, its weights still to be restored."""
        model = build_text(self.config)
        adapt(model, section)
        return model


def begin(recipe: EncoderRecipe, run: Path | None) -> Beginning:
    """What a new task begins with, or one that goes on in ``run``."""
    if run is not None:
        return Beginning(EncoderTokenizer.load(run), config=load_config(run))
    start = open_base(recipe.model)
    return Beginning(None) if start is None else Beginning(start.tokenizer, start.base)


class Adapted:
    """Part of a task whose model stands on an encoder."""

    recipe: EncoderRecipe
    model: Model
    updates = 200
    """Of the weights, that few examples are gone over for where no epochs are given."""
    passes = 3.0
    """Epochs at least, where none are given."""

    @property
    def head_rate(self) -> float:
        """Of the head as a multiple of the learning rate, where none is given."""
        return 1.0

    def settle(self, settings: LabelTrain) -> LabelTrain:
        """As of all labelled data, at a rate that suits the encoder and for as long as suits the data where
        neither is given.

        Narrow encoders take larger steps: published are 5e-5 for BERT-base and up to 3e-4 for the small ones
        (Turc et al. 2019, https://arxiv.org/abs/1908.08962). Few examples are to be seen more often (Mosbach
        et al. 2021, https://arxiv.org/abs/2006.04884; Zhang et al. 2021, https://arxiv.org/abs/2006.05987).
        """
        if settings.epochs is None and not settings.steps and not self.fresh:  # type: ignore[attr-defined]
            an_epoch = self.steps_an_epoch(settings.batch)  # type: ignore[attr-defined]
            epochs = min(_MOST_PASSES, max(self.passes, self.updates / an_epoch))
            every = settings.evaluate_every or math.ceil(max(1, epochs / _EVALUATIONS) * an_epoch)
            settings = settings.model_copy(update={"epochs": epochs, "evaluate_every": every})
        if settings.learning_rate is None:
            rate = min(3e-4, 5e-5 * (768 / self.model.config.encoder.width) ** 1.5)
            settings = settings.model_copy(update={"learning_rate": rate})
        return super().settle(settings)  # type: ignore[misc]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups with rates by layer, what is frozen left out."""
        settings = self.recipe.train
        return parameter_groups(
            self.model,
            layer_decay=settings.layer_decay,
            head_rate=settings.head_rate or self.head_rate,
            hidden=hidden_matrices(self.model),
        )

    def save_model(self, run: Path) -> None:
        """Store the model's shape: the base is not needed again."""
        text = json.dumps(self.model.config.plain(), indent=2)
        (run / _CONFIG).write_text(text + "\n", encoding="utf-8")

    def about(self, dtype: torch.dtype) -> list[str]:
        """Lines on the encoder: where it comes from, its size, its attention and how that is computed."""
        section, config, model = self.recipe.model, self.model.config.encoder, self.model
        source = "fresh weights"
        if section.base:
            source = section.base + ("" if section.weights == "base" else " (its shape, fresh weights)")
        total = sum(p.numel() for p in model.parameters())
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
        share = "" if learning == total else f", {learning:,} of them learn"
        name, reason = self.backend(dtype)
        return [
            f"model: {source}: {config.layers} layers of {config.width}, {total:,} parameters{share}",
            f"attention: {config.mechanism}, {config.position} positions, {config.layout}; {name}: {reason}",
        ]

    def backend(self, dtype: torch.dtype) -> tuple[str, str]:
        """The attention backend of a training step of the longest examples, and why."""
        config, recipe = self.model.config.encoder, self.recipe
        return explain_choice(
            -(-recipe.train.batch // recipe.train.accumulate),
            config.heads,
            recipe.data.max_length,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            dtype=dtype,
            device=next(self.model.parameters()).device,
            dropout=config.attention_dropout,
            grad=True,
            mechanism=config.mechanism,
            backend=config.backend,
            **mechanism_options(config),
        )

    def flops_a_step(self) -> float:
        """Model FLOPs of one update of examples of mean length, heads left out."""
        rows = self.batches().examples.lengths  # type: ignore[attr-defined]
        flops = model_flops(self.model.config.encoder, tokens=round(float(rows.mean())), predicted=0)
        return self.recipe.train.batch * flops.step


def load_config(folder: Path) -> TextConfig:
    """The shape that :meth:`Adapted.save_model` stored; CheckpointError where it is missing or damaged."""
    path = folder / _CONFIG
    try:
        return text_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None
