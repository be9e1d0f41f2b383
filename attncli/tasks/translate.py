"""Translation: parallel text to a model, measured by what it writes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli import console
from attncli.attention import choices, restore_choices
from attncli.data.measured_pairs import measured_pairs
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.data.parallel import Pairs, TestSet, prepare_pairs
from attncli.data.translation import training_batches, validation_batches
from attncli.decoding import Shortlist
from attncli.metrics import translation as metrics
from attncli.metrics.language import Totals, means, perplexity
from attncli.models.flops import translation_flops
from attncli.models.parts import acting
from attncli.models.translation import Seq2SeqConfig, build_translation, resolve_translation
from attncli.models.translation_config import TranslationConfig
from attncli.ops.cross_entropy import CrossEntropy, linear_cross_entropy
from attncli.recipe.translate import TranslateRecipe
from attncli.tasks.translation_metrics import VALIDATION_METRICS
from attncli.tasks.translator import Translator
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard, Task
from attncli.training.translations import write_translations

_SHORTLIST = "shortlist.safetensors"


class TranslateTask(Task):
    """An encoder and decoder on sentence pairs (Transformer, recurrent)."""

    name = "translate"
    unit = "tokens"
    """Target tokens, the end of a sentence counted."""

    def __init__(self, recipe: TranslateRecipe, tokenizer: PairTokenizer, pairs: Pairs | None) -> None:
        """``pairs`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.tokenizer, self.pairs = recipe, tokenizer, pairs
        self.goal = Goal("bleu", higher=True) if recipe.train.goal == "bleu" else Goal("loss")
        self.config = resolve_translation(
            recipe.model,
            source_vocabulary=tokenizer.vocabulary_source,
            target_vocabulary=tokenizer.vocabulary_target,
            pad_id=tokenizer.pad_id,
        )
        torch.manual_seed(recipe.train.seed)
        self.model = build_translation(self.config)
        self.shortlist: Shortlist | None = None
        self.measured: TestSet | None = None
        self.signatures: dict[str, str] = {}

    @classmethod
    def build(cls, recipe: TranslateRecipe, run: Path | None = None) -> TranslateTask:
        """The task of ``recipe``: data read and tokenised (from the cache where it can be), fresh weights.

        With ``run``, the tokeniser stored there instead of a new one.
        """
        metrics.check_language(recipe.data.target)
        tokenizer = recipe.tokenizer if run is None else PairTokenizer.load(run)
        with Watch() as watch:
            pairs = prepare_pairs(recipe.data, tokenizer, watch)
        task = cls(recipe, pairs.tokenizer, pairs)
        task._load_shortlist(run)
        return task

    @classmethod
    def opened(cls, recipe: TranslateRecipe, run: Path) -> TranslateTask:
        """The task of a finished run, to be applied: without its data."""
        task = cls(recipe, PairTokenizer.load(run), None)
        task._load_shortlist(run)
        return task

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.tokenizer.save(run)
        count = self.recipe.evaluate.search.shortlist
        if count:
            store, tokenizer = self.pairs.train, self.tokenizer
            self.shortlist = Shortlist.build(
                store.sentences(),
                source_vocabulary=tokenizer.vocabulary_source,
                target_vocabulary=tokenizer.vocabulary_target,
                eos_id=tokenizer.eos_id,
                count=count,
            )
            self.shortlist.save(run / _SHORTLIST)

    def _load_shortlist(self, run: Path | None) -> None:
        if run is not None and self.recipe.evaluate.search.shortlist:
            self.shortlist = Shortlist.load(run / _SHORTLIST)

    # Training

    def batches(self) -> EpochBatches:
        """The training stream."""
        recipe = self.recipe
        return training_batches(
            self.pairs.train,
            self.tokenizer,
            batch=recipe.train.batch,
            seed=recipe.train.seed,
            dropout=recipe.tokenizer.dropout,
        )

    def validation_batches(self) -> EvaluationBatches:
        """The validation pairs, the same batches each time."""
        return validation_batches(self.pairs.validation, self.tokenizer, batch=self.recipe.train.batch)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Predicted tokens."""
        return {"words": float(len(batch["labels"]))}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed cross-entropy against smoothed labels, nats."""
        return {"words": self._score(batch, self.recipe.train.label_smoothing).loss}

    def _score(self, batch: Batch, smoothing: float = 0.0) -> CrossEntropy:
        states = self.model.states(
            batch["source"], batch["tokens"], source_keep=batch["source_keep"], labels_at=batch["labels_at"]
        )  # [N, C]
        return linear_cross_entropy(states, self.model.output_weight, batch["labels"], smoothing)

    def size(self, batch: Batch) -> int:
        """Target tokens."""
        return len(batch["labels"])

    # Evaluation

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Loss of the reference translations (nats a token, no smoothing), and metrics of our own.

        Of other data than the run's validation part the loss only: :meth:`finals` translates it.
        """
        device = next(self.model.parameters()).device
        totals = Totals()
        batches = self.validation_batches()
        for index in shard.mine(range(len(batches))):
            batch = {name: value.to(device) for name, value in batches[index].items()}
            totals.add("words", self._score(batch).nll, len(batch["labels"]))
        if self.measured is not None:
            mean = means(shard.sum(totals.values))
            return {"loss": mean["words"], "perplexity": perplexity(mean["words"])}
        sources, references = self.pairs.validation_text
        limit = self.recipe.evaluate.limit or len(sources)
        mine = list(shard.mine(range(min(limit, len(sources)))))
        written = self.translator().translate([sources[i] for i in mine])
        statistics = metrics.statistics(
            [best.text for best, *_ in written],
            [references[i] for i in mine],
            language=self.recipe.data.target,
            metrics=VALIDATION_METRICS,
        )
        summed = shard.sum(totals.values | statistics)
        mean = means({name: summed[name] for name in totals.values})
        return {
            "loss": mean["words"],
            "perplexity": perplexity(mean["words"]),
            **metrics.from_statistics(summed, language=self.recipe.data.target, metrics=VALIDATION_METRICS),
        }

    def finals(self, run: Path) -> dict[str, float]:
        """Translate the test sets with the recipe's search; the texts are stored in the run folder."""
        if self.measured is not None:
            return self._measure(self.measured, run)
        found = {test.name: self._measure(test, run) for test in self.pairs.tests}
        return {f"{name}.{metric}": value for name, each in found.items() for metric, value in each.items()}

    def _measure(self, test: TestSet, run: Path) -> dict[str, float]:
        """Metrics of one test set; ``bleu_interval`` is half of BLEU's 95 % interval."""
        language, samples = self.recipe.data.target, self.recipe.evaluate.bootstrap
        done = 0

        def progress(number: int) -> None:
            nonlocal done
            bar.advance(number - done, units=number - done)
            done = number

        with console.Progress(f"translating {test.name}", total=len(test), unit="sentences") as bar:
            written = self.translator(final=True).translate(test.sources, progress=progress)
        texts = [best.text for best, *_ in written]
        write_translations(run, test.name, test.sources, test.references, texts)
        scores = metrics.score(texts, test.references, language=language)
        found = {name: scores[name] for name in metrics.METRICS}
        self.signatures = {name: scores[f"signature_{name}"] for name in metrics.METRICS}
        if samples:
            interval = metrics.bootstrap_interval(texts, test.references, language=language, samples=samples)
            found["bleu_interval"] = interval.half
        return found

    def notes(self) -> dict[str, Any]:
        """How the metrics were computed, as sacreBLEU signs it."""
        return {"signatures": self.signatures} if self.signatures else {}

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on one test set of the run's data, or on other parallel text, from now on."""
        with Watch() as watch:
            test, store = measured_pairs(
                self.recipe.data, self.tokenizer, split=split, source=source, progress=watch
            )
        self.pairs = replace(self.pairs, validation=store, validation_set=test)
        self.measured = test

    def translator(self, final: bool = False, **sampling: Any) -> Translator:
        """The model with the search of the evaluations, or with the recipe's own where ``final``.

        ``sampling``: those arguments of :class:`Translator`.
        """
        search = self.recipe.evaluate.search
        if not final:
            search = search.model_copy(update={"beam": self.recipe.evaluate.validation_beam})
        return Translator(self.model, self.tokenizer, search, self.shortlist if final else None, **sampling)

    # What the machine decided

    def choices(self) -> dict[str, Any]:
        """Attention backends measured on this machine."""
        return choices()

    def restore_choices(self, choices: dict[str, Any]) -> None:
        """Compute with the backends that the run was begun with."""
        restore_choices(choices)

    # What is said about it

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention."""
        recipe, tokenizer = self.recipe, self.tokenizer
        words = f"{tokenizer.vocabulary_target:,} tokens of joint BPE"
        if not tokenizer.joint:
            words = f"{tokenizer.vocabulary_source:,} and {tokenizer.vocabulary_target:,} tokens of BPE"
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            f"data: {self.pairs.describe()}; {words}",
            f"model: {_shape(self.config)}, {parameters:,} parameters",
            f"attention: {_attention(self.config)}",
            f"search: beam {recipe.evaluate.validation_beam} while training, "
            f"{recipe.evaluate.search.beam} in the end",
        ]

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        tokenizer, pairs = self.tokenizer, self.pairs
        return {
            "vocabulary": tokenizer.vocabulary_target,
            "training pairs": len(pairs.train),
            "validation pairs": len(pairs.validation_set),
            "attention": _attention(self.config),
        }

    def flops_a_step(self) -> float:
        """Model FLOPs of one update, of sentences of mean length."""
        store = self.pairs.train
        source, target = (len(side) / len(store) + 1 for side in (store.source, store.target))
        pairs = self.recipe.train.batch / max(source, target)
        return pairs * translation_flops(self.config, source=source, target=target).step

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        example = next((text for text in self.pairs.validation_text[0] if text), "text")
        return [
            f"attn translate {run} {shlex.quote(example)}",
            f"attn inspect {run} {shlex.quote(example)}",
            f"attn evaluate {run}",
        ]


def _shape(config: TranslationConfig) -> str:
    if isinstance(config, Seq2SeqConfig):
        return (
            f"transformer, {config.encoder.layers} + {config.decoder.layers} layers of {config.decoder.width}"
        )
    feeding = " with input feeding" if config.input_feeding else ""
    return (
        f"recurrent ({config.style}{feeding}), {config.encoder_layers} + {config.decoder_layers} layers of "
        f"{config.cell} {config.width}"
    )


def _attention(config: TranslationConfig) -> str:
    if not isinstance(config, Seq2SeqConfig):
        where = f"local, {config.window} tokens on each side" if config.scope == "local" else "global"
        return f"{config.mechanism}, {where}, {config.heads} heads"
    inner = config.decoder
    text = f"{inner.mechanism}, {inner.position} positions, {inner.layout}"
    own, cross = acting(inner, causal=True), acting(inner, cross=True)
    text += "" if own == inner.mechanism else f"; {own} in the decoder"
    return text + ("" if cross == inner.mechanism else f"; {cross} across the two languages")
