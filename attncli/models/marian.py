"""Transformers that translate as Marian folders, which Hugging Face transformers loads, and back.

Marian: Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344. Its Transformer in ``transformers`` has
norms after the sums, sinusoidal positions with all sines before all cosines, and scaled embeddings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.huggingface import (
    Raw,
    fill,
    read_activation,
    read_json,
    read_safetensors,
    require_settings,
)
from attncli.models.huggingface_names import Entry, three_as_one, weight_and_bias
from attncli.models.transformer import Transformer
from attncli.models.translation import Seq2SeqConfig, build_translation

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new"}
_QKV = ("q_proj", "k_proj", "v_proj")
_COPIES = re.compile(r"^(model\.(encoder|decoder)\.embed_tokens|lm_head)\.weight$")
_TABLES = re.compile(r"^model\.(encoder|decoder)\.embed_positions\.weight$")
_BIAS = "final_logits_bias"


def marian_config(config: Seq2SeqConfig, *, bos_id: int = 1, eos_id: int = 2) -> Raw:
    """What ``config.json`` says of a model; decoding starts from ``bos_id``.

    Raises:
        RecipeError: a model that Marian has no settings for, all that differs at once.
    """
    encoder, decoder = config.encoder, config.decoder
    wanted = {
        "norm": "post",
        "norm_kind": "layer",
        "position": "sinusoidal",
        "mechanism": "scaled_dot",
        "kv_heads": None,
        "kv_latent": None,
        "qk_norm": False,
    }
    keys = {"norm": "model.norm", "norm_kind": "model.norm_kind"}
    problems = []
    for name, value in wanted.items():
        found = getattr(decoder, name)
        if found != value and not (name == "kv_heads" and found == decoder.heads):
            key = keys.get(name, f"model.attention.{name}")
            none = "no latent" if name == "kv_latent" else "as many key/value heads as heads"
            hint = f"it has {value if value is not None else none}"
            problems.append(Problem(f"a Marian model has no {key}={found}", hint=hint))
    if decoder.activation not in _ACTIVATIONS:
        hint = f"it has {', '.join(_ACTIVATIONS)}"
        problems.append(Problem(f"a Marian model has no model.activation={decoder.activation}", hint=hint))
    if problems:
        raise RecipeError(*problems)
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": config.source_vocabulary,
        "decoder_vocab_size": config.target_vocabulary,
        "share_encoder_decoder_embeddings": config.tie_embeddings == "all",
        "tie_word_embeddings": config.tie_embeddings != "none",
        "max_position_embeddings": config.length,
        "d_model": decoder.width,
        "encoder_layers": encoder.layers,
        "encoder_attention_heads": encoder.heads,
        "encoder_ffn_dim": encoder.intermediate,
        "decoder_layers": decoder.layers,
        "decoder_attention_heads": decoder.heads,
        "decoder_ffn_dim": decoder.intermediate,
        "activation_function": _ACTIVATIONS[decoder.activation],
        "dropout": decoder.dropout,
        "attention_dropout": decoder.attention_dropout,
        "activation_dropout": 0.0,
        "scale_embedding": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "pad_token_id": config.pad_id,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "decoder_start_token_id": bos_id,
        "forced_eos_token_id": None,
        "torch_dtype": "float32",
    }


def marian_state(model: Transformer) -> dict[str, Tensor]:
    """The weights of ``model`` under Marian's names, float32; tied ones once."""
    state = model.state_dict()
    width = model.config.decoder.width
    found: dict[str, Tensor] = {}
    for entry in _entries(model.config):
        found |= entry.give(state[entry.ours].detach().float(), (width, width, width))
    return found | {_BIAS: torch.zeros(1, model.config.target_vocabulary)}


def save_marian(
    model: Transformer,
    folder: Path,
    *,
    bos_id: int = 1,
    eos_id: int = 2,
    limit: int | None = None,
    generation: Raw | None = None,
) -> None:
    """Write ``config.json``, ``generation_config.json`` and ``model.safetensors`` into ``folder``.

    ``limit``: tokens that ``generate`` writes at most; the model's length where it is None. ``generation``:
    further settings of ``generate``. Raises RecipeError as :func:`marian_config`.
    """
    config = marian_config(model.config, bos_id=bos_id, eos_id=eos_id)
    chosen = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
    fixed = {name: config[name] for name in chosen} | {"max_new_tokens": limit or model.config.length}
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("config", config), ("generation_config", fixed | (generation or {}))):
        text = json.dumps(value, indent=2, sort_keys=True) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in marian_state(model).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_marian(folder: str | Path) -> Transformer:
    """The model of a Marian folder, in float32, in training mode.

    Raises:
        CheckpointError: a missing or damaged file, settings that our model does not have (an output bias
            and the swish activation among them), or weights that do not fit, all of them named.
    """
    folder = Path(folder)
    config = read_marian_config(folder)
    tensors = {name: t for name, t in read_safetensors(folder).items() if not _TABLES.match(name)}
    bias = tensors.pop(_BIAS, None)
    if bias is not None and bool(bias.any()):
        raise CheckpointError(Problem(f"{_BIAS} is not zero: an output bias is not supported", str(folder)))
    if config.tie_embeddings == "all" and "model.shared.weight" not in tensors:
        copy = next((name for name in tensors if _COPIES.match(name)), None)
        if copy is not None:
            tensors["model.shared.weight"] = tensors[copy]
    return fill(lambda: build_translation(config), list(_entries(config)), tensors, folder, _COPIES)


def read_marian_config(folder: Path) -> Seq2SeqConfig:
    """Our configuration of a Marian folder; CheckpointError as :func:`load_marian`."""
    path = folder / "config.json"
    raw = read_json(path)
    try:
        if raw.get("model_type") != "marian":
            kind = raw.get("model_type")
            raise CheckpointError(Problem(f"model_type is {kind!r}, not 'marian'", where=str(path)))
        require_settings(raw, scale_embedding=True, normalize_before=False, normalize_embedding=False)
        for name in ("attention_heads", "ffn_dim"):
            require_settings(
                {f"decoder_{name}": raw[f"decoder_{name}"]}, **{f"decoder_{name}": raw[f"encoder_{name}"]}
            )
        share = raw.get("share_encoder_decoder_embeddings", True)
        tie = "all" if share else "decoder" if raw.get("tie_word_embeddings", True) else "none"
        if share:
            require_settings(raw, tie_word_embeddings=True)
        target = (None if share else raw.get("decoder_vocab_size")) or raw["vocab_size"]
        shared = {
            "pad_id": raw["pad_token_id"],
            "length": raw["max_position_embeddings"],
            "width": raw["d_model"],
            "heads": raw["decoder_attention_heads"],
            "intermediate": raw["decoder_ffn_dim"],
            "position": "sinusoidal",
            "attention_dropout": raw.get("attention_dropout", 0.0),
            "dropout": raw.get("dropout", 0.1),
            "norm_epsilon": 1e-5,
            "activation": read_activation(raw, "activation_function"),
            "embedding_norm": False,
            "embedding_scale": raw["d_model"] ** 0.5,
            "sinusoidal_halves": True,
        }
        return Seq2SeqConfig(
            source_vocabulary=raw["vocab_size"],
            target_vocabulary=target,
            pad_id=raw["pad_token_id"],
            length=raw["max_position_embeddings"],
            tie_embeddings=tie,
            encoder=TransformerConfig(vocabulary=raw["vocab_size"], layers=raw["encoder_layers"], **shared),
            decoder=TransformerConfig(vocabulary=target, layers=raw["decoder_layers"], **shared),
        )
    except KeyError as error:
        raise CheckpointError(Problem(f"setting {error.args[0]!r} is missing", where=str(path))) from None
    except (TypeError, AttributeError) as error:
        raise CheckpointError(Problem(f"a setting has the wrong type: {error}", where=str(path))) from None


def _entries(config: Seq2SeqConfig) -> Iterator[Entry]:
    """Every weight, and where a Marian file keeps it."""
    source, target = "source_embeddings.word.weight", "target_embeddings.word.weight"
    if config.tie_embeddings == "all":
        yield Entry(source, ("model.shared.weight",))
        yield Entry(target, ("model.shared.weight",))
    else:
        yield Entry(source, ("model.encoder.embed_tokens.weight",))
        yield Entry(target, ("model.decoder.embed_tokens.weight",))
    if config.tie_embeddings == "none":
        yield Entry("output.weight", ("lm_head.weight",))
    for side, layers in (("encoder", config.encoder.layers), ("decoder", config.decoder.layers)):
        for index in range(layers):
            ours, theirs = f"{side}.blocks.{index}", f"model.{side}.layers.{index}"
            pairs = {"attention": "self_attn"} | (
                {"cross_attention": "encoder_attn"} if side == "decoder" else {}
            )
            for mine, other in pairs.items():
                yield from three_as_one(f"{ours}.{mine}.qkv", f"{theirs}.{other}", _QKV)
                yield from weight_and_bias(f"{ours}.{mine}.out", f"{theirs}.{other}.out_proj")
                yield from weight_and_bias(f"{ours}.{mine}_norm", f"{theirs}.{other}_layer_norm")
            yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.fc1")
            yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.fc2")
            yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
