"""Detection as set prediction: queries become boxes, each object by one of them, with no suppression.

Carion et al. 2020, https://arxiv.org/abs/2005.12872. Over maps of several scales with boxes refined layer by
layer and queries that begin at the likeliest places (Deformable DETR, Zhu et al. 2020,
https://arxiv.org/abs/2010.04159), boxes as queries' codes (DAB-DETR, Liu et al. 2022,
https://arxiv.org/abs/2201.12329) and denoising (DN-DETR, Li et al. 2022, https://arxiv.org/abs/2203.01305):
what lets it learn from few pictures, without pre-training.

Legend: B pictures, S places of all maps, Q queries, N noised ones, C width, M objects.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attncli.attention import Dense
from attncli.models.vision.detection.anchors import on_ignored
from attncli.models.vision.detection.coded import map_code, sine_code
from attncli.models.vision.detection.denoising import Noised, noised
from attncli.models.vision.detection.detections import Detections, Objects, object_counts, some
from attncli.models.vision.detection.detr_layers import DecoderLayer, EncoderLayer, Scene
from attncli.models.vision.detection.matching import match, set_losses
from attncli.models.vision.detection.resnet import ResNet, build_norm2d
from attncli.ops.boxes import centred, clip, cornered
from attncli.ops.nms import nms
from attncli.recipe.detect import DetectEvaluate, DetrModel

_PRIOR = 0.01
_BEGIN = 0.05
"""Side of a box at a place of the finest map before anything is learnt, in shares of the frame."""


class Detr(nn.Module):
    """Backbone, encoder, decoder; weights are drawn from PyTorch's generator."""

    def __init__(self, section: DetrModel, classes: int) -> None:
        super().__init__()
        self.section, self.classes = section, classes
        width, backbone = section.width, section.backbone
        self.backbone = ResNet(
            backbone.kind,
            width=backbone.width,
            norm=backbone.norm,
            attention=backbone.attention,
            highest=section.highest,
        )
        self.levels = list(range(section.lowest, section.highest + 1))
        self.project = nn.ModuleDict()
        for level in self.levels:
            inside = level in self.backbone.channels
            inputs = self.backbone.channels[level] if inside else width
            conv = nn.Conv2d(inputs, width, 1) if inside else nn.Conv2d(width, width, 3, 2, 1)
            self.project[str(level)] = nn.Sequential(conv, build_norm2d("group", width))
        coded = section.encoder > 0 or section.sight == "full"  # else nothing reads where a map stands
        self.level_code = nn.Parameter(torch.zeros(len(self.levels), width), requires_grad=coded)
        self.encoder = nn.ModuleList(EncoderLayer(section, len(self.levels)) for _ in range(section.encoder))
        self.decoder = nn.ModuleList(DecoderLayer(section, len(self.levels)) for _ in range(section.decoder))
        self.place_norm = nn.LayerNorm(width)
        self.query = nn.Embedding(section.queries, width)
        self.noise = nn.Embedding(classes, width)
        self.code = _perceptron(2 * width, width, width)
        # the places' own, then one for each layer
        self.kind = nn.ModuleList(nn.Linear(width, classes) for _ in range(section.decoder + 1))
        self.box = nn.ModuleList(_perceptron(width, width, 4) for _ in range(section.decoder + 1))
        self.initialise()
        self.to(memory_format=torch.channels_last)

    def initialise(self) -> None:
        """Scores begin low, boxes where their reference is."""
        for embedding in (self.query, self.noise):
            nn.init.normal_(embedding.weight, std=0.02 * math.sqrt(self.section.width))
        nn.init.normal_(self.level_code)
        for kind, box in zip(self.kind, self.box, strict=True):
            kind.muon = box[-1].muon = False  # type: ignore[assignment,union-attr]  # output layers
            nn.init.constant_(kind.bias, -math.log(1 / _PRIOR - 1))
            nn.init.zeros_(box[-1].weight)  # type: ignore[index]
            nn.init.zeros_(box[-1].bias)  # type: ignore[index]

    # What is seen

    def scene(self, images: Tensor, sizes: Tensor) -> Scene:
        """Places of all maps of ``images`` uint8 [B, 3, H, W], of which pictures fill ``sizes`` [B, 2]."""
        frame = images.shape[2:]
        maps = self.backbone(images)
        tokens, codes, centres, shapes = [], [], [], []
        x = maps[max(maps)]
        for number, level in enumerate(self.levels):
            x = self.project[str(level)](maps.get(level, x))
            height, width = x.shape[2:]
            tokens.append(x.permute(0, 2, 3, 1).flatten(1, 2))
            codes.append(map_code(height, width, x.shape[1], x.device) + self.level_code[number])
            row = (torch.arange(height, device=x.device) + 0.5) / height
            column = (torch.arange(width, device=x.device) + 0.5) / width
            grid = torch.meshgrid(row, column, indexing="ij")
            centres.append(torch.stack([grid[1], grid[0]], -1).flatten(0, 1))
            shapes.append((height, width))
        centre = torch.cat(centres)
        share = sizes.flip(1).to(centre) / centre.new_tensor([frame[1], frame[0]])  # [B, 2]: x, y
        keep = (centre.unsqueeze(0) < share.unsqueeze(1)).all(-1)
        padded = bool((sizes < sizes.new_tensor(frame)).any())
        scene = Scene(torch.cat(tokens, 1), torch.cat(codes), centre, shapes, keep, padded)
        for layer in self.encoder:
            scene.tokens = layer(scene)
        return scene

    def _starts(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """What the places themselves say: logits [B, S, classes], boxes [B, S, 4]."""
        x = self.place_norm(scene.tokens)
        sides = torch.cat(
            [
                scene.centres.new_full((height * width, 2), _BEGIN * 2.0**number)
                for number, (height, width) in enumerate(scene.sizes)
            ]
        ).clamp(max=0.9)
        start = torch.cat([scene.centres, sides], -1)
        boxes = refined(self.box[0](x).float(), start)
        logits = self.kind[0](x).float().masked_fill(~scene.keep.unsqueeze(-1), -20.0)
        return logits, boxes

    def forward(
        self, scene: Scene, objects: tuple[Tensor, Tensor] | None = None
    ) -> tuple[list[tuple[Tensor, Tensor]], Noised | None]:
        """Logits and boxes (centre and sides, in shares) of places, then of each layer's queries.

        ``objects``: labels int64 [B, M] and boxes [B, M, 4] that noised queries are made of; they stand
        before the others.
        """
        logits, boxes = self._starts(scene)
        found = [(logits, boxes)]
        batch, queries = len(logits), min(self.section.queries, logits.shape[1])
        best = logits.detach().amax(-1).topk(queries, 1).indices
        reference = boxes.detach().gather(1, best.unsqueeze(-1).expand(-1, -1, 4))
        x = self.query(torch.arange(queries, device=logits.device)).expand(batch, -1, -1)
        made, mask = None, None
        if objects is not None and self.section.denoising and objects[0].shape[1]:
            made = noised(*objects, self.section.denoising, self.classes, queries)
            x = torch.cat([self.noise(made.labels), x], 1)
            reference = torch.cat([made.boxes, reference], 1)
            mask = Dense(made.allowed)
        for number, layer in enumerate(self.decoder, 1):
            code = self.code(sine_code(reference, 2 * self.section.width))
            x = layer(x, code, reference, scene, mask)
            boxes = refined(self.box[number](x).float(), reference)
            found.append((self.kind[number](x).float(), boxes))
            reference = boxes.detach()
        return found, made

    # Learning

    def losses(self, images: Tensor, sizes: Tensor, objects: Objects) -> dict[str, Tensor]:
        """Loss terms summed over pictures and layers; what each is divided by is :meth:`counts`."""
        objects = some(objects)
        height, width = images.shape[2:]
        whole = objects.boxes.new_tensor([width, height, width, height])
        targets, labels = centred(objects.boxes) / whole, objects.labels
        scene = self.scene(images, sizes)
        found, made = self(scene, (labels, targets))
        kinds = boxes = restored = scene.tokens.new_zeros(()).float()
        shunned = bool(objects.ignored.any())
        for number, (logits, sides) in enumerate(found):
            if made is not None and number:
                count = made.labels.shape[1]
                one, two = set_losses(
                    logits[:, :count], sides[:, :count], labels, targets, made.pairs, made.there
                )
                restored = restored + one + two
                logits, sides = logits[:, count:], sides[:, count:]
            pairs = match(logits, sides, labels, targets)
            judged = None
            if shunned:
                judged = ~on_ignored(cornered(sides.detach()) * whole, objects.boxes, objects.ignored)
                judged[pairs[0], pairs[1]] = True
            one, two = set_losses(logits, sides, labels, targets, pairs, judged)
            kinds, boxes = kinds + one, boxes + two
        if made is None:
            restored = restored + 0.0 * self.noise.weight.sum()
        return {"classes": kinds, "boxes": boxes, "denoising": restored}

    def counts(self, labels: Tensor) -> dict[str, float]:
        """Denominators of the losses of objects' ``labels`` [B, M]."""
        objects = object_counts(labels)
        return {
            "classes": objects,
            "boxes": objects,
            "denoising": objects * max(self.section.denoising, 1),
        }

    # Finding

    def detect(self, images: Tensor, sizes: Tensor, settings: DetectEvaluate) -> list[Detections]:
        """Boxes of each picture, in pixels of the frame; ``sizes`` int64 [B, 2] are the pictures in it."""
        found, _ = self(self.scene(images, sizes))
        return self.chosen(found[-1], images.shape[2:], sizes, settings)

    def chosen(
        self,
        answer: tuple[Tensor, Tensor],
        frame: tuple[int, int],
        sizes: Tensor,
        settings: DetectEvaluate,
    ) -> list[Detections]:
        """The surest of the queries' logits [B, Q, classes] and boxes [B, Q, 4]."""
        (height, width), (logits, boxes) = frame, answer
        boxes = clip(cornered(boxes) * boxes.new_tensor([width, height, width, height]), sizes.unsqueeze(1))
        detected = []
        for one, share in zip(boxes, logits.sigmoid(), strict=True):
            score, index = share.flatten().topk(min(settings.most, share.numel()))
            index, score = index[score > settings.least], score[score > settings.least]
            source, label = index // self.classes, index % self.classes
            box = one[source]
            if settings.suppression < 1:
                kept = nms(box, score, settings.suppression, label)
                box, score, label, source = box[kept], score[kept], label[kept], source[kept]
            detected.append(Detections(box, score, label, source))
        return detected


def refined(change: Tensor, reference: Tensor) -> Tensor:
    """``reference`` (shares, [..., 4]) moved by ``change`` in logits."""
    return (change + torch.logit(reference, eps=1e-4)).sigmoid()


def _perceptron(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, inner), nn.ReLU(), nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, outputs)
    )
