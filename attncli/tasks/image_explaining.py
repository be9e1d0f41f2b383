"""Why a run says what it says of a picture: attention over its patches, rollout and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attncli.attention import record
from attncli.data.images.reading import Pixels
from attncli.errors import DataError, Problem
from attncli.layers.pooling import AttentionPooling
from attncli.models.vision.swin import SwinModel, spread_windows
from attncli.tasks.classify import predicted
from attncli.tasks.image_classify import ImageClassifyTask

Maps = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Looked:
    """What was predicted of a picture, and what the model can be asked."""

    image: Pixels
    """[H, W, C] as the model sees it."""
    predicted: list[tuple[str, str]]
    output: str
    """Which output is explained: the likeliest."""
    grid: tuple[int, int]
    """Of the tokens that the pixels become."""
    prefix: int
    """Tokens before the grid's."""
    maps: Maps
    """Attention of each layer between all tokens [H, T, T]; empty where the mechanism has no weights, or
    where layers look inside windows."""
    reads: np.ndarray
    """[T]: how much of each token of the last layer the output reads; it adds up to 1."""
    windows: list[np.ndarray]
    """Of layers that look inside windows: how much each place is looked at, [H, R, S] of the layer's grid."""
    score: Callable[[], Tensor]
    """Runs the model and gives the output that is explained."""
    embedding: nn.Module
    """Makes the grid's tokens [1, N, C]."""


def look(task: ImageClassifyTask, path: Path) -> Looked:
    """Everything that ``inspect`` shows of a picture; DataError for a file that cannot be decoded."""
    examples, wrong = task.read([path])
    if wrong:
        raise DataError(Problem(wrong[0], str(path)))
    image = examples.pictures.read(0)
    device = next(task.model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device)
    inputs = task.inputs({"images": pixels})
    model = task.model
    with torch.no_grad():
        logits = model(**inputs).float()
    rows, output, name, _ = predicted(task, logits)

    def score() -> Tensor:
        return model(**inputs).float()[0, output]

    if isinstance(model, SwinModel):
        grid, tokens = model.config.grids[0], model.embeddings.tokens
        return Looked(image, rows, name, grid, 0, [], np.zeros(0), _windows(model, inputs), score, tokens)
    encoder = model.config.encoder
    maps, pooled = _recorded(model, inputs)
    grid, tokens = (encoder.grid[0], encoder.grid[1]), model.encoder.embeddings.tokens
    return Looked(image, rows, name, grid, encoder.prefix, maps, _reads(task, pooled), [], score, tokens)


def _windows(model: SwinModel, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    layers = model.windows()
    if not all(layer.attention.mechanism.support.weights for _, layer, _ in layers):
        return []
    with torch.no_grad(), record(model) as recorded:
        model(**inputs)
    weights = dict(recorded.weights)
    return [spread_windows(weights[name], layer, grid).float().cpu().numpy() for name, layer, grid in layers]


def _recorded(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Maps, np.ndarray | None]:
    """Maps of the layers, and the weights [N] of pooling by attention."""
    if not all(m.mechanism.support.weights for m in model.modules() if hasattr(m, "mechanism")):
        return [], None
    with torch.no_grad(), record(model) as recorded:
        model(**inputs)
    pools = {name for name, module in model.named_modules() if isinstance(module, AttentionPooling)}
    found = [(name, weights[0].float().cpu().numpy()) for name, weights in recorded.weights]
    pooled = next((weights[0, 0] for name, weights in found if name in pools), None)
    return [(name, weights) for name, weights in found if name not in pools], pooled


def _reads(task: ImageClassifyTask, pooled: np.ndarray | None) -> np.ndarray:
    encoder, config = task.model.config.encoder, task.model.config
    found = np.zeros(encoder.length)
    if config.class_token:
        found[0] = 1.0
    elif pooled is not None:
        found[encoder.prefix :] = pooled
    else:
        found[encoder.prefix :] = 1 / (encoder.length - encoder.prefix)
    return found
