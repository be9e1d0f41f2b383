"""What attention mechanisms learn in equal time at equal size: probe tasks, and masked words of a text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.bench.probes import PROBES, Probe
from attncli.data.corpus import Corpus, prepare
from attncli.data.language import training_batches, validation_batches
from attncli.models.build import build_model
from attncli.models.families import resolve
from attncli.recipe.bench import BenchQualityRecipe

MASKED = "masked"
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """A mechanism on a probe."""

    mechanism: str
    probe: str
    metric: str
    """accuracy (higher is better) or loss (nats a masked token; lower is better)."""
    value: float
    chance: float
    ceiling: float | None
    steps: int
    seconds: float
    tokens_per_second: float
    parameters: int


class ProbeTask:
    """A probe's training stream and its fixed examples for the measurement."""

    metric = "accuracy"

    def __init__(self, recipe: BenchQualityRecipe, probe: Probe) -> None:
        self.probe, self.vocabulary, self.pad_id = probe, probe.vocabulary, 0
        self.chance, self.ceiling = probe.chance, probe.ceiling
        self.batch, self.seed, self.examples = recipe.train.batch, recipe.train.seed, recipe.evaluate.examples

    def batches(self) -> Iterator[Batch]:
        """Without end, the same for every mechanism."""
        rng = np.random.default_rng([self.seed, 1])
        while True:
            yield self._batch(self.batch, rng)

    def _batch(self, count: int, rng: np.random.Generator) -> Batch:
        drawn = self.probe.draw(count, rng)
        return {"tokens": drawn.tokens, "keep": drawn.keep, "labels_at": drawn.at, "labels": drawn.labels}

    def measured(self) -> Iterator[Batch]:
        """Examples that the stream does not share."""
        rng = np.random.default_rng([self.seed, 2])
        for _ in range(-(-self.examples // self.batch)):
            yield self._batch(self.batch, rng)


class MaskedTask:
    """Masked words of a text, as in pre-training."""

    metric = "loss"
    ceiling = None

    def __init__(self, recipe: BenchQualityRecipe, corpus: Corpus) -> None:
        self.corpus = corpus
        self.vocabulary, self.pad_id = corpus.tokenizer.vocabulary, corpus.tokenizer.pad_id
        self.chance = corpus.unigram_loss()
        self._shape: dict[str, Any] = {
            "length": recipe.model.length,
            "batch": recipe.train.batch,
            "objective": recipe.train.objective,
            "seed": recipe.train.seed,
        }
        self.most = max(1, recipe.evaluate.examples // recipe.train.batch)

    def batches(self) -> Iterator[Batch]:
        """The training text, epoch after epoch."""
        stream = training_batches(self.corpus.train, self.corpus.tokenizer, **self._shape)
        while True:
            yield stream.next([0], of=1)[0]

    def measured(self) -> Iterator[Batch]:
        """The validation text, with the same masks each time."""
        return iter(
            validation_batches(self.corpus.validation, self.corpus.tokenizer, most=self.most, **self._shape)
        )


Task = ProbeTask | MaskedTask


def tasks(recipe: BenchQualityRecipe, watch: Callable[..., None] | None = None) -> dict[str, Task]:
    """The probes of a recipe by name."""
    found: dict[str, Task] = {}
    for name in dict.fromkeys(recipe.data.probes):
        if name == MASKED:
            found[name] = MaskedTask(
                recipe, prepare(recipe.data, recipe.tokenizer, recipe.train.objective, watch)
            )
        else:
            found[name] = ProbeTask(recipe, PROBES[name](recipe.model.length))
    return found


def measure(
    recipe: BenchQualityRecipe,
    mechanism: str,
    name: str,
    task: Task,
    device: torch.device,
    on_time: Callable[[float], None] | None = None,
) -> Row:
    """Train ``mechanism`` on a task for the recipe's time; ``on_time`` hears the share of it that is over."""
    given = recipe.model.attention
    attention = given.model_copy(update={"mechanism": mechanism, **_without_others(given, mechanism)})
    section = recipe.model.model_copy(update={"attention": attention})
    config = resolve(section, vocabulary=task.vocabulary, pad_id=task.pad_id)
    torch.manual_seed(recipe.train.seed)
    model = build_model(config).to(device)
    steps, tokens, seconds = _train(recipe, model, task, device, on_time)
    return Row(
        mechanism,
        name,
        task.metric,
        _score(model, task, device),
        task.chance,
        task.ceiling,
        steps,
        seconds,
        tokens / seconds,
        sum(p.numel() for p in model.parameters()),
    )


def _without_others(attention: Any, mechanism: str) -> dict[str, None]:
    """Options that the mechanism does not take, emptied."""
    from attncli.attention.table import options_of

    return {name: None for name in attention.options() if name not in options_of(mechanism)}


def _train(
    recipe: BenchQualityRecipe,
    model: nn.Module,
    task: Task,
    device: torch.device,
    on_time: Callable[[float], None] | None,
) -> tuple[int, int, float]:
    """Steps, tokens and seconds of training; the rate warms up and falls with the time that is over."""
    settings = recipe.train
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    model.train()
    stream = task.batches()
    spent, steps, tokens = 0.0, 0, 0
    while spent < settings.seconds:
        batch = {key: value.to(device) for key, value in next(stream).items()}  # not on the mechanism's time
        began = time.perf_counter()
        share = spent / settings.seconds
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, share / 0.05 + 0.01, (1 - share) / 0.95 + 0.01)
        loss = F.cross_entropy(_logits(model, batch), batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if steps:  # the first step measures backends and warms up
            spent += time.perf_counter() - began
        steps += 1
        tokens += batch["tokens"].numel()
        if on_time:
            on_time(min(1.0, spent / settings.seconds))
    return steps, tokens, spent


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    inputs = {
        name: batch[name]
        for name in ("tokens", "segments", "keep", "documents", "positions")
        if name in batch
    }
    return model(**inputs, labels_at=batch["labels_at"]).logits


@torch.no_grad()
def _score(model: nn.Module, task: Task, device: torch.device) -> float:
    model.eval()
    total, count = 0.0, 0
    for drawn in task.measured():
        batch = {key: value.to(device) for key, value in drawn.items()}
        logits, labels = _logits(model, batch), batch["labels"]
        if task.metric == "accuracy":
            total += float((logits.argmax(-1) == labels).sum())
        else:
            total += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
        count += len(labels)
    return total / count
