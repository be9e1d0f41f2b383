"""Pre-training of language models: masked or next tokens, with or without a sentence objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention import Causal, choices, explain_choice, restore_choices
from attncli.data.corpus import Corpus, measured_store, prepare
from attncli.data.language import training_batches, validation_batches
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.tokenizers import Tokenizer
from attncli.metrics.language import Totals, bits_per_byte, means, perplexity
from attncli.models.build import build_model
from attncli.models.families import resolve
from attncli.models.flops import model_flops
from attncli.models.parts import mechanism_options
from attncli.recipe.pretrain import PretrainRecipe
from attncli.tasks.language_metrics import PAIR_METRIC
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard, Task

_INPUTS = ("tokens", "segments", "keep", "documents", "positions")


class PretrainTask(Task):
    """A language model on raw text (BERT, RoBERTa, ALBERT, GPT and what lies between them)."""

    name = "pretrain"
    goal = Goal("loss")
    unit = "tokens"

    def __init__(self, recipe: PretrainRecipe, tokenizer: Tokenizer, corpus: Corpus | None) -> None:
        """``corpus`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.tokenizer, self.corpus = recipe, tokenizer, corpus
        objective = recipe.train.objective
        self.causal = objective.kind == "clm"
        self.pair = objective.sentences if objective.sentences != "none" else None
        self.config = resolve(
            recipe.model,
            vocabulary=tokenizer.vocabulary,
            pad_id=tokenizer.pad_id,
            pair=self.pair is not None,
        )
        torch.manual_seed(recipe.train.seed)
        self.model = build_model(self.config)

    @classmethod
    def build(cls, recipe: PretrainRecipe, run: Path | None = None) -> PretrainTask:
        """The task of ``recipe``: data read and tokenised (from the cache where it can be), fresh weights.

        With ``run``, the tokeniser stored there instead of a new one.
        """
        tokenizer = recipe.tokenizer if run is None else Tokenizer.load(run)
        with Watch() as watch:
            corpus = prepare(recipe.data, tokenizer, recipe.train.objective, watch)
        return cls(recipe, corpus.tokenizer, corpus)

    @classmethod
    def opened(cls, recipe: PretrainRecipe, run: Path) -> PretrainTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, Tokenizer.load(run), None)

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.tokenizer.save(run)

    # Training

    def _shape(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "length": recipe.model.length,
            "batch": recipe.train.batch,
            "objective": recipe.train.objective,
            "seed": recipe.train.seed,
        }

    def batches(self) -> EpochBatches:
        """The training stream."""
        return training_batches(self.corpus.train, self.tokenizer, **self._shape())

    def validation_batches(self) -> EvaluationBatches:
        """The validation part, with the same masks each time."""
        limits = self.recipe.evaluate
        return validation_batches(
            self.corpus.validation, self.tokenizer, stride=limits.stride, most=limits.batches, **self._shape()
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        """Predicted tokens, and pairs."""
        if self.causal:
            return {"next": float((batch["labels"] != -100).sum())}
        counts = {"masked": float(len(batch["labels"]))}
        return counts | ({"pair": float(len(batch["pair"]))} if self.pair else {})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed cross-entropies, nats."""
        return {name: term for name, (term, _) in self._predict(batch).items()}

    def _predict(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each objective the summed cross-entropy and the number of right answers."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        if self.causal:
            logits = self.model(**inputs).flatten(0, 1)  # [B*T, V]
            return {"next": _score(logits, batch["labels"].flatten())}
        output = self.model(**inputs, labels_at=batch["labels_at"])
        found = {"masked": _score(output.logits, batch["labels"])}
        if self.pair:
            found["pair"] = _score(output.pair, batch["pair"])
        return found

    def size(self, batch: Batch) -> int:
        """Tokens that are not padding."""
        return int(batch["keep"].sum()) if "keep" in batch else batch["tokens"].numel()

    # Evaluation

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Losses (nats a predicted token), accuracies, and perplexity, the exponential of the token loss."""
        device = next(self.model.parameters()).device
        batches = self.validation_batches()
        totals = Totals()
        for index in shard.mine(range(len(batches))):
            batch = {name: value.to(device) for name, value in batches[index].items()}
            counts = self.counts(batch)
            for name, (loss, right) in self._predict(batch).items():
                totals.add(name, loss, counts[name])
                totals.add(f"{name} right", right, counts[name])
        mean = means(shard.sum(totals.values))
        measured, unigram = self.corpus.validation, self.corpus.unigram_loss()
        if self.causal:
            return {
                "loss": mean["next"],
                "perplexity": perplexity(mean["next"]),
                "accuracy": mean["next right"],
                "bits_per_byte": bits_per_byte(mean["next"], len(measured), measured.bytes),
                "unigram_loss": unigram,
            }
        metrics = {
            "loss": sum(mean[name] for name in ("masked", "pair") if name in mean),
            "masked_loss": mean["masked"],
            "masked_accuracy": mean["masked right"],
            "perplexity": perplexity(mean["masked"]),
            "unigram_loss": unigram,
        }
        if self.pair:
            metrics |= {"pair_loss": mean["pair"], PAIR_METRIC[self.pair]: mean["pair right"]}
        return metrics

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on another part of the run's data, or on another source, from now on."""
        recipe = self.recipe
        with Watch() as watch:
            store = measured_store(
                recipe.data,
                self.tokenizer,
                recipe.train.objective,
                split=split,
                source=source,
                progress=watch,
            )
        self.corpus = replace(self.corpus, validation=store)

    # What the machine decided

    def choices(self) -> dict[str, Any]:
        """Attention backends measured on this machine."""
        return choices()

    def restore_choices(self, choices: dict[str, Any]) -> None:
        """Compute with the backends that the run was begun with."""
        restore_choices(choices)

    # What is said about it

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention and its backend."""
        about = self.corpus.train.describe()
        config = self.config
        attention = f"{config.mechanism}, {config.position} positions, {config.layout}"
        name, reason = self.backend(device, dtype)
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            f"data: {self.corpus.source.describe()}: {about['documents']:,} documents, "
            f"{about['tokens']:,} tokens of {self.tokenizer.kind} (vocabulary {self.tokenizer.vocabulary:,})",
            f"model: {self.recipe.model.family}, {config.layers} layers of {config.width}, "
            f"{parameters:,} parameters",
            f"attention: {attention}; {name}: {reason}",
        ]

    def backend(self, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
        """The attention backend of a training step, and why."""
        config, recipe = self.config, self.recipe
        return explain_choice(
            -(-recipe.train.batch // recipe.train.accumulate),
            config.heads,
            recipe.model.length,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            dtype=dtype,
            device=device,
            mask=Causal() if self.causal else None,
            dropout=config.attention_dropout,
            grad=True,
            mechanism=config.mechanism,
            backend=config.backend,
            **mechanism_options(config),
        )

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        name, reason = self.backend(device, dtype)
        return {
            "vocabulary": self.tokenizer.vocabulary,
            "training tokens": len(self.corpus.train),
            "validation tokens": len(self.corpus.validation),
            "attention backend": f"{name}: {reason}",
        }

    def flops_a_step(self) -> int:
        """Model FLOPs of one update: forward and backward, logits where they are computed."""
        recipe = self.recipe
        predicted = None if self.causal else recipe.train.objective.mask * recipe.model.length
        return recipe.train.batch * model_flops(self.config, predicted=predicted).step

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        if self.causal:
            return [f"attn pretrain {run} 'Once upon a time'", f"attn evaluate {run}"]
        mask = self.tokenizer.tokens[self.tokenizer.mask_id]
        return [
            f"attn pretrain {run} 'A {mask} is an object.'",
            f"attn inspect {run} 'A function is an object.'",
        ]


def _score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in float32 and right answers; logits [N, V], labels [N], -100 ignored."""
    loss = F.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=-100)
    if torch.is_grad_enabled():
        return loss, loss.new_zeros(())
    return loss, (logits.argmax(-1) == labels).sum()
