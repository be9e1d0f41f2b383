"""One training step of a masked language model, ours and its peers', on the same batch in one run."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.bench.remote import Remote
from attncli.models.build import language_model
from attncli.models.config import EncoderConfig
from attncli.models.families import resolve
from attncli.models.flops import model_flops
from attncli.recipe.bench import BenchTrainRecipe


@dataclass(frozen=True)
class StepBatch:
    """A batch of random tokens with the recipe's share of them masked."""

    tokens: Tensor  # [B, T]
    labels_at: Tensor  # [N] flat indices into B*T
    labels: Tensor  # [N]
    dense_labels: Tensor  # [B, T], -100 where nothing is predicted

    @classmethod
    def random(cls, recipe: BenchTrainRecipe, device: torch.device) -> StepBatch:
        """The batch of ``recipe``, from its seed; every token real, none padding."""
        generator = torch.Generator().manual_seed(recipe.train.seed)
        shape = recipe.train.batch, recipe.model.length
        tokens = torch.randint(5, recipe.tokenizer.vocabulary, shape, generator=generator)
        chosen = max(1, round(recipe.train.objective.mask * tokens.numel()))
        at = torch.randperm(tokens.numel(), generator=generator)[:chosen].sort().values
        labels = tokens.flatten()[at]
        dense = torch.full((tokens.numel(),), -100)
        dense[at] = labels
        return cls(*(t.to(device) for t in (tokens, at, labels, dense.view(shape))))


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    on = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16) if on else contextlib.nullcontext()


def _stepper(
    model: nn.Module,
    loss: Callable[[], Tensor],
    recipe: BenchTrainRecipe,
    device: torch.device,
    precision: str,
    fused: bool,
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.train.learning_rate, weight_decay=recipe.train.weight_decay, fused=fused
    )

    def step() -> None:
        with _autocast(device, precision):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ours(
    recipe: BenchTrainRecipe, batch: StepBatch, device: torch.device, precision: str
) -> Callable[[], None]:
    """A step of the model that the recipe describes, as ``attn pretrain`` trains it."""
    torch.manual_seed(recipe.train.seed)
    model = language_model(recipe.model, vocabulary=recipe.tokenizer.vocabulary, pad_id=0, pair=False)
    model = model.to(device).train()
    if recipe.train.compile:
        model = torch.compile(model)

    def loss() -> Tensor:
        logits = model(batch.tokens, labels_at=batch.labels_at).logits  # [N, V]
        return F.cross_entropy(logits.float(), batch.labels)

    return _stepper(model, loss, recipe, device, precision, fused=True)


def bert_config(size: EncoderConfig) -> Any:
    """``transformers``' BertConfig of our dimensions and dropout."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.length,
        hidden_dropout_prob=size.dropout,
        attention_probs_dropout_prob=size.attention_dropout,
        pad_token_id=size.pad_id,
    )


def transformers_step(
    recipe: BenchTrainRecipe, device: str, precision: str, attention: str
) -> Callable[[], None]:
    """A step of ``transformers``' BertForMaskedLM of the same size, with ``attention`` eager or sdpa."""
    from transformers import BertForMaskedLM

    where = torch.device(device)
    batch = StepBatch.random(recipe, where)
    size = resolve(recipe.model, vocabulary=recipe.tokenizer.vocabulary, pad_id=0)
    torch.manual_seed(recipe.train.seed)
    config = bert_config(size)
    config._attn_implementation = attention
    model = BertForMaskedLM(config).to(where).train()
    return _stepper(
        model,
        lambda: model(input_ids=batch.tokens, labels=batch.dense_labels).loss,
        recipe,
        where,
        precision,
        fused=False,
    )


def own_steps(
    recipe: BenchTrainRecipe, device: torch.device, precision: str
) -> dict[tuple[str, str], Callable[[], None]]:
    """Our step in ``precision``, and in float32 where that is another, by (case, precision)."""
    batch = StepBatch.random(recipe, device)
    return {
        ("attn", kind): ours(recipe, batch, device, kind) for kind in dict.fromkeys([precision, "float32"])
    }


def peer_steps(
    recipe: BenchTrainRecipe, device: torch.device, precision: str
) -> dict[tuple[str, str], Remote]:
    """The same step of other libraries, each in a process of its own with that library's defaults.

    Nothing where they are not installed or have no such model.
    """
    if not recipe.evaluate.peers or recipe.model.family != "bert":
        return {}
    if importlib.util.find_spec("transformers") is None:
        return {}
    threads = torch.get_num_threads()
    return {
        (f"transformers {attention}", kind): Remote(
            transformers_step, recipe, str(device), kind, attention, device=str(device), threads=threads
        )
        for attention in ("eager", "sdpa")
        for kind in dict.fromkeys(["float32", precision])
    }


_PARTS = {
    "loss": ("nll_loss", "log_softmax", "cross_entropy"),
    "attention": ("bmm", "scaled_dot_product", "flash", "efficient_attention", "_softmax", "_chunked"),
    "matrix products": ("::mm", "addmm", "linear", "gemm", "matmul"),
    "norms": ("norm",),
    "activations": ("gelu", "relu", "silu", "tanh"),
    "dropout": ("dropout", "addcmul", "bitwise"),
    "optimizer": ("adam", "foreach", "lerp"),
    "embeddings": ("embedding", "index"),
    "copies and casts": ("copy", "clone", "contiguous", "aten::cat"),
}
"""Kinds of operation by parts of their names; the first that fits counts."""


def parts(step: Callable[[], None], device: torch.device, rounds: int = 3) -> dict[str, float]:
    """Share of each kind of operation in a step's time, by the profiler's self times."""
    from torch.profiler import ProfilerActivity, profile

    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if gpu else [])
    step()
    with profile(activities=activities) as recorded:
        for _ in range(rounds):
            step()
    spent: dict[str, float] = {}
    for event in recorded.key_averages():
        time = event.self_device_time_total if gpu else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((k for k, words in _PARTS.items() if any(w in name for w in words)), "other")
        spent[kind] = spent.get(kind, 0.0) + time
    total = sum(spent.values()) or 1.0
    return dict(sorted(((k, v / total) for k, v in spent.items()), key=lambda item: -item[1]))


def flops_a_step(recipe: BenchTrainRecipe) -> float:
    """Model FLOPs of one step: forward and backward, logits where a label is, nothing recomputed."""
    size = resolve(recipe.model, vocabulary=recipe.tokenizer.vocabulary, pad_id=0)
    batch, length = recipe.train.batch, recipe.model.length
    masked = max(1, round(recipe.train.objective.mask * batch * length))
    return batch * model_flops(size, tokens=length, predicted=masked / batch).step


def table(
    recipe: BenchTrainRecipe, timed: dict[tuple[str, str], Any], rates: dict[str, float]
) -> list[dict[str, Any]]:
    """Rows of the report: tokens per second, ratio of ours to each peer, share of the machine's rate."""
    tokens = recipe.train.batch * recipe.model.length
    flops = flops_a_step(recipe)
    first = next(iter(timed.values())).median
    return [
        {
            "case": case,
            "precision": precision,
            "milliseconds": 1e3 * timing.median,
            "spread": timing.spread,
            "tokens_per_second": tokens / timing.median,
            "attn_times_as_fast": timing.median / first,
            "share_of_rate": flops / timing.median / rates[precision],
        }
        for (case, precision), timing in timed.items()
    ]
