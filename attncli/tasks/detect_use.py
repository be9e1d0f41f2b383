"""What a detector attends to in one picture: scales, places, other regions or queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncli.attention import record
from attncli.attention.images import DeformableAttention
from attncli.data.images.reading import Pixels
from attncli.metrics.detection import Found
from attncli.models.vision.detection.detections import Detections
from attncli.models.vision.detection.detr import Detr
from attncli.ops.boxes import cornered
from attncli.recipe.detect import DetectEvaluate
from attncli.tasks.detect import DetectTask
from attncli.tasks.detect_results import unscaled

_SHOWN = 8
"""Detections whose links and points are drawn, the surest."""


class Heat(NamedTuple):
    """How much each place counts, over the picture."""

    name: str
    values: NDArray[np.float32]
    """[h, w], over the whole frame's part that the picture fills."""


class Bars(NamedTuple):
    """How much of each channel passes."""

    name: str
    values: NDArray[np.float32]


class Links(NamedTuple):
    """How much each detection attends to other boxes."""

    name: str
    boxes: NDArray[np.float64]
    """[K, 4], in the picture's pixels."""
    source: NDArray[np.int64]
    """[F]: the box that each detection comes from."""
    weights: NDArray[np.float32]
    """[F, K], a row sums to 1 over real boxes."""


class Points(NamedTuple):
    """Places that each detection looks at."""

    name: str
    places: NDArray[np.float64]
    """[F, N, 2]: x, y in the picture's pixels."""
    weights: NDArray[np.float32]
    """[F, N]."""


Panel = Heat | Bars | Links | Points


@dataclass
class Looked:
    """A picture, what was found in it, and what the model attended to."""

    found: Found
    proposals: NDArray[np.float64]
    """[K, 4]: regions or first queries, the likeliest first, in the picture's pixels."""
    likely: NDArray[np.float64]
    """[K]: their scores."""
    panels: list[Panel] = field(default_factory=list)


@torch.no_grad()
def look(task: DetectTask, image: Pixels, threshold: float) -> Looked:
    """Detect in ``image`` with a score of ``threshold`` and more, and keep what was attended to."""
    device = next(task.model.parameters()).device
    batch = task.prepared([image])
    images, sizes = batch["images"].to(device), batch["sizes"].to(device)
    scale = float(batch["scales"][0])
    settings = task.recipe.evaluate.model_copy(update={"least": threshold})
    reader = _Queries if isinstance(task.model, Detr) else _Regions
    return reader(task.model, images, sizes, scale).look(settings)


class _Reader:
    """What both families share."""

    def __init__(self, model: Any, images: Tensor, sizes: Tensor, scale: float) -> None:
        self.model, self.images, self.sizes, self.scale = model, images, sizes, scale
        self.frame = images.shape[2:]
        self.panels: list[Panel] = []

    def heat(self, name: str, values: Tensor) -> None:
        """[h, w] of the frame as a panel of the picture's part of it."""
        rows, columns = (
            -(-int(side) * have // whole)
            for side, have, whole in zip(self.sizes[0], values.shape, self.frame, strict=True)
        )
        self.panels.append(Heat(name, values[:rows, :columns].float().cpu().numpy()))

    def gates(self, maps: list[tuple[str, Tensor]]) -> None:
        """Recorded factors of channels and places."""
        for name, factor in maps:
            if factor.shape[1] == 1 and factor[0, 0].numel() > 1:
                self.heat(name, factor[0, 0])
            else:
                self.panels.append(Bars(name, factor[0].flatten().float().cpu().numpy()))

    def own(self, boxes: Tensor) -> NDArray[np.float64]:
        """Boxes of the frame in the picture's pixels."""
        return (boxes.double() / self.scale).cpu().numpy()

    def links(self, name: str, weights: Tensor, boxes: Tensor, source: Tensor) -> None:
        """Weights [H, K, K] between ``boxes`` [K, 4] as links of the detections that come from ``source``."""
        chosen = source[:_SHOWN]
        mean = weights.float().mean(0)[chosen].cpu().numpy()
        self.panels.append(Links(name, self.own(boxes), chosen.cpu().numpy(), mean))


class _Regions(_Reader):
    """Of two stages."""

    def look(self, settings: DetectEvaluate) -> Looked:
        model = self.model
        with record(model) as seen:
            maps, regions = model.propose(self.images, self.sizes)
            found: Detections = model.regions.detect(maps, regions, self.sizes, settings)[0]
        self.gates(seen.maps)
        levels = list(maps)
        scales = [weights for name, weights in seen.weights if name == "pyramid.fusion"]
        for row, weights in enumerate(scales):
            height, width = maps[levels[row]].shape[2:]
            for column in range(weights.shape[-1]):
                share = weights[0, :, :, column].mean(0).view(height, width)
                self.heat(f"stride {2 ** levels[row]} looks at stride {2 ** levels[column]}", share)
        whole = maps[max(levels)].shape[2:]
        wide = [weights for name, weights in seen.weights if name == "proposals.attention.attend"]
        for level, weights in zip(levels, wide, strict=False):
            self.heat(f"places of stride {2**level} look at", weights[0].mean((0, 1)).view(*whole))
        for name, weights in seen.weights:
            if name.startswith("regions.relations."):
                self.links(
                    f"relation {int(name.split('.')[2]) + 1}", weights[0], regions.boxes[0], found.source
                )
        there = regions.there[0]
        likely = regions.scores[0][there].double().cpu().numpy()
        return Looked(unscaled(found, self.scale), self.own(regions.boxes[0][there]), likely, self.panels)


class _Queries(_Reader):
    """Of set prediction."""

    def look(self, settings: DetectEvaluate) -> Looked:
        model = self.model
        with record(model) as seen, _sampled(model) as sampled:
            scene = model.scene(self.images, self.sizes)
            answers, _ = model(scene)
            found: Detections = model.chosen(answers[-1], self.frame, self.sizes, settings)[0]
        self.gates(seen.maps)
        source = found.source[:_SHOWN]
        whole = found.boxes.new_tensor([*self.frame[::-1], *self.frame[::-1]])
        boxes = cornered(answers[-1][1][0]) * whole
        for name, weights in seen.weights:
            part, number, *rest = name.split(".")
            if part == "decoder" and rest == ["attend"]:
                self.links(f"queries, layer {int(number) + 1}", weights[0], boxes, found.source)
            elif rest[:1] == ["sight"]:
                self._sight(f"{part} layer {int(number) + 1}", weights[0], scene.sizes, source, part)
        for name, (places, weights) in sampled.items():
            part, number = name.split(".")[:2]
            if part == "decoder":
                at = places[0][source].flatten(1, -2) * whole[:2]  # [F, N, 2]
                share = weights[0][source]
                title = f"points of layer {int(number) + 1}"
                self.panels.append(Points(title, self.own(at), share.flatten(1).float().cpu().numpy()))
        first = cornered(answers[1][1][0]) * whole
        likely = answers[1][0][0].sigmoid().amax(-1)
        order = likely.argsort(descending=True)
        return Looked(
            unscaled(found, self.scale),
            self.own(first[order]),
            likely[order].double().cpu().numpy(),
            self.panels,
        )

    def _sight(self, name: str, weights: Tensor, sizes: Any, source: Tensor, part: str) -> None:
        """Weights [H, Q, S] over the places of all maps, of the detections' queries, map by map."""
        mean = weights.float().mean(0)
        mean = mean[source].mean(0) if part == "decoder" and len(source) else mean.mean(0)
        start = 0
        for height, width in sizes:
            stop = start + height * width
            self.heat(f"{name} looks at, {height}x{width}", mean[start:stop].view(height, width))
            start = stop


@contextmanager
def _sampled(model: Any) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Places [B, Q, H, L, P, 2], in shares, and weights [B, Q, H, L, P] of every deformable attention."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, DeformableAttention):

            def keep(module: DeformableAttention, inputs: tuple, output: Tensor, name: str = name) -> None:
                x, reference, _, sizes = inputs[:4]
                shape = *x.shape[:2], module.heads, module.levels, module.points
                weights = module.weight(x).float().view(*shape[:3], -1).softmax(-1).view(shape)
                offsets = module.offset(x).float().view(*shape, 2)
                found[name] = module._places(offsets, reference.float(), sizes), weights

            hooks.append(module.register_forward_hook(keep))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
