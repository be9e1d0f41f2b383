"""Why a run says what it says of a video: which frames counted, and which regions of them.

Legend: S scales, T frames and P moments (tubelets) of a clip, N tokens of a moment, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attncli.attention import record
from attncli.data.clips.rows import ClipRows
from attncli.data.clips.sampling import sample
from attncli.errors import DataError, Problem
from attncli.layers.pooling import AttentionPooling
from attncli.models.vision.video_config import VideoConfig
from attncli.tasks.classify import predicted
from attncli.tasks.video_classify import VideoTask


@dataclass(frozen=True)
class WatchedClip:
    """One clip of a video at one scale, as the model sees it."""

    frames: np.ndarray
    """uint8 [T, H, W, C]; T is P times the frames of a moment."""
    numbers: list[int]
    """Their numbers in the video, from 0."""
    there: np.ndarray
    """bool [P], False for padding."""
    stride: int


@dataclass(frozen=True)
class WatchedPass:
    """One pass of the model: a clip at every scale."""

    scales: list[WatchedClip]
    weights: list[tuple[str, np.ndarray]]
    """Of the layers of attention [rows, H, T, T]; empty where the mechanism has none."""
    pools: dict[str, np.ndarray]
    """Of what pools by attention [rows, 1, 1, T]."""
    score: Callable[[], Tensor]
    """Runs the model on the clip and gives the output that is explained."""


@dataclass(frozen=True)
class Watched:
    """What was predicted of a video, and what its clips are to the model."""

    predicted: list[tuple[str, str]]
    output: str
    """Which output is explained: the likeliest."""
    clips: list[WatchedPass]
    config: VideoConfig
    embedding: nn.Module
    """Makes the tokens [S P, N, C] of a clip."""


def watch(task: VideoTask, path: Path) -> Watched:
    """Everything that ``inspect`` shows of a video; DataError for one that cannot be decoded."""
    examples, wrong = task.read([path])
    if wrong:
        raise DataError(Problem(wrong[0], str(path)))
    logits, _ = task._logits(examples)
    rows, output, name, _ = predicted(task, torch.from_numpy(logits))
    clip, config = task.recipe.clip, task.model.config
    places = task.evaluation_batches(examples).examples
    assert isinstance(places, ClipRows)
    found = []
    for row, (video, place) in enumerate(places.spread or []):
        batch = places.make(np.array([row]), np.random.default_rng(0))
        numbers = sample(examples.videos.frames(video), clip.frames, clip.stride, place).numbers
        keep = batch.get("keep", np.ones((1, len(numbers)), bool))[0]
        inputs = _inputs(task, batch)
        weights, pools = _recorded(task.model, inputs)
        scales = _scales(config, batch["clips"][0], numbers, keep, clip.stride)
        found.append(WatchedPass(scales, weights, pools, _score(task, inputs, output)))
    return Watched(rows, name, found, config, task.model.tokens)


def _score(task: VideoTask, inputs: dict[str, Tensor], output: int) -> Callable[[], Tensor]:
    return lambda: task.model(**inputs).float()[0, output]


def _inputs(task: VideoTask, batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    device = next(task.model.parameters()).device
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(batch[name]))
        for name in ("clips", "keep")
        if name in batch
    }
    return task.inputs({name: tensor.to(device) for name, tensor in tensors.items()})


def _scales(
    config: VideoConfig, pixels: np.ndarray, numbers: np.ndarray, keep: np.ndarray, strides: list[int]
) -> list[WatchedClip]:
    """A clip [S T, C, H, W] scale by scale."""
    found = []
    for scale, stride in enumerate(strides):
        frames = slice(scale * config.frames, (scale + 1) * config.frames)
        chosen = np.arange(frames.start, frames.stop)
        there = keep[frames].reshape(-1, config.tubelet).any(1)
        if config.space_time == "frame":
            chosen, there = chosen[int(keep[frames].sum()) // 2 :][:1], np.ones(1, bool)
        shown = pixels[chosen].transpose(0, 2, 3, 1)
        found.append(WatchedClip(shown, numbers[chosen].tolist(), there, stride))
    return found


def _recorded(
    model: nn.Module, inputs: dict[str, Tensor]
) -> tuple[list[tuple[str, np.ndarray]], dict[str, np.ndarray]]:
    """Weights of the layers, and of what pools."""
    if not all(m.mechanism.support.weights for m in model.modules() if hasattr(m, "mechanism")):
        return [], {}
    with torch.no_grad(), record(model) as recorded:
        model(**inputs)
    pools = {name for name, module in model.named_modules() if isinstance(module, AttentionPooling)}
    found = [(name, weights.double().cpu().numpy()) for name, weights in recorded.weights]
    return [one for one in found if one[0] not in pools], {n: w for n, w in found if n in pools}
