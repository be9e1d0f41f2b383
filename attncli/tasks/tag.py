"""Tagging: a label for each word, and entities where the tags spell some."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.tagged import (
    TaggedSets,
    TagLabels,
    WordSet,
    evaluation_batches,
    prepare_tagged,
    read_words,
    restore,
    training_batches,
    untagged,
)
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.layers.crf import CRF
from attncli.metrics.schemes import spans
from attncli.metrics.tagging import score
from attncli.models.text import TokenModel
from attncli.recipe.finetune import TagRecipe
from attncli.tasks.encoders import Adapted, begin
from attncli.tasks.label_losses import disagreement, doubled
from attncli.tasks.labelled import LabelTask
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard

_INPUTS = ("tokens", "words", "segments", "keep")
_WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


class TagTask(Adapted, LabelTask):
    """An encoder that tags words; with a conditional random field where the recipe wants one."""

    name = "tag"
    unit = "sentences"
    model: TokenModel

    def __init__(
        self,
        recipe: TagRecipe,
        tokenizer: EncoderTokenizer,
        labels: TagLabels,
        sets: TaggedSets | None,
        model: TokenModel,
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.tokenizer, self.labels, self.sets, self.model = (
            recipe,
            tokenizer,
            labels,
            sets,
            model,
        )
        chosen = recipe.train.goal
        best = "accuracy" if labels.scheme == "none" else "f1"
        self.goal = Goal(best if chosen == "auto" else chosen, higher=chosen != "loss")
        self.measured: WordSet | None = None
        self.decoder = model.crf or CRF(len(labels.names)).requires_grad_(False)
        """Without learnt scores of neighbouring tags, the scheme's rules alone."""
        if labels.scheme != "none":
            start, end, step = (torch.from_numpy(matrix) for matrix in labels.allowed())
            self.decoder.constrain(step, start, end)

    @classmethod
    def build(cls, recipe: TagRecipe, run: Path | None = None) -> TagTask:
        """The task of ``recipe``: data read, the base's weights or fresh ones.

        With ``run``, the tokeniser, the labels and the shape of the model stored there.
        """
        start = begin(recipe, run)
        with Watch() as watch:
            labels = None if run is None else TagLabels.load(run)
            sets = prepare_tagged(recipe.data, start.tokenizer or recipe.tokenizer, watch, labels)
        model = start.model(recipe, "token", len(sets.labels.names), sets.tokenizer)
        return cls(recipe, sets.tokenizer, sets.labels, sets, model)

    @classmethod
    def opened(cls, recipe: TagRecipe, run: Path) -> TagTask:
        """The task of a finished run, to be applied: without its data."""
        start, labels = begin(recipe, run), TagLabels.load(run)
        model = start.stored(recipe.model)
        return cls(recipe, start.tokenizer, labels, None, model)

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.labels.save(run)
        self.tokenizer.save(run)
        self.save_model(run)

    def to(self, device: torch.device) -> None:
        """Move the model, and the rules of its tags."""
        super().to(device)
        self.decoder.to(device)

    # Training

    @property
    def head_rate(self) -> float:
        """A random field's scores start at nothing, and have far to go while the encoder is only adapted."""
        return 10.0 if self.model.crf is not None and not self.fresh else 1.0

    def batches(self) -> EpochBatches:
        """The training stream: windows of sentences."""
        settings = self.recipe.train
        return training_batches(
            self.sets.train,
            self.tokenizer,
            self.labels,
            batch=settings.batch,
            seed=settings.seed,
            max_length=self.recipe.data.max_length,
        )

    def evaluation_batches(self, examples: WordSet) -> EvaluationBatches:
        """The longest windows first."""
        return evaluation_batches(
            examples,
            self.tokenizer,
            self.labels,
            batch=self.recipe.evaluate.batch,
            max_length=self.recipe.data.max_length,
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        """Words, or sentences under a conditional random field."""
        scored = _scored(batch)
        name, count = ("sentences", scored.any(1)) if self.model.crf is not None else ("words", scored)
        counts = {name: float(count.sum())}
        return counts | ({"agreement": float(scored.sum())} if self.recipe.train.r_drop else {})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed negative log-likelihood of words, or of whole tag sequences; with R-Drop, of two passes."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        weight = self.recipe.train.r_drop
        name = "words" if self.model.crf is None else "sentences"
        if not weight:
            return {name: self._loss(self.model(**inputs), batch)}
        first, second = self.model(**doubled(inputs)).chunk(2)
        scored = _scored(batch)
        apart = disagreement(first[scored], second[scored], "single")
        both = (self._loss(first, batch) + self._loss(second, batch)) / 2
        return {name: both, "agreement": weight * apart}

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        logits = logits.float()
        if self.model.crf is None:
            labels = batch["labels"].masked_fill(~batch["words_keep"], -100)
            return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        scored = _scored(batch)
        if not torch.equal(scored, batch["words_keep"]):  # the words around a window are only read
            order = scored.to(torch.int8).argsort(1, descending=True, stable=True)  # [B, W]
            logits = logits.gather(1, order.unsqueeze(2).expand_as(logits))
            scored, labels = scored.gather(1, order), batch["labels"].gather(1, order)
        else:
            labels = batch["labels"]
        return -self.model.crf.log_likelihood(logits, labels.clamp(min=0), scored).sum()

    def size(self, batch: Batch) -> int:
        """Windows: a sentence each, but for the longest."""
        return len(batch["index"])

    # Evaluation

    def predict(self, batch: Batch) -> list[list[int]]:
        """A label for each scored word of each window: the likeliest together that the scheme allows."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        best, _ = self.decoder.decode(self.model(**inputs), batch["words_keep"])
        return [row[keep].tolist() for row, keep in zip(best, batch["words_keep"], strict=True)]

    def tag(self, examples: WordSet, shard: Shard | None = None, what: str | None = None) -> list[list[str]]:
        """Tags of each sentence, in the scheme of the data."""
        found: list[tuple[int, list[int]]] = []
        for batch, rows in self.predictions(examples, shard, what):
            found += list(zip(batch["index"].tolist(), rows, strict=True))
        if shard is not None:
            found = shard.gather(found)
        windows = self.evaluation_batches(examples).examples
        return restore(examples, windows, dict(found), self.labels)

    def apply(self, sentences: list[list[str]]) -> list[list[str]]:
        """Tags of sentences of words, in the scheme of the data."""
        return self.tag(untagged(sentences, self.labels))

    def words(self, text: str) -> list[str]:
        """A text as words: runs of letters and digits, and single other marks."""
        return _WORDS.findall(text)

    def entities(self, words: list[str], tags: list[str]) -> list[dict[str, Any]]:
        """What the tags spell: type, words and places."""
        return [
            {"type": kind, "text": " ".join(words[first : end + 1]), "first": first, "last": end}
            for kind, first, end in spans(tags, self.labels.scheme)
        ]

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Loss a word, and metrics of entities and words, of the validation part."""
        examples = self.measured or self.sets.validation
        device = next(self.model.parameters()).device
        total = count = 0.0
        batches = self.evaluation_batches(examples)
        for number in shard.mine(range(len(batches))):
            batch = {name: value.to(device) for name, value in batches[number].items()}
            inputs = {name: batch[name] for name in _INPUTS if name in batch}
            total += float(self._loss(self.model(**inputs), batch))
            count += float(_scored(batch).sum())
        summed = shard.sum({"loss": total, "words": count})
        predicted = self.tag(examples, shard)
        return {
            "loss": summed["loss"] / max(summed["words"], 1.0),
            **score(predicted, examples.tags, self.labels.scheme),
        }

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets; what was predicted goes into the run folder, in CoNLL's columns."""
        if self.measured is not None:
            return {}
        found: dict[str, float] = {}
        for examples in self.sets.tests or [self.sets.validation]:
            predicted = self.tag(examples, what=f"tagging {examples.name}")
            _write_columns(run / "predictions" / f"{examples.name}.conll", examples, predicted)
            if self.sets.tests:
                scores = score(predicted, examples.tags, self.labels.scheme)
                found |= {f"{examples.name}.{name}": value for name, value in scores.items()}
        return found

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on a test set of the run's data, or on other data, from now on."""
        self.measured = read_words(self.recipe.data, self.labels, split or source, part=split is not None)

    # What is said about it

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention and its backend."""
        return [f"data: {self.sets.describe()}", *self.about(dtype)]

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        sets = self.sets
        told = {"training sentences": len(sets.train), "validation sentences": len(sets.validation)}
        told |= {f"{test.name} sentences": len(test) for test in sets.tests}
        return told | {
            "tags": ", ".join(self.labels.names),
            "attention backend": ": ".join(self.backend(dtype)),
        }

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        words = next((words for words in self.sets.validation.sentences if words), ["A", "text"])
        text = shlex.quote(" ".join(words[:12]))
        return [f"attn classify {run} {text}", f"attn inspect {run} {text}", f"attn evaluate {run}"]


def _scored(batch: Batch) -> Tensor:
    """[B, W] bool: words whose label counts in this window."""
    return batch["words_keep"] & (batch["labels"] != -100)


def _write_columns(path: Path, examples: WordSet, predicted: list[list[str]]) -> None:
    """Word, gold tag and predicted tag in columns, as conlleval reads them."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for words, gold, found in zip(examples.sentences, examples.tags, predicted, strict=True):
            rows = zip(words, gold, found, strict=True)
            file.write("".join(f"{word}\t{one}\t{other}\n" for word, one, other in rows) + "\n")
