"""Models from Hugging Face folders, as transformers' ``save_pretrained`` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.build import build_model
from attncli.models.config import DecoderConfig, EncoderConfig
from attncli.models.decoder import CausalLM
from attncli.models.encoder import MaskedLM
from attncli.models.huggingface_names import Entry, weight_names

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
# Buffers, and copies of tied weights, that some versions of transformers wrote into the file.
_IGNORED = re.compile(r"\.position_ids$|\.token_type_ids$|\.attn\.(masked_)?bias$|inv_freq$|\.decoder\.bias$")
_BIAS = re.compile(r"^(cls\.predictions|lm_head|predictions)\.bias$")
_TIED = re.compile(
    r"^(cls\.predictions|lm_head|predictions)\.decoder\.weight$|^lm_head\.weight$|^decoder\.weight$"
)

Raw = dict[str, Any]
Model = TypeVar("Model", bound=nn.Module)


def read_activation(raw: Raw, key: str) -> str:
    """Our name of an activation function."""
    if raw[key] not in _ACTIVATIONS:
        raise CheckpointError(
            f"activation {raw[key]!r} ({key}) is not supported: there are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[raw[key]]


def require_settings(raw: Raw, **expected: Any) -> None:
    """Settings that would change the result and that our models do not have."""
    wrong = [
        Problem(f"{key}={raw[key]!r} is not supported", hint=f"only {value!r} is")
        for key, value in expected.items()
        if key in raw and raw[key] != value
    ]
    if wrong:
        raise CheckpointError(*wrong)


def _encoder(raw: Raw, architecture: str) -> Raw:
    """Values that BERT, RoBERTa and ALBERT share."""
    require_settings(raw, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    activation = read_activation(raw, "hidden_act")
    return {
        "vocabulary": raw["vocab_size"],
        "pad_id": raw.get("pad_token_id"),
        "length": raw["max_position_embeddings"],
        "layers": raw["num_hidden_layers"],
        "width": raw["hidden_size"],
        "intermediate": raw["intermediate_size"],
        "heads": raw["num_attention_heads"],
        "activation": activation,
        "head_activation": activation,
        "dropout": raw["hidden_dropout_prob"],
        "attention_dropout": raw["attention_probs_dropout_prob"],
        "norm_epsilon": raw["layer_norm_eps"],
        "segments": raw["type_vocab_size"],
        "tie_embeddings": raw.get("tie_word_embeddings", True),
        "pair": architecture.endswith("ForPreTraining"),
    }


def _bert(raw: Raw, architecture: str) -> EncoderConfig:
    return EncoderConfig(**_encoder(raw, architecture))


def _roberta(raw: Raw, architecture: str) -> EncoderConfig:
    values = _encoder(raw, architecture)
    return EncoderConfig(
        **values
        | {
            "length": raw["max_position_embeddings"] - (values["pad_id"] or 0) - 1,
            "head_activation": "gelu",
            "init_cutoff": None,
        }
    )


def _albert(raw: Raw, architecture: str) -> EncoderConfig:
    require_settings(raw, num_hidden_groups=1, inner_group_num=1)
    values = _encoder(raw, architecture)
    return EncoderConfig(**values, embedding_width=raw["embedding_size"], share_layers=True)


def _gpt2(raw: Raw, architecture: str) -> DecoderConfig:
    require_settings(
        raw, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False
    )
    return DecoderConfig(
        vocabulary=raw["vocab_size"],
        pad_id=None,  # GPT-2 has no padding word; where one is named, its embedding is as any other
        length=raw["n_positions"],
        layers=raw["n_layer"],
        width=raw["n_embd"],
        intermediate=raw.get("n_inner") or 4 * raw["n_embd"],
        heads=raw["n_head"],
        activation=read_activation(raw, "activation_function"),
        dropout=raw["resid_pdrop"],
        attention_dropout=raw["attn_pdrop"],
        norm_epsilon=raw["layer_norm_epsilon"],
        tie_embeddings=raw.get("tie_word_embeddings", True),
    )


def _modernbert(raw: Raw, architecture: str) -> EncoderConfig:
    bias = raw["attention_bias"]
    require_settings(
        raw, mlp_bias=bias, norm_bias=bias, classifier_bias=bias, decoder_bias=True, hidden_activation="gelu"
    )
    layers = raw["num_hidden_layers"]
    kinds = raw.get("layer_types")
    every = raw.get("global_attn_every_n_layers") or 3
    if kinds is not None:
        every = next((i for i in range(1, layers) if kinds[i] == "full_attention"), layers)
        require_settings(
            {"layer_types": kinds},
            layer_types=["sliding_attention" if i % every else "full_attention" for i in range(layers)],
        )
    rope = raw.get("rope_parameters") or {
        "full_attention": {"rope_theta": raw.get("global_rope_theta", 160_000.0)},
        "sliding_attention": {"rope_theta": raw.get("local_rope_theta", 10_000.0)},
    }
    for kind in rope.values():
        require_settings(kind, rope_type="default")
    return EncoderConfig(
        vocabulary=raw["vocab_size"],
        pad_id=raw.get("pad_token_id"),
        length=raw["max_position_embeddings"],
        layers=layers,
        width=raw["hidden_size"],
        intermediate=raw["intermediate_size"],
        heads=raw["num_attention_heads"],
        position="rotary",
        rotary_base=rope["full_attention"]["rope_theta"],
        local_rotary_base=rope["sliding_attention"]["rope_theta"],
        local_window=raw["local_attention"] // 2,
        global_every=every,
        dropout=raw["mlp_dropout"],
        attention_dropout=raw["attention_dropout"],
        norm="pre",
        norm_epsilon=raw["norm_eps"],
        first_norm=False,
        activation="geglu",
        head_activation=read_activation(raw, "classifier_activation"),
        bias=bias,
        segments=0,
        tie_embeddings=raw.get("tie_word_embeddings", True),
        init_scale_residual=True,
    )


_ARCHITECTURES: dict[str, Callable[[Raw, str], EncoderConfig | DecoderConfig]] = {
    "BertForPreTraining": _bert,
    "BertForMaskedLM": _bert,
    "RobertaForMaskedLM": _roberta,
    "AlbertForPreTraining": _albert,
    "AlbertForMaskedLM": _albert,
    "GPT2LMHeadModel": _gpt2,
    "ModernBertForMaskedLM": _modernbert,
}


def read_config(folder: str | Path) -> tuple[str, EncoderConfig | DecoderConfig]:
    """The family (``model_type``) and our configuration of a Hugging Face model folder.

    Raises:
        CheckpointError: no or a damaged ``config.json``, or a model that is none of ours.
    """
    path = Path(folder) / "config.json"
    raw = read_json(path)
    architecture = (raw.get("architectures") or ["none"])[0]
    if architecture not in _ARCHITECTURES:
        raise CheckpointError(
            Problem(
                f"architecture {architecture!r} is not supported",
                where=str(path),
                hint=f"supported are {', '.join(_ARCHITECTURES)}",
            )
        )
    try:
        return raw["model_type"], _ARCHITECTURES[architecture](raw, architecture)
    except KeyError as error:
        raise CheckpointError(Problem(f"setting {error.args[0]!r} is missing", where=str(path))) from None
    except (TypeError, AttributeError) as error:
        raise CheckpointError(Problem(f"a setting has the wrong type: {error}", where=str(path))) from None


def load_huggingface(folder: str | Path) -> MaskedLM | CausalLM:
    """The model of a folder written by transformers' ``save_pretrained``, in float32, in training mode.

    Reads ``config.json`` and ``model.safetensors``, whole or in shards, of BertForPreTraining,
    BertForMaskedLM, RobertaForMaskedLM, AlbertForPreTraining, AlbertForMaskedLM, GPT2LMHeadModel and
    ModernBertForMaskedLM. Nothing is unpickled.

    Raises:
        CheckpointError: a missing or damaged file, a model that is not supported, or weights that do not
            fit the configuration, all of them named.
    """
    folder = Path(folder)
    model_type, config = read_config(folder)
    tensors = {_modern(name, model_type): tensor for name, tensor in read_safetensors(folder).items()}
    if (
        not config.tie_embeddings
    ):  # the output layer's own bias; older files have it under the head's name only
        heads = {_BIAS.sub(r"\1.decoder.bias", name): name for name in tensors if _BIAS.match(name)}
        for name, head in heads.items():
            tensors.setdefault(name, tensors[head])
            del tensors[head]
    tied = _TIED if config.tie_embeddings else None
    return fill(lambda: build_model(config), weight_names(model_type, config), tensors, folder, tied)


def fill(
    build: Callable[[], Model],
    entries: list[Entry],
    tensors: dict[str, Tensor],
    folder: Path,
    copies: re.Pattern[str] | None = None,
) -> Model:
    """The model that ``build`` makes, with the weights that ``entries`` find among ``tensors``.

    ``copies``: names that may repeat a tied weight. Raises CheckpointError with all that does not fit.
    """
    try:
        with torch.device("meta"):
            model = build()
    except (RecipeError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(
            Problem(f"its settings make no model: {error}", where=str(folder / "config.json"))
        ) from None
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    problems: list[str] = []
    state: dict[str, Tensor] = {}
    for entry in entries:
        if missing := [name for name in entry.theirs if name not in tensors]:
            problems += [f"{name} is missing" for name in missing]
            continue
        try:
            weight = entry.take(tensors).to(torch.float32)
        except (RuntimeError, IndexError):
            problems.append(f"{' and '.join(entry.theirs)} do not fit each other")
            continue
        if tuple(weight.shape) != wanted[entry.ours]:
            found = "x".join(map(str, weight.shape))
            expected = "x".join(map(str, wanted[entry.ours]))
            problems.append(f"{' + '.join(entry.theirs)} is {found}, the configuration says {expected}")
        state[entry.ours] = weight
    known = {name for entry in entries for name in entry.theirs}
    extra = sorted(name for name in tensors if name not in known and not _IGNORED.search(name))
    if copies is not None:
        extra = [name for name in extra if not copies.match(name)]
    problems += [f"{name} is not part of the model" for name in extra]
    if problems:
        raise CheckpointError(*(Problem(what, where=str(folder)) for what in problems))
    fresh = build()  # also fills the tables that are computed, not stored
    fresh.load_state_dict(state)
    return fresh


def _modern(name: str, model_type: str) -> str:
    """A weight's present name: older files spell some differently."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    if model_type == "gpt2" and re.match(r"(wte|wpe|h|ln_f)\.", name):
        return f"transformer.{name}"
    return name


def read_json(path: Path) -> Raw:
    """A JSON object; CheckpointError where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            Problem(
                f"there is no {path.name}", where=str(path.parent), hint="not a Hugging Face model folder"
            )
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None
    if not isinstance(value, dict):
        raise CheckpointError(Problem("is not a JSON object", where=str(path)))
    return value


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors, by name."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict) or any(Path(str(name)).name != name for name in listed.values()):
            raise CheckpointError(Problem("weight_map does not list files of this folder", where=str(index)))
        files = sorted(set(listed.values()))
    else:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        hint = "save it with transformers' save_pretrained"
        if pickles:
            hint = f"{pickles[0]} is a pickle, which could run code: convert it yourself if you trust it"
        raise CheckpointError(
            Problem("there is no model.safetensors", where=str(folder), hint=hint),
            then=f'python -c "from transformers import AutoModelForPreTraining as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
            if pickles
            else None,
        )
    found: dict[str, Tensor] = {}
    for name in files:
        try:
            found |= load_file(folder / name)
        except FileNotFoundError:
            raise CheckpointError(
                Problem(f"{name} is missing", where=str(folder), hint="its index lists it")
            ) from None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(folder / name))) from None
    return found
