"""Transformers that translate as CTranslate2 folders (https://github.com/OpenNMT/CTranslate2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attncli.attention import Attention
from attncli.errors import Problem, RecipeError
from attncli.layers import FeedForward, LayerStack, TokenEmbeddings
from attncli.models.config import TransformerConfig
from attncli.models.transformer import Transformer
from attncli.models.translation import Seq2SeqConfig

_ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_tanh": "GELUTanh",
    "swiglu": "SWISH",
    "geglu": "GELU",
}
_GATED = ("swiglu", "geglu")
_POSITIONS = ("sinusoidal", "learned", "none", "rotary")
_LEAST_CODES = 512  # places of sinusoidal codes; the search of CTranslate2 goes to 256 unless told otherwise


def ctranslate2_problems(config: Seq2SeqConfig) -> list[Problem]:
    """What of a model CTranslate2 has not; nothing where it can be exported."""
    decoder = config.decoder
    found = []
    for key, value, known in (
        ("mechanism", decoder.mechanism, ("scaled_dot",)),
        ("position", decoder.position, _POSITIONS),
        ("qk_norm", decoder.qk_norm, (False,)),
        ("kv_latent", decoder.kv_latent, (None,)),
    ):
        if value not in known:
            hint = f"it has {', '.join(map(str, known))}"
            found.append(Problem(f"CTranslate2 has no model.attention.{key}={value}", hint=hint))
    return found


def save_ctranslate2(
    model: Transformer,
    folder: Path,
    *,
    source: Sequence[str],
    target: Sequence[str],
    bos: str = "<s>",
    eos: str = "</s>",
    unk: str = "<unk>",
) -> None:
    """Write ``model.bin``, ``config.json`` and the vocabularies into ``folder``, in float32.

    ``source``, ``target``: the piece of each id. Decoding starts from ``bos``; sources are given with their
    ``eos``. CTranslate2 makes 8-bit weights of these where its ``compute_type`` says so.

    Raises:
        RecipeError: a model that CTranslate2 has not, all that differs at once.
        ImportError: ctranslate2 is not installed.
    """
    if problems := ctranslate2_problems(model.config):
        raise RecipeError(*problems)
    spec = _spec(model)
    spec.register_source_vocabulary(list(source))
    spec.register_target_vocabulary(list(target))
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = bos, eos, unk
    spec.config.decoder_start_token = bos
    spec.config.layer_norm_epsilon = model.config.decoder.norm_epsilon
    folder.mkdir(parents=True, exist_ok=True)
    spec.validate()
    spec.optimize(quantization="float32")
    spec.save(str(folder))


def _spec(model: Transformer) -> Any:
    from ctranslate2 import specs
    from ctranslate2.specs import transformer_spec

    config = model.config.decoder
    shared: dict[str, Any] = {
        "pre_norm": config.norm == "pre",
        "activation": getattr(specs.Activation, _ACTIVATIONS[config.activation]),
        "ffn_glu": config.activation in _GATED,
        "rms_norm": config.norm_kind == "rms",
    }
    if config.kv_heads not in (None, config.heads):
        shared["num_heads_kv"] = config.kv_heads
    if config.position == "rotary":
        shared |= {"rotary_dim": config.head_dim, "rotary_interleave": False}
        shared |= {"rotary_base": config.rotary_base}
    encoder = transformer_spec.TransformerEncoderSpec(model.config.encoder.layers, config.heads, **shared)
    decoder = transformer_spec.TransformerDecoderSpec(config.layers, config.heads, **shared)
    spec = specs.TransformerSpec(encoder, decoder)
    _stack(encoder, model.encoder)
    _stack(decoder, model.decoder)
    for part, embeddings, words in (
        (encoder, model.source_embeddings, encoder.embeddings[0]),
        (decoder, model.target_embeddings, decoder.embeddings),
    ):
        words.weight = _numbers(embeddings.word.weight)
        part.scale_embeddings = np.dtype("float32").type(embeddings.scale)
        if config.position != "rotary":
            part.position_encodings.encodings = _positions(config, embeddings)
        elif hasattr(part, "position_encodings"):
            del part.position_encodings
    decoder.projection.weight = _numbers(model.output_weight)
    return spec


def _stack(spec: Any, stack: LayerStack) -> None:
    for index, layer in enumerate(spec.layer):
        block = stack.block(index)
        _attention(layer.self_attention, block.attention, cross=False)
        _norm(layer.self_attention.layer_norm, block.attention_norm)
        if block.cross_attention is not None:
            _attention(layer.attention, block.cross_attention, cross=True)
            _norm(layer.attention.layer_norm, block.cross_attention_norm)
        _feed_forward(layer.ffn, block.feed_forward)
        _norm(layer.ffn.layer_norm, block.feed_forward_norm)
    if stack.norm is not None:
        _norm(spec.layer_norm, stack.norm)


def _attention(spec: Any, attention: Attention, *, cross: bool) -> None:
    """Queries, keys and values are one projection, in cross attention one and one."""
    weight, bias = attention.qkv.weight, attention.qkv.bias
    rows = attention.heads * attention.head_dim
    parts = [slice(0, rows), slice(rows, None)] if cross else [slice(None)]
    for linear, part in zip(spec.linear, parts, strict=False):
        linear.weight = _numbers(weight[part])
        if bias is not None:
            linear.bias = _numbers(bias[part])
    _linear(spec.linear[-1], attention.out)


def _feed_forward(spec: Any, feed_forward: FeedForward) -> None:
    _linear(spec.linear_1, feed_forward.contract)
    if not feed_forward.gated:
        _linear(spec.linear_0, feed_forward.expand)
        return
    weights = feed_forward.expand.weight.chunk(2)
    spec.linear_0.weight, spec.linear_0_noact.weight = map(_numbers, weights)
    if feed_forward.expand.bias is not None:
        biases = feed_forward.expand.bias.chunk(2)
        spec.linear_0.bias, spec.linear_0_noact.bias = map(_numbers, biases)


def _linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight = _numbers(linear.weight)
    if linear.bias is not None:
        spec.bias = _numbers(linear.bias)


def _norm(spec: Any, norm: nn.Module) -> None:
    spec.gamma = _numbers(norm.weight)
    if getattr(norm, "bias", None) is not None:
        spec.beta = _numbers(norm.bias)


def _positions(config: TransformerConfig, embeddings: TokenEmbeddings) -> NDArray[np.float32]:
    """What is added to the words at each place, [places, C]."""
    if config.position == "learned":
        return _numbers(embeddings.position.weight)
    if config.position == "none":
        return np.zeros((max(config.length, _LEAST_CODES), config.width), np.float32)
    return _numbers(embeddings.position.codes(torch.arange(max(config.length, _LEAST_CODES))))


def _numbers(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().contiguous().numpy()
