"""A Transformer as a folder that CTranslate2 loads, its words named by their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncli.models.marian import marian_config, marian_state
from attncli.models.transformer import Transformer

_ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "gelu_new": "GELUTanh"}


def save_ctranslate2(model: Transformer, folder: Path, *, bos_id: int, eos_id: int, unk_id: int) -> None:
    """Write the model in float32. Raises RecipeError where :func:`marian_config` does."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.common_spec import Activation

    config, state = marian_config(model.config, bos_id=bos_id, eos_id=eos_id), marian_state(model)
    spec = TransformerSpec.from_config(
        (config["encoder_layers"], config["decoder_layers"]),
        config["decoder_attention_heads"],
        pre_norm=False,
        activation=Activation[_ACTIVATIONS[config["activation_function"]]],
    )
    sides = (
        ("encoder", spec.encoder, spec.encoder.embeddings[0], model.source_embeddings),
        ("decoder", spec.decoder, spec.decoder.embeddings, model.target_embeddings),
    )
    for name, side, words, ours in sides:
        side.scale_embeddings = config["d_model"] ** 0.5
        words.weight = _array(ours.word.weight)
        places = torch.arange(config["max_position_embeddings"], device=ours.word.weight.device)
        side.position_encodings.encodings = _array(ours.position.codes(places))
        for index, layer in enumerate(side.layer):
            at = f"model.{name}.layers.{index}"
            _attention(layer.self_attention, state, f"{at}.self_attn", "qkv")
            if name == "decoder":
                _attention(layer.attention, state, f"{at}.encoder_attn", "q", "kv")
            _norm(layer.self_attention.layer_norm, state, f"{at}.self_attn_layer_norm")
            if name == "decoder":
                _norm(layer.attention.layer_norm, state, f"{at}.encoder_attn_layer_norm")
            _linear(layer.ffn.linear_0, state, f"{at}.fc1")
            _linear(layer.ffn.linear_1, state, f"{at}.fc2")
            _norm(layer.ffn.layer_norm, state, f"{at}.final_layer_norm")
    spec.decoder.projection.weight = _array(model.output_weight)
    spec.register_source_vocabulary([str(token) for token in range(model.config.source_vocabulary)])
    spec.register_target_vocabulary([str(token) for token in range(model.config.target_vocabulary)])
    spec.config.bos_token = spec.config.decoder_start_token = str(bos_id)
    spec.config.eos_token, spec.config.unk_token = str(eos_id), str(unk_id)
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().contiguous().numpy()


def _linear(spec: object, state: dict[str, Tensor], *names: str) -> None:
    """One linear layer of those of ``names``, their outputs one after another."""
    spec.weight = _array(torch.cat([state[f"{name}.weight"] for name in names]))
    spec.bias = _array(torch.cat([state[f"{name}.bias"] for name in names]))


def _attention(spec: object, state: dict[str, Tensor], at: str, *parts: str) -> None:
    for place, letters in enumerate(parts):
        _linear(spec.linear[place], state, *(f"{at}.{letter}_proj" for letter in letters))
    _linear(spec.linear[-1], state, f"{at}.out_proj")


def _norm(spec: object, state: dict[str, Tensor], at: str) -> None:
    spec.gamma, spec.beta = _array(state[f"{at}.weight"]), _array(state[f"{at}.bias"])
