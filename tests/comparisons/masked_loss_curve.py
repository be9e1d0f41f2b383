"""Our BERT and transformers' trained on the same batches: the masked loss at equal tokens.

    python tests/comparisons/masked_loss_curve.py --data FOLDER --steps 400 [key=value ...]

Both models have the recipe's dimensions and dropout, AdamW with the recipe's settings and its schedule, and
float32. Every batch, masks included, is drawn once and given to both. Validation is the whole validation text
with fixed masks. Prints a line every so many steps and writes a CSV.
"""

from __future__ import annotations

import argparse
import csv
import time

import torch
from torch.nn import functional as F
from transformers import BertForMaskedLM

from attncli.bench.train import bert_config
from attncli.models.families import resolve
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.loading import load_recipe
from attncli.tasks.pretrain import PretrainTask
from attncli.training.distributed import World
from attncli.training.schedules import rate_share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--csv", default="masked_loss_curve.csv")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    keep_freed_memory()
    overrides = [f"train.steps={args.steps}", "train.objective.sentences=none", *args.overrides]
    recipe = load_recipe("pretrain", "bert", overrides, args.data).recipe
    torch.manual_seed(recipe.train.seed)
    task = PretrainTask.build(recipe)
    size = resolve(recipe.model, vocabulary=task.tokenizer.vocabulary, pad_id=task.tokenizer.pad_id)
    torch.manual_seed(recipe.train.seed)
    theirs = BertForMaskedLM(bert_config(size))
    ours = task.model

    def our_loss(batch) -> torch.Tensor:
        counts = task.counts(batch)["masked"]
        return task.losses(batch)["masked"] / counts

    def their_loss(batch) -> torch.Tensor:
        tokens = batch["tokens"]
        labels = torch.full((tokens.numel(),), -100)
        labels[batch["labels_at"]] = batch["labels"]
        keep = batch.get("keep")
        out = theirs(
            input_ids=tokens,
            token_type_ids=batch.get("segments"),
            attention_mask=None if keep is None else keep.long(),
        )
        return F.cross_entropy(out.logits.flatten(0, 1), labels)

    sides = {"attn": (ours, our_loss), "transformers": (theirs, their_loss)}
    train, optimizers = recipe.train, {}
    for name, (model, _) in sides.items():
        decay = [p for p in model.parameters() if p.ndim >= 2]
        plain = [p for p in model.parameters() if p.ndim < 2]
        optimizers[name] = torch.optim.AdamW(
            [{"params": decay, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=train.learning_rate,
            betas=(train.beta1, train.beta2),
            eps=train.epsilon,
        )

    def validate() -> dict[str, float]:
        found = {}
        for name, (model, loss) in sides.items():
            model.eval()
            total = count = 0.0
            with torch.no_grad():
                for batch in task.validation_batches():
                    n = task.counts(batch)["masked"]
                    total, count = total + float(loss(batch)) * n, count + n
            model.train()
            found[name] = total / count
        return found

    batches, world = task.batches(), World.join()
    seconds = dict.fromkeys(sides, 0.0)
    tokens = 0
    with open(args.csv, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "tokens", "attn", "transformers", "attn_seconds", "transformers_seconds"])
        for step in range(1, args.steps + 1):
            (batch,) = batches.next(world.parts(1), 1)
            tokens += task.size(batch)
            for name, (model, loss) in sides.items():
                began = time.perf_counter()
                for group in optimizers[name].param_groups:
                    group["lr"] = train.learning_rate * rate_share(train.schedule, step, args.steps)
                loss(batch).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
                optimizers[name].step()
                optimizers[name].zero_grad()
                seconds[name] += time.perf_counter() - began
            if step % args.every == 0 or step == args.steps:
                found = validate()
                writer.writerow([step, tokens, *found.values(), *seconds.values()])
                file.flush()
                shown = "  ".join(f"{k} {v:.4f} ({seconds[k]:.0f} s)" for k, v in found.items())
                print(f"step {step:5}  tokens {tokens:9,}  {shown}", flush=True)


if __name__ == "__main__":
    main()
