"""A model's weights as safetensors: tied ones once, and every mismatch named at once."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from attncli.errors import CheckpointError, Problem

_SHOWN = 6


def write_weights(path: Path, model: nn.Module, replaced: dict[str, Tensor] | None = None) -> None:
    """Write the state of ``model``; ``replaced`` values (averages) stand in for parameters of that name.

    A tensor with several names (tied embeddings) is written under the first, the others are noted.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in names:
            aliases[name] = names[id(tensor)]
        else:
            names[id(tensor)] = name
            tensors[name] = tensor
    tensors.update(replaced or {})
    save_tensors(path, tensors, {"aliases": json.dumps(aliases)})


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """Write ``tensors`` as they are, in safetensors."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata=notes)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of ``path``, aliases included; :class:`CheckpointError` when it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            aliases = json.loads((opened.metadata() or {}).get("aliases", "{}"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return tensors | {alias: tensors[name] for alias, name in aliases.items() if name in tensors}


def restore_weights(model: nn.Module, tensors: dict[str, Tensor], place: str) -> None:
    """Copy ``tensors`` into ``model``, in place.

    :class:`CheckpointError` lists all names that are missing or unexpected and all shapes that differ;
    the model is then unchanged.
    """
    wanted = model.state_dict(keep_vars=True)
    problems = []
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    shapes = [
        f"{name} is {_shape(tensors[name])}, the model has {_shape(wanted[name])}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    for title, found in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes)):
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            problems.append(Problem(f"{title}: {', '.join(found[:_SHOWN])}{more}"))
    if problems:
        raise CheckpointError(f"{place} holds the weights of another model", *problems)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
