"""Pre-trained encoders: from Hugging Face folders of any head, and from masked language models of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models import huggingface
from attncli.models.config import EncoderConfig
from attncli.models.encoder import Encoder
from attncli.models.huggingface import Raw, read_activation, read_json, read_safetensors
from attncli.models.huggingface_names import ENCODERS, Entry, encoder_names, pooler_names, root_of

_SHOWN = 8


@dataclass(frozen=True)
class Base:
    """What a pre-trained model gives to another."""

    family: str
    """``model_type``; a plain family name for models of ours."""
    config: EncoderConfig
    encoder: dict[str, Tensor]
    """State of :class:`Encoder`."""
    pooler: dict[str, Tensor]
    """What a head of sequences starts from, by names inside it; empty where there is nothing."""
    dropped: tuple[str, ...] = ()
    """Weights that belong to heads and are not used."""
    first: bool = True
    """Whether the first token is what heads of its kind read; else it has learnt to stand for nothing."""


def _bert(raw: Raw) -> EncoderConfig:
    known = {
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }  # what files older than these settings leave out
    return huggingface._bert(known | raw, "")


def _roberta(raw: Raw) -> EncoderConfig:
    known = {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu"}
    return huggingface._roberta(known | raw, "")


def _electra(raw: Raw) -> EncoderConfig:
    config = _bert(raw)
    narrow = raw.get("embedding_size", config.width)
    return config if narrow == config.width else replace(config, embedding_width=narrow)


def _distilbert(raw: Raw) -> EncoderConfig:
    activation = read_activation({"activation": "gelu"} | raw, "activation")
    return EncoderConfig(
        vocabulary=raw["vocab_size"],
        pad_id=raw.get("pad_token_id", 0),
        length=raw.get("max_position_embeddings", 512),
        layers=raw["n_layers"],
        width=raw["dim"],
        intermediate=raw["hidden_dim"],
        heads=raw["n_heads"],
        activation=activation,
        head_activation=activation,
        dropout=raw.get("dropout", 0.1),
        attention_dropout=raw.get("attention_dropout", 0.1),
        segments=0,
    )


_READERS: dict[str, Callable[[Raw], EncoderConfig]] = {
    "bert": _bert,
    "roberta": _roberta,
    "camembert": _roberta,
    "xlm-roberta": _roberta,
    "albert": lambda raw: huggingface._albert({"pad_token_id": 0, "layer_norm_eps": 1e-12} | raw, ""),
    "distilbert": _distilbert,
    "electra": _electra,
    "modernbert": lambda raw: huggingface._modernbert(raw, ""),
}
_PREFIXES = {
    "Bert": "bert",
    "Roberta": "roberta",
    "Camembert": "camembert",
    "XLMRoberta": "xlm-roberta",
    "Albert": "albert",
    "DistilBert": "distilbert",
    "Electra": "electra",
    "ModernBert": "modernbert",
}
"""How the names of a family's classes begin."""
CLASSES = {family: prefix for prefix, family in _PREFIXES.items()}


def read_encoder_config(folder: str | Path) -> tuple[str, EncoderConfig, Raw]:
    """The family, the encoder's configuration and the whole ``config.json`` of a folder with any head.

    Raises:
        CheckpointError: no or a damaged ``config.json``, or an encoder that is none of ours.
    """
    path = Path(folder) / "config.json"
    raw = read_json(path)
    family = raw.get("model_type")
    if family is None:  # files of the first years have only the class
        name = str((raw.get("architectures") or [""])[0]).partition("For")[0].removesuffix("Model")
        family = _PREFIXES.get(name)
    if family not in ENCODERS:
        problems = [
            Problem(
                f"model_type {family!r} is no encoder that attn can fine-tune",
                where=str(path),
                hint=f"there are {', '.join(ENCODERS)}",
            )
        ]
        raise CheckpointError(*problems, *_what_is_there(Path(folder)))
    try:
        return family, _READERS[family](raw), raw
    except KeyError as error:
        raise CheckpointError(Problem(f"setting {error.args[0]!r} is missing", where=str(path))) from None
    except (TypeError, AttributeError) as error:
        raise CheckpointError(Problem(f"a setting has the wrong type: {error}", where=str(path))) from None


def _what_is_there(folder: Path) -> list[Problem]:
    """Names and shapes of a folder's weights, where they can be read."""
    try:
        tensors = read_safetensors(folder)
    except CheckpointError:
        return []
    shown = [f"{name} {shape_of(tensor)}" for name, tensor in list(tensors.items())[:_SHOWN]]
    rest = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
    return [Problem(f"it holds {', '.join(shown)}{rest}", where=str(folder))]


def read_base(folder: str | Path) -> Base:
    """The encoder of a folder that transformers' ``save_pretrained`` wrote, whatever its head, in float32.

    ``config.json`` and ``model.safetensors``, whole or in shards, of BERT, RoBERTa, CamemBERT, XLM-RoBERTa,
    ALBERT, DistilBERT, ELECTRA (the discriminator, or the generator) and ModernBERT. Heads are dropped, but
    for what a head of sequences starts from: BERT's and ALBERT's pooler, ModernBERT's prediction layer.
    Nothing is unpickled.

    Raises:
        CheckpointError: a missing or damaged file, another architecture, or weights that are missing or of
            another shape, all of them named.
    """
    folder = Path(folder)
    family, config, _ = read_encoder_config(folder)
    tensors = named_as_saved(read_safetensors(folder), family)
    body, extra = encoder_names(family, config), pooler_names(family, config)
    state = take(body, tensors, encoder_shapes(config, folder), folder)
    pooler: dict[str, Tensor] = {}
    if extra and all(name in tensors for entry in extra for name in entry.theirs):
        pooler = {entry.ours.removeprefix("head."): entry.take(tensors).float() for entry in extra}
    used = {name for entry in body + (extra if pooler else []) for name in entry.theirs}
    dropped = sorted(n for n in tensors if n not in used and not huggingface._IGNORED.search(n))
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    return Base(family, config, encoder, pooler, tuple(dropped))


def base_of_masked_lm(config: EncoderConfig, family: str, state: Mapping[str, Tensor]) -> Base:
    """The encoder of a masked language model of ours, from its state dict and its recipe's family.

    ``state`` is of :class:`attncli.models.MaskedLM` or of anything that holds an ``encoder``. Raises
    CheckpointError where weights are missing.
    """
    wanted = encoder_shapes(config, Path("the run"))
    missing = [name for name in wanted if name not in state]
    if missing:
        raise CheckpointError(*(f"{name} is missing: the run holds no such encoder" for name in missing))
    pooler: dict[str, Tensor] = {}
    if family in ("bert", "albert") and "pooler.weight" in state:
        pooler = {f"dense.{kind}": state[f"pooler.{kind}"] for kind in ("weight", "bias")}
    elif family == "modernbert" and config.word_width == config.width:
        for ours, theirs in (("dense", "transform"), ("norm", "norm")):
            for kind in ("weight", "bias"):
                if (name := f"{theirs}.{kind}") in state:
                    pooler[f"{ours}.{kind}"] = state[name]
    encoder = {name.removeprefix("encoder."): state[name] for name in wanted}
    used = {*wanted, *(("pooler.weight", "pooler.bias") if pooler else ())}
    dropped = tuple(sorted(name for name in state if name not in used))
    return Base(family, replace(config, pair=False), encoder, pooler, dropped, first=bool(pooler))


def load_encoder(folder: str | Path) -> tuple[Encoder, EncoderConfig, str]:
    """The encoder of :func:`read_base`, its configuration and its ``model_type``."""
    base = read_base(folder)
    encoder = Encoder(base.config)
    encoder.load_state_dict(base.encoder)
    return encoder, base.config, base.family


def named_as_saved(tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """Present names, with the encoder's own prefix, which folders without a head leave out."""
    tensors = {huggingface._modern(name, family): tensor for name, tensor in tensors.items()}
    root = root_of(family)
    if any(name.startswith(f"{root}.") for name in tensors):
        return tensors
    return {f"{root}.{name}": tensor for name, tensor in tensors.items()}


def encoder_shapes(config: EncoderConfig, folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's weights, with ``encoder.`` in front of their names."""
    try:
        with torch.device("meta"):
            state = Encoder(config).state_dict()
    except (RecipeError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(
            Problem(f"its settings make no model: {error}", where=str(folder / "config.json"))
        ) from None
    return {f"encoder.{name}": tuple(tensor.shape) for name, tensor in state.items()}


def take(
    entries: list[Entry], tensors: dict[str, Tensor], wanted: Mapping[str, tuple[int, ...]], folder: Path
) -> dict[str, Tensor]:
    """Our weights that ``entries`` find among ``tensors``, in float32; CheckpointError with all misfits."""
    missing: list[str] = []
    problems: list[str] = []
    state: dict[str, Tensor] = {}
    for entry in entries:
        absent = [name for name in entry.theirs if name not in tensors]
        missing += absent
        if absent:
            continue
        parts = " + ".join(entry.theirs)
        try:
            weight = entry.take(tensors).to(torch.float32)
        except (RuntimeError, IndexError):
            problems.append(f"{parts} do not fit each other")
            continue
        if tuple(weight.shape) != wanted[entry.ours]:
            expected = "x".join(map(str, wanted[entry.ours]))
            problems.append(f"{parts} is {shape_of(weight)}, the configuration says {expected}")
        state[entry.ours] = weight
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        rest = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        there = [name for name in tensors if name not in {n for e in entries for n in e.theirs}]
        hint = f"there is {', '.join(there[:3])} ..." if there else None
        raise CheckpointError(
            Problem(f"{len(missing)} weights are missing: {shown}{rest}", where=str(folder), hint=hint),
            *(Problem(what, where=str(folder)) for what in problems),
        )
    if problems:
        raise CheckpointError(*(Problem(what, where=str(folder)) for what in problems))
    return state


def shape_of(tensor: Tensor) -> Any:
    """A tensor's sizes for people."""
    return "x".join(map(str, tensor.shape)) or "a number"
