"""The second stage: what each proposed region is, and where exactly.

Regions are sampled by RoIAlign (He et al. 2017, https://arxiv.org/abs/1703.06870) from the map whose scale
fits them, and may attend to one another by what they show and where they lie (Hu et al. 2018, "Relation
Networks for Object Detection", https://arxiv.org/abs/1711.11575). Boxes are learnt by generalised IoU, the
same for all classes.

Legend: B pictures, K regions of a picture, M objects, C channels, F features of a region, P bins a side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention import Padding
from attncli.models.vision.detection.anchors import on_ignored
from attncli.models.vision.detection.coded import CodedAttention, sine_code
from attncli.models.vision.detection.detections import Detections, Objects
from attncli.models.vision.detection.proposals import Regions as Proposals
from attncli.models.vision.detection.pyramid import Maps
from attncli.models.vision.detection.resnet import ConvNormRelu
from attncli.ops.boxes import area, centred, clip, decode, giou, pairwise_iou
from attncli.ops.nms import nms
from attncli.ops.roi_align import roi_align
from attncli.recipe.detect import DetectEvaluate, Regions
from attncli.recipe.sections import AttentionSection

_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of offsets, as published: regions are near their objects already."""
_CELLS = 7.0
"""A region is sampled from the map where its side is 7 to 14 cells."""


class RegionHead(nn.Module):
    """Classes and boxes of regions."""

    def __init__(self, channels: int, classes: int, section: Regions, attention: AttentionSection) -> None:
        super().__init__()
        self.section, self.classes = section, classes
        self.convolutions = nn.Sequential(*(ConvNormRelu(channels) for _ in range(section.convolutions)))
        self.first = nn.Linear(channels * section.bins**2, section.width)
        self.second = nn.Linear(section.width, section.width)
        self.relations = nn.ModuleList(Relation(section.width, attention) for _ in range(section.relation))
        self.kind = nn.Linear(section.width, classes + 1)
        self.box = nn.Linear(section.width, 4)
        self.kind.muon = self.box.muon = False  # type: ignore[assignment]  # output layers
        for linear in (self.first, self.second):
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        for linear, std in ((self.kind, 0.01), (self.box, 0.001)):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, maps: Maps, boxes: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Regions ``boxes`` [B, K, 4] to logits [B, K, classes + 1], the last for nothing, and boxes.

        ``there`` bool [B, K]: the others are padding, to which no region attends.
        """
        batch, count = there.shape
        x = pooled(maps, boxes, self.section.bins)  # [B K, C, P, P]
        x = self.convolutions(x).permute(0, 2, 3, 1).flatten(1)
        x = F.relu(self.first(x)).view(batch, count, -1)
        x = F.relu(self.second(x))
        if len(self.relations):
            code = relation_code(boxes)
            mask = Padding(there)
            for relation in self.relations:
                x = relation(x, code, mask)
        return self.kind(x).float(), decode(self.box(x).float(), boxes, _WEIGHTS)

    @torch.no_grad()
    def sample(self, proposals: Proposals, objects: Objects) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Regions to learn from: boxes [B, S, 4], labels [B, S], targets [B, S, 4], there bool [B, S].

        Proposals and the objects themselves, those with an object as large a share as there are and may be;
        what lies on an ignored box is left out. The label of nothing is the number of classes.
        """
        section, (boxes, _, there) = self.section, proposals
        boxes = torch.cat([boxes, objects.boxes], 1)  # [B, N, 4]
        there = torch.cat([there, objects.there], 1)
        shared = pairwise_iou(boxes, objects.boxes)  # [B, N, M]
        shared = torch.where(objects.there.unsqueeze(1), shared, -1.0)
        most, which = shared.max(2)
        good = there & (most >= section.overlap)
        bad = there & ~good
        if bool(objects.ignored.any()):
            bad &= ~on_ignored(boxes, objects.boxes, objects.ignored)
        wanted = int(section.sampled * section.positive)
        draw = torch.rand(boxes.shape[:2], device=boxes.device)
        rank = torch.where(good, draw, -1.0).argsort(1, descending=True).argsort(1)
        first = good & (rank < wanted)
        # what is drawn of objects, then what is nothing, then the rest of the objects
        order = torch.where(first, 3 + draw, torch.where(bad, 2 + draw, torch.where(good, 1 + draw, draw)))
        chosen = order.topk(min(section.sampled, order.shape[1]), 1).indices
        used = (good | bad).gather(1, chosen)
        labels = objects.labels.gather(1, which)
        labels = torch.where(good, labels, self.classes).gather(1, chosen)
        index = chosen.unsqueeze(-1).expand(-1, -1, 4)
        targets = objects.boxes.gather(1, which.unsqueeze(-1).expand(-1, -1, 4)).gather(1, index)
        return boxes.gather(1, index), labels, targets, used

    def losses(self, maps: Maps, proposals: Proposals, objects: Objects) -> tuple[Tensor, Tensor]:
        """Summed losses: of classes, as means over the regions of a picture; and of boxes."""
        boxes, labels, targets, there = self.sample(proposals, objects)
        logits, moved = self(maps, boxes, there)
        kinds = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
        kinds = (kinds * there).sum(1) / there.sum(1).clamp(min=1)
        good = there & (labels < self.classes)
        apart = (1 - giou(moved, targets)) * good
        return kinds.sum(), apart.sum()

    @torch.no_grad()
    def detect(
        self, maps: Maps, proposals: Proposals, sizes: Tensor, settings: DetectEvaluate
    ) -> list[Detections]:
        """Boxes of each picture; ``sizes`` int64 [B, 2] are the pictures in the frame."""
        logits, boxes = self(maps, proposals.boxes, proposals.there)
        scores = logits.softmax(-1)[..., :-1]  # [B, K, classes]
        if self.section.score == "product":
            scores = (scores * proposals.scores.unsqueeze(-1)).sqrt()
        scores = scores * proposals.there.unsqueeze(-1)
        boxes = clip(boxes, sizes.unsqueeze(1))
        found = []
        for one, share in zip(boxes, scores, strict=True):
            source, label = (share > settings.least).nonzero(as_tuple=True)
            box, score = one[source], share[source, label]
            kept = nms(box, score, settings.suppression, label, settings.most)
            found.append(Detections(box[kept], score[kept], label[kept], source[kept]))
        return found


def pooled(maps: Maps, boxes: Tensor, bins: int) -> Tensor:
    """RoIAlign of ``boxes`` [B, K, 4], each from the map that suits its size: [B K, C, P, P]."""
    batch, count = boxes.shape[:2]
    flat = boxes.flatten(0, 1)
    image = torch.arange(batch, device=boxes.device).repeat_interleave(count)
    levels = sorted(maps)
    suits = torch.log2(area(flat).sqrt().clamp(min=1) / _CELLS).floor().long().clamp(levels[0], levels[-1])
    parts, places = [], []
    for level in levels:
        chosen = (suits == level).nonzero().squeeze(1)
        x = roi_align(maps[level], flat[chosen], image[chosen], size=bins, scale=2.0**-level)
        parts.append(x)
        places.append(chosen)
    back = torch.cat(places).argsort()
    joined = torch.cat([part.permute(0, 2, 3, 1) for part in parts]).index_select(0, back)
    return joined.permute(0, 3, 1, 2)


def relation_code(boxes: Tensor, width: int = 64) -> Tensor:
    """Where each box lies seen from each other: [B, K, K, width].

    The logarithms of the distances of the centres in widths and heights, and of the ratios of the sides, as
    sines and cosines.
    """
    box = centred(boxes.float())
    sides = box[..., 2:].clamp(min=1.0)
    apart = (box.unsqueeze(1)[..., :2] - box.unsqueeze(2)[..., :2]).abs()  # [B, query, key, 2]
    apart = (apart / sides.unsqueeze(2)).clamp(min=1e-3).log()
    ratio = (sides.unsqueeze(1) / sides.unsqueeze(2)).log()
    return sine_code(torch.cat([apart, ratio], -1), width, period=1000.0, scale=100.0)


class Relation(nn.Module):
    """Regions attend to one another: softmax of products plus the logarithm of a learnt geometric weight.

    w_mn = exp(q_m . k_n / sqrt(D)) g_mn / sum,   g_mn = max(0, W code_mn), floored at 1e-6
    """

    def __init__(self, width: int, section: AttentionSection) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = CodedAttention(width, section)
        self.geometry = nn.Linear(64, self.attend.heads)
        nn.init.normal_(self.geometry.weight, std=0.05)
        nn.init.ones_(self.geometry.bias)
        nn.init.zeros_(self.attend.out.weight)  # begins as if there were no others

    def forward(self, x: Tensor, code: Tensor, mask: Padding) -> Tensor:
        """``x`` [B, K, F] with ``code`` [B, K, K, 64] to [B, K, F]."""
        weight = F.relu(self.geometry(code).float()).clamp(min=1e-6).log()  # [B, K, K, H]
        return x + self.attend(self.norm(x), bias=weight.permute(0, 3, 1, 2), mask=mask)
