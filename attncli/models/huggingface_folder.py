"""Language models as Hugging Face folders, which transformers loads; huggingface.py reads them back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import Problem, RecipeError
from attncli.models.config import DecoderConfig, EncoderConfig
from attncli.models.decoder import CausalLM
from attncli.models.encoder import MaskedLM
from attncli.models.huggingface import Raw
from attncli.models.huggingface_names import to_huggingface

Config = EncoderConfig | DecoderConfig
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
_GATES = {"geglu": "gelu", "swiglu": "silu"}

# Our family to theirs: the first that has a model's settings. BERT and RoBERTa have the same blocks; the
# activation of RoBERTa's head is fixed, and it has no pair head.
_CANDIDATES = {
    "bert": ("bert", "roberta"),
    "roberta": ("roberta", "bert"),
    "albert": ("albert",),
    "gpt": ("gpt2",),
    "modernbert": ("modernbert",),
    "camembert": ("camembert",),
    "xlm-roberta": ("xlm-roberta",),
    "distilbert": ("distilbert",),
    "electra": ("electra",),
}
_NAMES = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "albert": "ALBERT",
    "gpt2": "GPT-2",
    "modernbert": "ModernBERT",
    "camembert": "CamemBERT",
    "xlm-roberta": "XLM-RoBERTa",
    "distilbert": "DistilBERT",
    "electra": "ELECTRA",
}


def choose_model_type(family: str, config: Config, *, head: bool = True) -> str:
    """The ``model_type`` of transformers that computes what a model of ``family`` and ``config`` does.

    ``head``: whether its masked-word head must be theirs too.

    Raises:
        RecipeError: there is none; all settings that differ from the nearest.
    """
    candidates = _CANDIDATES[family]
    for name in candidates:
        if not _differences(name, config, head):
            return name
    raise RecipeError(*_differences(candidates[0], config, head))


def _differences(model_type: str, config: Config, with_head: bool = True) -> list[Problem]:
    """Settings that ``model_type`` has not."""
    modern, gpt = model_type == "modernbert", model_type == "gpt2"
    wanted: dict[str, tuple[object, ...]] = {
        "attention.mechanism": ("scaled_dot",),
        "attention.position": ("rotary",) if modern else ("learned",),
        "attention.kv_heads": (None, config.heads),
        "attention.kv_latent": (None,),
        "attention.qk_norm": (False,),
        "norm": ("pre",) if modern or gpt else ("post",),
        "norm_kind": ("layer",),
        "activation": tuple(_GATES if modern else _ACTIVATIONS),
        "share_layers": (model_type == "albert",),
    }
    if not modern:
        wanted |= {"bias": (True,), "local_window": (0,)}
    if model_type not in ("albert", "electra"):
        wanted["embedding_width"] = (None,)
    if model_type == "distilbert":
        wanted |= {"segments": (0,), "norm_epsilon": (1e-12,)}
    found = []
    for key, known in wanted.items():
        value = getattr(config, key.rpartition(".")[2])
        if value not in known:
            hint = f"it has {' or '.join(str(one) for one in known if one is not None) or 'none'}"
            found.append(Problem(f"{_NAMES[model_type]} has no model.{key}={value}", hint=hint))
    if isinstance(config, EncoderConfig) and with_head:
        head = "gelu" if model_type == "roberta" else config.activation
        if model_type in ("bert", "albert") and config.head_activation != head:
            two = f"{config.activation} and {config.head_activation}"
            found.append(Problem(f"{_NAMES[model_type]} has one activation for blocks and head, not {two}"))
        if config.pair and model_type in ("roberta", "modernbert"):
            found.append(Problem(f"{_NAMES[model_type]} has no head for train.objective.sentences"))
    return found


def huggingface_config(model_type: str, config: Config, special: Mapping[str, int | None]) -> Raw:
    """What ``config.json`` says of a model; ``special``: ids by name, as ``pad_token_id``."""
    return _WRITERS[model_type](config) | {
        "model_type": model_type,
        "vocab_size": config.vocabulary,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        **special,
    }


def save_huggingface(
    model: MaskedLM | CausalLM, folder: Path, *, family: str, special: Mapping[str, int | None]
) -> str:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``; the name of the class that loads it.

    ``special``: ids of special tokens by their name in ``config.json``. Raises RecipeError as
    :func:`choose_model_type`.
    """
    config = model.config
    model_type = choose_model_type(family, config)
    raw = huggingface_config(model_type, config, special)
    tensors = to_huggingface(model_type, config, model.state_dict())
    if isinstance(config, EncoderConfig) and not config.segments and model_type != "modernbert":
        table = f"{model_type}.embeddings.token_type_embeddings.weight"
        tensors[table] = torch.zeros(1, config.word_width)  # a table they always have
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(raw, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    save_file(separate(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return raw["architectures"][0]


def separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float32 tensors that share no memory."""
    return {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _encoder(config: EncoderConfig) -> Raw:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.length,
        "type_vocab_size": config.segments or 1,
        "hidden_act": _ACTIVATIONS[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.norm_epsilon,
    }


def _bert(config: EncoderConfig) -> Raw:
    return _encoder(config) | {"architectures": ["BertForPreTraining" if config.pair else "BertForMaskedLM"]}


def _roberta(config: EncoderConfig) -> Raw:
    places = config.length + (config.pad_id or 0) + 1  # theirs are counted from behind the padding id
    return _encoder(config) | {"architectures": ["RobertaForMaskedLM"], "max_position_embeddings": places}


def _albert(config: EncoderConfig) -> Raw:
    name = "AlbertForPreTraining" if config.pair else "AlbertForMaskedLM"
    return _encoder(config) | {
        "architectures": [name],
        "embedding_size": config.word_width,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    }


def _distilbert(config: EncoderConfig) -> Raw:
    return {
        "dim": config.width,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "hidden_dim": config.intermediate,
        "max_position_embeddings": config.length,
        "activation": _ACTIVATIONS[config.activation],
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "sinusoidal_pos_embds": False,
    }


def _electra(config: EncoderConfig) -> Raw:
    return _encoder(config) | {"embedding_size": config.word_width}


def _gpt2(config: DecoderConfig) -> Raw:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": config.length,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.intermediate,
        "activation_function": _ACTIVATIONS[config.activation],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": config.norm_epsilon,
    }


def _modernbert(config: EncoderConfig) -> Raw:
    local = set(config.local_layers)
    kinds = ["sliding_attention" if at in local else "full_attention" for at in range(config.layers)]
    bases = {
        "full_attention": config.rotary_base,
        "sliding_attention": config.local_rotary_base or config.rotary_base,
    }
    return {
        "architectures": ["ModernBertForMaskedLM"],
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.length,
        "layer_types": kinds,
        "global_attn_every_n_layers": config.global_every if local else 1,
        "local_attention": 2 * config.local_window,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()
        },
        "global_rope_theta": bases["full_attention"],  # these two: for versions before rope_parameters
        "local_rope_theta": bases["sliding_attention"],
        "hidden_activation": _GATES[config.activation],
        "classifier_activation": _ACTIVATIONS[config.head_activation],
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "norm_eps": config.norm_epsilon,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "norm_bias": config.bias,
        "classifier_bias": config.bias,
        "decoder_bias": True,
    }


_WRITERS: dict[str, Callable[..., Raw]] = {
    "bert": _bert,
    "roberta": _roberta,
    "albert": _albert,
    "gpt2": _gpt2,
    "modernbert": _modernbert,
    "camembert": _roberta,
    "xlm-roberta": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
}
