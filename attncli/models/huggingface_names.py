"""Names of weights in Hugging Face model folders, against ours: one table, read in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from attncli.models.config import DecoderConfig, EncoderConfig


@dataclass(frozen=True)
class Entry:
    """One of our weights and where it stands in a Hugging Face file.

    ``theirs``: their names; several are stacked along the first dimension to make ours.
    ``transposed``: they store [in, out]. ``skip``: rows at the front of theirs that ours has not.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    skip: int = 0

    def take(self, tensors: dict[str, Tensor]) -> Tensor:
        """Our weight from their ``tensors``."""
        parts = [tensors[name].T if self.transposed else tensors[name] for name in self.theirs]
        return (torch.cat(parts) if len(parts) > 1 else parts[0])[self.skip :].contiguous()

    def give(self, weight: Tensor, sizes: Iterable[int]) -> dict[str, Tensor]:
        """Their tensors from our ``weight``, cut into ``sizes`` rows where there are several names."""
        if self.skip:
            weight = torch.cat([weight.new_zeros(self.skip, *weight.shape[1:]), weight])
        parts = weight.split(list(sizes)) if len(self.theirs) > 1 else (weight,)
        return {
            name: (part.T if self.transposed else part).contiguous()
            for name, part in zip(self.theirs, parts, strict=True)
        }


def weight_and_bias(ours: str, theirs: str, *, bias: bool = True, transposed: bool = False) -> list[Entry]:
    """A module's weight and, where it has one, bias."""
    found = [Entry(f"{ours}.weight", (f"{theirs}.weight",), transposed)]
    return [*found, Entry(f"{ours}.bias", (f"{theirs}.bias",))] if bias else found


def three_as_one(ours: str, theirs: str, parts: tuple[str, ...] = ("query", "key", "value")) -> list[Entry]:
    """Three projections that are one of ours."""
    return [
        Entry(f"{ours}.{kind}", tuple(f"{theirs}.{part}.{kind}" for part in parts))
        for kind in ("weight", "bias")
    ]


def _embeddings(theirs: str, config: EncoderConfig, skip: int = 0) -> list[Entry]:
    ours = "encoder.embeddings"
    found = [
        Entry(f"{ours}.word.weight", (f"{theirs}.word_embeddings.weight",)),
        Entry(f"{ours}.position.weight", (f"{theirs}.position_embeddings.weight",), skip=skip),
        *weight_and_bias(f"{ours}.norm", f"{theirs}.LayerNorm"),
    ]
    if config.segments:
        found.append(Entry(f"{ours}.segment.weight", (f"{theirs}.token_type_embeddings.weight",)))
    return found


def _bert_body(root: str, config: EncoderConfig, skip: int = 0) -> list[Entry]:
    found = _embeddings(f"{root}.embeddings", config, skip)
    for index in range(config.layers):
        ours, theirs = f"encoder.stack.blocks.{index}", f"{root}.encoder.layer.{index}"
        found += three_as_one(f"{ours}.attention.qkv", f"{theirs}.attention.self")
        found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm")
        found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.intermediate.dense")
        found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.output.dense")
        found += weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.output.LayerNorm")
    return found


def _output(theirs: str, config: EncoderConfig) -> list[Entry]:
    """The output layer: its own, or the word embeddings with a bias."""
    if config.tie_embeddings:
        return [Entry("bias", (f"{theirs}.bias",))]
    return [
        Entry("decoder.weight", (f"{theirs}.decoder.weight",)),
        Entry("bias", (f"{theirs}.decoder.bias",)),
    ]


def _bert(config: EncoderConfig) -> list[Entry]:
    found = _bert_body("bert", config)
    found += weight_and_bias("transform", "cls.predictions.transform.dense")
    found += weight_and_bias("norm", "cls.predictions.transform.LayerNorm")
    found += _output("cls.predictions", config)
    if config.pair:
        found += weight_and_bias("pooler", "bert.pooler.dense") + weight_and_bias(
            "pair", "cls.seq_relationship"
        )
    return found


def _roberta_body(config: EncoderConfig) -> list[Entry]:
    # Their positions start behind the padding id: rows 0 .. pad_id of the table are never used.
    return _bert_body("roberta", config, skip=(config.pad_id or 0) + 1)


def _electra_body(config: EncoderConfig) -> list[Entry]:
    found = _bert_body("electra", config)
    if config.embedding_width is not None:
        found += weight_and_bias("encoder.embeddings.projection", "electra.embeddings_project")
    return found


def _distilbert_body(config: EncoderConfig) -> list[Entry]:
    found = _embeddings("distilbert.embeddings", config)
    for index in range(config.layers):
        ours, theirs = f"encoder.stack.blocks.{index}", f"distilbert.transformer.layer.{index}"
        parts = ("q_lin", "k_lin", "v_lin")
        found += three_as_one(f"{ours}.attention.qkv", f"{theirs}.attention", parts)
        found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attention.out_lin")
        found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.sa_layer_norm")
        found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.ffn.lin1")
        found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.ffn.lin2")
        found += weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.output_layer_norm")
    return found


def _roberta(config: EncoderConfig) -> list[Entry]:
    found = _roberta_body(config)
    found += weight_and_bias("transform", "lm_head.dense") + weight_and_bias("norm", "lm_head.layer_norm")
    found += _output("lm_head", config)
    return found


def _albert_body(config: EncoderConfig) -> list[Entry]:
    ours, theirs = "encoder.stack.blocks.0", "albert.encoder.albert_layer_groups.0.albert_layers.0"
    found = _embeddings("albert.embeddings", config)
    found += weight_and_bias("encoder.embeddings.projection", "albert.encoder.embedding_hidden_mapping_in")
    found += three_as_one(f"{ours}.attention.qkv", f"{theirs}.attention")
    found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attention.dense")
    found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.attention.LayerNorm")
    found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.ffn")
    found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.ffn_output")
    return found + weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.full_layer_layer_norm")


def _albert(config: EncoderConfig) -> list[Entry]:
    found = _albert_body(config)
    found += weight_and_bias("transform", "predictions.dense") + weight_and_bias(
        "norm", "predictions.LayerNorm"
    )
    found += _output("predictions", config)
    if config.pair:
        found += weight_and_bias("pooler", "albert.pooler") + weight_and_bias(
            "pair", "sop_classifier.classifier"
        )
    return found


def _gpt2(config: DecoderConfig) -> list[Entry]:
    found = [
        Entry("embeddings.word.weight", ("transformer.wte.weight",)),
        Entry("embeddings.position.weight", ("transformer.wpe.weight",)),
        *weight_and_bias("stack.norm", "transformer.ln_f"),
    ]
    for index in range(config.layers):
        ours, theirs = f"stack.blocks.{index}", f"transformer.h.{index}"
        found += weight_and_bias(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", transposed=True)
        found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attn.c_proj", transposed=True)
        found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.ln_1")
        found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.mlp.c_fc", transposed=True)
        found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.mlp.c_proj", transposed=True)
        found += weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.ln_2")
    if not config.tie_embeddings:
        found.append(Entry("decoder.weight", ("lm_head.weight",)))
    return found


def _modernbert_body(config: EncoderConfig) -> list[Entry]:
    bias = config.bias
    found = [
        Entry("encoder.embeddings.word.weight", ("model.embeddings.tok_embeddings.weight",)),
        *weight_and_bias("encoder.embeddings.norm", "model.embeddings.norm", bias=bias),
        *weight_and_bias("encoder.stack.norm", "model.final_norm", bias=bias),
    ]
    for index in range(config.layers):
        ours, theirs = f"encoder.stack.blocks.{index}", f"model.layers.{index}"
        found += weight_and_bias(f"{ours}.attention.qkv", f"{theirs}.attn.Wqkv", bias=bias)
        found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attn.Wo", bias=bias)
        found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.mlp.Wi", bias=bias)
        found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.mlp.Wo", bias=bias)
        found += weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.mlp_norm", bias=bias)
        if index:
            found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.attn_norm", bias=bias)
    return found


def _modernbert(config: EncoderConfig) -> list[Entry]:
    found = [
        *_modernbert_body(config),
        *weight_and_bias("transform", "head.dense", bias=config.bias),
        *weight_and_bias("norm", "head.norm", bias=config.bias),
        Entry("bias", ("decoder.bias",)),
    ]
    if not config.tie_embeddings:
        found.append(Entry("decoder.weight", ("decoder.weight",)))
    return found


_TABLES = {"bert": _bert, "roberta": _roberta, "albert": _albert, "gpt2": _gpt2, "modernbert": _modernbert}


def weight_names(model_type: str, config: EncoderConfig | DecoderConfig) -> list[Entry]:
    """Every weight of a model of ``config``, and where ``model_type`` (their name of the family) keeps it."""
    return _TABLES[model_type](config)


def _bert_alone(config: EncoderConfig) -> list[Entry]:
    return _bert_body("bert", config)


_BODIES = {
    "bert": _bert_alone,
    "roberta": _roberta_body,
    "camembert": _roberta_body,
    "xlm-roberta": _roberta_body,
    "albert": _albert_body,
    "distilbert": _distilbert_body,
    "electra": _electra_body,
    "modernbert": _modernbert_body,
}
_ROBERTA_HEAD = ("roberta", "classifier.dense", "classifier.out_proj")
_HEADS = {
    "bert": ("bert", "bert.pooler.dense", "classifier"),
    "roberta": _ROBERTA_HEAD,
    "camembert": _ROBERTA_HEAD,
    "xlm-roberta": _ROBERTA_HEAD,
    "albert": ("albert", "albert.pooler", "classifier"),
    "distilbert": ("distilbert", "pre_classifier", "classifier"),
    "electra": ("electra", "classifier.dense", "classifier.out_proj"),
    "modernbert": ("model", "head.dense", "classifier"),
}
"""Where each family keeps the encoder, and the two layers of its head of whole sequences."""

ENCODERS = tuple(_BODIES)
"""Families, by their ``model_type``, whose encoder is one of ours."""


def root_of(model_type: str) -> str:
    """First part of the names of the encoder's weights."""
    return _HEADS[model_type][0]


def encoder_names(model_type: str, config: EncoderConfig) -> list[Entry]:
    """Every weight of an encoder, with ``encoder.`` in front of our names."""
    return _BODIES[model_type](config)


def pooler_names(model_type: str, config: EncoderConfig) -> list[Entry]:
    """What a pre-trained model holds beyond its encoder that a head can start from; ours is ``head``."""
    if model_type in ("bert", "albert"):
        return weight_and_bias("head.dense", _HEADS[model_type][1])
    if model_type == "modernbert":
        bias = config.bias
        return [
            *weight_and_bias("head.dense", "head.dense", bias=bias),
            *weight_and_bias("head.norm", "head.norm", bias=bias),
        ]
    return []


def head_names(model_type: str, config: EncoderConfig, task: str) -> list[Entry]:
    """Every weight of the head that ``task`` (sequence, token or span) has in this family."""
    _, dense, out = _HEADS[model_type]
    found = []
    if model_type == "modernbert":
        found = pooler_names(model_type, config)
    elif task == "sequence":
        found = weight_and_bias("head.dense", dense)
    if task != "sequence":
        out = "qa_outputs" if task == "span" and model_type != "modernbert" else "classifier"
    return [*found, *weight_and_bias("head.out", out)]


def to_huggingface(
    model_type: str, config: EncoderConfig | DecoderConfig, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Our state dict under their names, for ``model_type``'s file."""
    kv = (config.kv_heads or config.heads) * config.head_dim
    found: dict[str, Tensor] = {}
    for entry in weight_names(model_type, config):
        found |= entry.give(state[entry.ours], (config.heads * config.head_dim, kv, kv))
    return found
