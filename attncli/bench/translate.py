"""Training steps of a translation model, ours and its peers', on the same batches in one run."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.bench.decode import SpecialIds, random_lengths
from attncli.bench.remote import Builds, Remote, start_peers
from attncli.data.order import generator
from attncli.data.pair_store import PairStore
from attncli.data.translation import PairExamples
from attncli.models.marian import marian_config
from attncli.models.translation import Seq2SeqConfig, resolve_translation
from attncli.recipe.bench import BenchTranslateRecipe
from attncli.training.optimizers import Optimizers, clip_gradients
from attncli.training.task import Task

Batches = list[dict[str, Tensor]]

PEERS = ("transformers", "joeynmt")
"""What is timed beside ours, where it is installed."""

IDS = SpecialIds()


@dataclass(frozen=True)
class Vocabulary(SpecialIds):
    """One vocabulary of numbers for both sides: what a task asks a tokenizer for."""

    size: int = 0

    @property
    def vocabulary_source(self) -> int:
        """Entries."""
        return self.size

    vocabulary_target = vocabulary_source


_RATIO = 0.15  # deviation of a target's length from its source's, as a share


class RandomPairs(PairStore):
    """Pairs of random words: sources of the recipe's lengths, targets about as long."""

    def __init__(self, recipe: BenchTranslateRecipe) -> None:
        data, vocabulary = recipe.data, recipe.tokenizer.vocabulary
        rng = np.random.default_rng(recipe.train.seed)
        source = random_lengths(data, data.pairs, rng)
        target = np.rint(source * rng.normal(1.0, _RATIO, data.pairs)).astype(np.int64)
        lengths = [source, target.clip(data.shortest, data.longest)]
        self.source_at, self.target_at = (np.concatenate(([0], np.cumsum(side - 1))) for side in lengths)
        first = IDS.unk_id + 1
        self.source, self.target = (
            rng.integers(first, vocabulary, int(at[-1])) for at in (self.source_at, self.target_at)
        )
        self.longest = int(max(side.max() for side in lengths))
        self.max_length = data.longest


def training_batches(recipe: BenchTranslateRecipe) -> Batches:
    """Batches as training has them: pairs of like length, ``train.batch`` tokens. From short to long."""
    examples = PairExamples(RandomPairs(recipe), IDS, batch=recipe.train.batch)  # type: ignore[arg-type]
    rng = generator(recipe.train.seed)
    made = [examples.make(item, rng) for item in examples.plan(0, 0, rng)]
    made.sort(key=lambda batch: batch["tokens"].shape[1])
    count = min(recipe.data.batches, len(made))
    return [made[(2 * place + 1) * len(made) // (2 * count)] for place in range(count)]


def mixed_batches(recipe: BenchTranslateRecipe) -> Batches:
    """As many batches of pairs in random order, until the longest times their number is ``train.batch``."""
    pairs = RandomPairs(recipe)
    examples = PairExamples(pairs, IDS, batch=recipe.train.batch)  # type: ignore[arg-type]
    rng = generator(recipe.train.seed)
    order = rng.permutation(len(pairs))
    longer = np.maximum(*pairs.lengths(order)) + 1
    batches: Batches = []
    first = 0
    while len(batches) < recipe.data.batches and first < len(order):
        padded = np.maximum.accumulate(longer[first:]) * np.arange(1, len(order) - first + 1)
        end = min(first + int(np.searchsorted(padded, recipe.train.batch)) + 1, len(order))
        batches.append(examples.make((pairs, order[first:end]), rng))
        first = end
    return batches


def target_tokens(batches: Batches) -> int:
    """Tokens predicted in a round, ends counted."""
    return sum(len(batch["labels"]) for batch in batches)


def config_of(recipe: BenchTranslateRecipe) -> Seq2SeqConfig:
    """The dimensions of the recipe's model."""
    words = recipe.tokenizer.vocabulary
    config = resolve_translation(recipe.model, source_vocabulary=words, target_vocabulary=words)
    assert isinstance(config, Seq2SeqConfig)
    return config


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    on = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16) if on else contextlib.nullcontext()


def _moved(batches: Batches, device: torch.device) -> Batches:
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


# Ours


def own_steps(
    recipe: BenchTranslateRecipe,
    build: Callable[[], Task],
    batches: Batches,
    device: torch.device,
    precision: str,
) -> dict[tuple[str, str], Callable[[], None]]:
    """Our steps in ``precision``, and in float32 where that is another, by (case, precision).

    ``build`` gives the task that ``attn translate`` trains; the steps are those of its loop.
    """
    kinds = dict.fromkeys([precision, "float32"])
    return {("attn", kind): _ours(recipe, build(), batches, device, kind) for kind in kinds}


def _ours(
    recipe: BenchTranslateRecipe, task: Task, batches: Batches, device: torch.device, precision: str
) -> Callable[[], None]:
    task.to(device)
    model, settings, batches = task.model.train(), recipe.train, _moved(batches, device)
    if settings.compile:
        model.compile()
    optimizers = Optimizers(model, task.parameter_groups(), settings, device.type == "cuda")

    def step() -> None:
        for batch in batches:
            with _autocast(device, precision):
                loss = task.losses(batch)["words"] / len(batch["labels"])
            loss.backward()
            clip_gradients(optimizers.parameters, settings.clip)
            optimizers.step()
            optimizers.clear()

    return step


# Peers: built in their own processes, each a function of plain values that gives a step, which returns
# the target tokens of a round.


def transformers_steps(recipe: BenchTranslateRecipe, device: str, precision: str) -> Callable[[], int]:
    """``transformers``' MarianMTModel of the same size with its Trainer's smoothing and AdamW."""
    from transformers import MarianConfig, MarianMTModel
    from transformers.trainer_pt_utils import LabelSmoother

    where, settings = torch.device(device), recipe.train
    batches = _moved(training_batches(recipe), where)
    for batch in batches:
        dense = torch.full((batch["tokens"].numel(),), -100, device=where)
        dense[batch["labels_at"]] = batch["labels"]
        batch["dense"] = dense.view(batch["tokens"].shape)
    torch.manual_seed(settings.seed)
    model = MarianMTModel(MarianConfig(**marian_config(config_of(recipe)))).to(where).train()
    smoother = LabelSmoother(settings.label_smoothing)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )

    def step() -> int:
        for batch in batches:
            with _autocast(where, precision):
                output = model(
                    input_ids=batch["source"],
                    attention_mask=batch["source_keep"].long(),
                    decoder_input_ids=batch["tokens"],
                    use_cache=False,
                )
                loss = smoother(output, batch["dense"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return target_tokens(batches)

    return step


def joeynmt_steps(recipe: BenchTranslateRecipe, device: str, mixed: bool) -> Callable[[], int]:
    """JoeyNMT's model, loss, optimiser and batch class.

    It takes pairs in the order of the shuffled data and does not sort them: with ``mixed`` the batches are
    made so, without they are ours.
    """
    import logging

    logging.disable(logging.INFO)
    from joeynmt.batch import Batch
    from joeynmt.builders import build_optimizer
    from joeynmt.model import build_model
    from joeynmt.vocabulary import Vocabulary

    where, settings, config = torch.device(device), recipe.train, config_of(recipe)
    names = ("unk", "pad", "bos", "eos")
    special = {f"{name}_token": f"<{name}>" for name in names} | {f"{n}_id": i for i, n in enumerate(names)}
    words = [f"w{token}" for token in range(len(names), config.target_vocabulary)]
    vocabulary = Vocabulary(words, SimpleNamespace(**special, sep_token=None, sep_id=None, lang_tags=[]))
    torch.manual_seed(settings.seed)
    model = build_model(_joeynmt_config(config), vocabulary, vocabulary).to(where).train()
    model.loss_function = ("crossentropy", settings.label_smoothing)
    options = {
        "optimizer": "adamw",
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "adam_betas": (settings.beta1, settings.beta2),
    }
    optimizer = build_optimizer(options, model.parameters())
    ids = torch.tensor([vocabulary.pad_index, vocabulary.bos_index, vocabulary.eos_index, 0])  # of our ids
    made = [
        Batch(
            src=_renumbered(batch["source"], ids),
            src_length=batch["source_keep"].sum(1),
            src_prompt_mask=None,
            trg=_renumbered(_whole(batch), ids),
            trg_prompt_mask=None,
            indices=torch.arange(len(batch["source"])),
            device=where,
            pad_index=vocabulary.pad_index,
            eos_index=vocabulary.eos_index,
        )
        for batch in (mixed_batches(recipe) if mixed else training_batches(recipe))
    ]

    def step() -> int:
        for batch in made:
            batch.sort_by_src_length()
            loss, *_ = model(return_type="loss", **vars(batch))
            batch.normalize(loss, normalization="tokens").backward()
            optimizer.step()
            optimizer.zero_grad()
        return sum(batch.ntokens for batch in made)

    return step


def _renumbered(ids: Tensor, special: Tensor) -> Tensor:
    return torch.where(ids < len(special), special[ids.clamp(max=len(special) - 1)], ids)


def _whole(batch: dict[str, Tensor]) -> Tensor:
    """Targets with beginning and end, [B, T + 1]."""
    tokens = batch["tokens"]
    after = torch.full((tokens.numel(),), IDS.pad_id)
    after[batch["labels_at"]] = batch["labels"]
    return torch.cat([tokens[:, :1], after.view(tokens.shape)], dim=1)


def _joeynmt_config(config: Seq2SeqConfig) -> dict[str, Any]:
    """The ``model`` section of JoeyNMT's configuration for a model of the same size."""

    def side(layers: int) -> dict[str, Any]:
        inner = config.decoder
        return {
            "type": "transformer",
            "num_layers": layers,
            "num_heads": inner.heads,
            "embeddings": {"embedding_dim": inner.width, "scale": True, "dropout": inner.dropout},
            "hidden_size": inner.width,
            "ff_size": inner.intermediate,
            "dropout": inner.dropout,
            "layer_norm": inner.norm,
            "activation": inner.activation,
        }

    return {
        "tied_embeddings": config.tie_embeddings == "all",
        "tied_softmax": config.tie_embeddings != "none",
        "initializer": "xavier_uniform",
        "encoder": side(config.encoder.layers),
        "decoder": side(config.decoder.layers),
    }


def peer_steps(
    recipe: BenchTranslateRecipe, device: torch.device, precision: str, say: Callable[[str], None]
) -> dict[tuple[str, str], Remote]:
    """The same steps of other libraries, each in a process of its own with that library's defaults.

    ``say`` hears of each that is not there. Raises RecipeError for a model that they do not have.
    """
    if not recipe.evaluate.peers:
        return {}
    marian_config(config_of(recipe))
    builds: Builds = {}
    for name in PEERS:
        if importlib.util.find_spec(name) is None:
            say(f"no {name} beside ours: pip install {name}")
        elif name == "transformers":
            for kind in dict.fromkeys(["float32", precision]):
                builds[name, kind] = transformers_steps, recipe, str(device), kind
        else:
            for case, mixed in ((name, True), (f"{name}, our batches", False)):
                builds[case, "float32"] = joeynmt_steps, recipe, str(device), mixed
    return start_peers(builds, say, device=str(device), threads=torch.get_num_threads())


def table(timed: dict[tuple[str, str], Any], tokens: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Rows of the report: target tokens a second, and how many times those of each case ours are."""
    rates = {key: tokens[key] / timing.median for key, timing in timed.items()}
    first = next(iter(rates.values()))
    return [
        {
            "case": case,
            "precision": precision,
            "milliseconds": 1e3 * timing.median,
            "spread": timing.spread,
            "target_tokens": tokens[case, precision],
            "tokens_per_second": rates[case, precision],
            "attn_times_as_fast": first / rates[case, precision],
        }
        for (case, precision), timing in timed.items()
    ]
