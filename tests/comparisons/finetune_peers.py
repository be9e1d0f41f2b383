"""Fine-tuning beside transformers: the same batches and settings, speed in turns, results in the end.

    python tests/comparisons/finetune_peers.py MODEL DATA [--task classify|ner|qa] [--full] [KEY=VALUE...]

transformers gets fused AdamW, its fastest attention and the faster precision. Its batches are ours, of like
length; with ``--order random`` those of its own examples: any examples together, padded to the longest of
them. Both train in this process, in turns, so that a noisy machine is noisy for both.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
import transformers

from attncli.commands.trained import task_class
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.loading import load_recipe
from attncli.training.device import choose_arithmetic
from attncli.training.optimizers import Optimizers, clip_gradients
from attncli.training.rows import make_sparse
from attncli.training.schedules import rate_share

_CLASSES = {
    "classify": transformers.AutoModelForSequenceClassification,
    "ner": transformers.AutoModelForTokenClassification,
    "qa": transformers.AutoModelForQuestionAnswering,
}


class Ours:
    """The task as the loop trains it."""

    def __init__(self, task, settings, arithmetic):
        self.task, self.settings, self.arithmetic = task, settings, arithmetic
        make_sparse(task.model)
        self.optimizers = Optimizers(task.model.train(), task.parameter_groups(), settings, False)
        self.step_number = 0

    def step(self, batch):
        self.optimizers.set_share(
            rate_share(self.settings.schedule, self.step_number + 1, self.settings.steps)
        )
        self.optimizers.clear()
        counts = self.task.counts(batch)
        with self.arithmetic.autocast(torch.device("cpu")):
            losses = self.task.losses(batch)
            loss = sum(losses[name] / max(count, 1) for name, count in counts.items())
        loss.backward()
        clip_gradients(self.optimizers.parameters, self.settings.clip)
        self.optimizers.step()
        self.step_number += 1


class Theirs:
    """transformers' model with the same optimiser and schedule, in the precision that is fastest here."""

    def __init__(self, task, kind, path, settings, arithmetic, attention):
        options = {} if kind == "qa" else {"num_labels": len(task.labels.names)}
        self.model = _CLASSES[kind].from_pretrained(path, attn_implementation=attention, **options).train()
        self.kind, self.settings, self.arithmetic = kind, settings, arithmetic
        decay = [p for p in self.model.parameters() if p.ndim >= 2]
        rest = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [
            {"params": decay, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.step_number = 0

    def inputs(self, batch):
        inputs = {"input_ids": batch["tokens"], "attention_mask": batch["keep"].long()}
        if "segments" in batch:
            inputs["token_type_ids"] = batch["segments"]
        return inputs

    def step(self, batch):
        for group in self.optimizer.param_groups:
            share = rate_share(self.settings.schedule, self.step_number + 1, self.settings.steps)
            group["lr"] = self.settings.learning_rate * share
        self.optimizer.zero_grad(set_to_none=True)
        with self.arithmetic.autocast(torch.device("cpu")):
            if self.kind == "qa":
                labels = {"start_positions": batch["start"], "end_positions": batch["end"]}
            elif self.kind == "ner":
                labels = {"labels": piece_labels(batch)}
            else:
                labels = {"labels": batch["labels"]}
            loss = self.model(**self.inputs(batch), **labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step_number += 1


def piece_labels(batch):
    """A label on the first piece of each word, -100 elsewhere, [B, T]."""
    labels = torch.full_like(batch["tokens"], -100)
    rows, places = torch.nonzero(batch["words_keep"], as_tuple=True)
    labels[rows, batch["words"][rows, places]] = batch["labels"][rows, places]
    return labels


class Borrowed(torch.nn.Module):
    """transformers' model behind our task's call, so that both are measured by the same code."""

    def __init__(self, theirs):
        super().__init__()
        self.theirs, self.crf = theirs, None
        self.model = theirs.model

    def forward(self, tokens, keep, segments=None, words=None):
        batch = {"tokens": tokens, "keep": keep} | ({} if segments is None else {"segments": segments})
        output = self.model(**self.theirs.inputs(batch))
        if self.theirs.kind == "qa":
            return output.start_logits, output.end_logits
        if words is not None:
            return output.logits.gather(1, words.unsqueeze(2).expand(-1, -1, output.logits.shape[2]))
        return output.logits


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--task", default="classify", choices=_CLASSES)
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each, in rounds of five")
    parser.add_argument("--full", action="store_true", help="train both to the end and measure the test set")
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "eager"))
    parser.add_argument("--order", default="like", choices=("like", "random"), help="transformers' batches")
    options = parser.parse_intermixed_args()
    keep_freed_memory()
    settings = [f"model.base={options.model}", *options.settings]
    loaded = load_recipe("finetune", f"finetune/{options.task}", settings, options.data)
    task = task_class("finetune", loaded.recipe).build(loaded.recipe)
    train = task.settle(loaded.recipe.train)
    arithmetic = choose_arithmetic(train.precision, torch.device("cpu"))
    arithmetic.apply()
    ours = Ours(task, train, arithmetic)
    theirs = Theirs(task, options.task, options.model, train, arithmetic, options.attention)
    print(f"{arithmetic.precision}; {torch.get_num_threads()} threads; {train.steps} steps", flush=True)
    seconds = {"ours": [], "theirs": []}
    stream, other = task.batches(), task.batches()
    if options.order == "random":
        other.examples.lengths = np.zeros_like(other.examples.lengths)
    count = train.steps if options.full else options.steps
    for at in range(0, count, 5):
        for name, trainer, source in (("ours", ours, stream), ("theirs", theirs, other)):
            batches = [source.next([0], 1)[0] for _ in range(min(5, count - at))]
            rows = sum(len(batch["index"]) for batch in batches)
            began = time.perf_counter()
            for batch in batches:
                trainer.step(batch)
            seconds[name].append((time.perf_counter() - began) / rows)
        if at % 100 == 0:
            print(
                f"step {at}", {n: round(1 / statistics.median(s), 1) for n, s in seconds.items()}, flush=True
            )
    rates = {name: 1 / statistics.median(found[1:] or found) for name, found in seconds.items()}
    print({name: f"{rate:.1f} {task.unit}/s" for name, rate in rates.items()}, flush=True)
    print(f"ratio {rates['ours'] / rates['theirs']:.2f}", flush=True)
    if options.full:
        for name in ("ours", "theirs"):
            if name == "theirs":
                task.model = Borrowed(theirs)
            task.model.eval()
            from attncli.training.distributed import World

            for examples in task.sets.tests:
                task.measured = examples
                with torch.no_grad(), arithmetic.autocast(torch.device("cpu")):
                    print(name, examples.name, task.evaluate(World()), flush=True)


if __name__ == "__main__":
    main()
