"""How a pre-trained encoder is adapted: what learns, at which rate, and what is drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from attncli.errors import Problem, RecipeError
from attncli.layers import initialise
from attncli.layers.lora import add_low_rank, merge_low_rank, merged_state
from attncli.models.text import TextModel
from attncli.recipe.text import EncoderModel

__all__ = ["adapt", "layer_groups", "merge_low_rank", "merged_state", "parameter_groups", "reset_layers"]


def adapt(model: TextModel, section: EncoderModel) -> None:
    """Reset, freeze and put low-rank updates into ``model`` as the recipe says. Once, before training.

    What does not learn has ``requires_grad`` off, and no gradient is computed below the lowest weight that
    does. With ``section.lora`` only the low-rank updates and what is outside the encoder learn.

    Raises:
        RecipeError: more layers than there are, or single layers of an encoder whose layers are one.
    """
    _check(model, section)
    if section.reset_layers:
        reset_layers(model, section.reset_layers)
    encoder = model.encoder
    if section.freeze_layers or section.freeze_embeddings or section.lora:
        encoder.embeddings.requires_grad_(False)
    for index in range(section.freeze_layers):
        encoder.stack.block(index).requires_grad_(False)
    if section.lora:
        encoder.requires_grad_(False)
        add_low_rank(encoder.stack.blocks, section.lora, section.lora_alpha)


def _check(model: TextModel, section: EncoderModel) -> None:
    stack = model.encoder.stack
    problems = []
    for name in ("reset_layers", "freeze_layers"):
        count = getattr(section, name)
        if count > stack.depth:
            problems.append(Problem(f"model.{name}={count}: the encoder has {stack.depth} layers"))
        elif 0 < count < stack.depth and len(stack.blocks) < stack.depth:
            hint = f"0 or {stack.depth} layers are possible"
            what = f"model.{name}={count}: the encoder's {stack.depth} layers share one set of weights"
            problems.append(Problem(what, hint=hint))
    if problems:
        raise RecipeError(*problems)


def reset_layers(model: TextModel, count: int) -> None:
    """Draw the ``count`` highest layers anew, and the head's first layer, which may be the base's pooler.

    Zhang et al. 2021, "Revisiting Few-sample BERT Fine-tuning", https://arxiv.org/abs/2006.05987
    """
    config, stack = model.config.encoder, model.encoder.stack
    chosen = list(stack.blocks) if len(stack.blocks) < stack.depth else stack.blocks[stack.depth - count :]
    for module in [*chosen, model.head]:
        for part in module.modules():
            if not isinstance(part, nn.Linear | nn.Embedding) and hasattr(part, "reset_parameters"):
                part.reset_parameters()
        initialise(module, cutoff=config.init_cutoff)
    if config.init_scale_residual:
        for block in chosen:
            for linear in (block.attention.out, block.feed_forward.contract):
                linear.weight.data.mul_((2 * stack.depth) ** -0.5)


def layer_groups(model: TextModel) -> list[tuple[str, list[nn.Parameter]]]:
    """All parameters that learn, from the input to the output: embeddings, each layer, head.

    Each stands in the first group that uses it. Layers that share weights are one group.
    """
    encoder = model.encoder
    parts: list[tuple[str, Sequence[nn.Module]]] = [("embeddings", [encoder.embeddings])]
    parts += [(f"layer {index}", [block]) for index, block in enumerate(encoder.stack.blocks)]
    parts += [("head", [model])]
    if encoder.stack.norm is not None:
        parts[-2] = (parts[-2][0], [*parts[-2][1], encoder.stack.norm])
    seen: set[int] = set()
    found = []
    for name, modules in parts:
        group = []
        for module in modules:
            for parameter in module.parameters():
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    group.append(parameter)
        found.append((name, group))
    return found


def parameter_groups(
    model: TextModel,
    *,
    layer_decay: float = 1.0,
    head_rate: float = 1.0,
    hidden: Sequence[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Groups for the optimiser, as ``Task.parameter_groups`` documents them.

    The highest layer learns at the learning rate, each layer below it at ``layer_decay`` times the rate of
    the one above (Sun et al. 2019, https://arxiv.org/abs/1905.05583), the embeddings as a layer below the
    first, and what is outside the encoder at ``head_rate`` times the learning rate. Weight decay is on
    tensors of two dimensions and more. ``hidden``: matrices that Muon may take.

    Raises:
        RecipeError: a layer decay for layers that share their weights.
    """
    stack = model.encoder.stack
    if layer_decay != 1.0 and len(stack.blocks) < stack.depth:
        what = f"train.layer_decay={layer_decay}: the encoder's {stack.depth} layers share one set of weights"
        raise RecipeError(Problem(what, hint="only 1 is possible"))
    parts = layer_groups(model)
    top = len(parts) - 2
    muon = {id(parameter) for parameter in hidden}
    merged: dict[tuple[float, str], list[nn.Parameter]] = {}
    for index, (name, parameters) in enumerate(parts):
        scale = head_rate if name == "head" else layer_decay ** (top - index)
        for parameter in parameters:
            kind = "muon" if id(parameter) in muon else "matrix" if parameter.ndim >= 2 else "vector"
            merged.setdefault((scale, kind), []).append(parameter)
    more = {"muon": {"muon": True}, "matrix": {}, "vector": {"weight_decay": 0.0}}
    return [
        {"params": found, "scale": scale, **more[kind]} for (scale, kind), found in merged.items() if found
    ]
