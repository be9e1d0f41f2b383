"""The network that proposes regions.

Ren et al. 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
https://arxiv.org/abs/1506.01497, on a pyramid (Lin et al. 2017). A score says how well its box fits (quality
focal loss, Li et al. 2020, https://arxiv.org/abs/2006.04388) rather than only whether there is an object, so
that the best boxes are kept; boxes are learnt by generalised IoU (Rezatofighi et al. 2019).

Legend: B pictures, M objects, A anchors of all levels, K proposals of a picture, C channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.images import IMAGES
from attncli.models.vision.detection.anchors import NONE, assign_atss, assign_iou, make_anchors, on_ignored
from attncli.models.vision.detection.coded import CodedAttention, map_code
from attncli.models.vision.detection.detections import Objects
from attncli.models.vision.detection.pyramid import Maps
from attncli.models.vision.detection.resnet import ConvNormRelu
from attncli.ops.boxes import clip, decode, giou, iou
from attncli.ops.nms import nms_of_pictures
from attncli.recipe.detect import Proposals
from attncli.recipe.sections import AttentionSection

_PRIOR = 0.02
"""Score that every box begins with, so that the many that are nothing do not drown the rest."""
_FOCUS = 2.0


class Proposed(NamedTuple):
    """What the head says of every anchor."""

    logits: Tensor
    """float32 [B, A]."""
    boxes: Tensor
    """float32 [B, A, 4], pixels of the frame."""
    anchors: Tensor
    """[A, 4]."""
    counts: list[int]
    """Anchors of each level."""


class Regions(NamedTuple):
    """Proposals, padded."""

    boxes: Tensor
    """float32 [B, K, 4]."""
    scores: Tensor
    """float32 [B, K]; 0 where there is none."""
    there: Tensor
    """bool [B, K]."""


class ProposalNetwork(nn.Module):
    """The head that goes over every map, and what is learnt and kept of what it says."""

    def __init__(self, channels: int, section: Proposals, attention: AttentionSection) -> None:
        super().__init__()
        self.section = section
        each = len(section.ratios)
        self.tower = nn.Sequential(*(ConvNormRelu(channels) for _ in range(section.convolutions)))
        self.attention: nn.Module = nn.Identity()
        if section.attention == "global":
            self.attention = GlobalAttention(channels, attention)
        elif section.attention != "none":
            self.attention = IMAGES[section.attention](channels)
        self.score = nn.Conv2d(channels, each, 1)
        self.box = nn.Conv2d(channels, 4 * each, 1)
        for conv in (self.score, self.box):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.constant_(self.score.bias, -math.log(1 / _PRIOR - 1))

    def forward(self, maps: Maps) -> Proposed:
        """Maps [B, C, H, W] by level to a score and a box for every anchor."""
        logits, offsets = [], []
        whole = maps[max(maps)]
        for x in maps.values():
            x = self.attention(x, whole) if self.section.attention == "global" else self.attention(x)
            x = self.tower(x)
            logits.append(self.score(x).permute(0, 2, 3, 1).flatten(1))
            offsets.append(self.box(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        sizes = {level: tuple(x.shape[2:]) for level, x in maps.items()}
        anchors, counts = make_anchors(sizes, self.section.anchor, self.section.ratios, whole.device)  # type: ignore[arg-type]
        boxes = decode(torch.cat(offsets, 1).float(), anchors)
        return Proposed(torch.cat(logits, 1).float(), boxes, anchors, counts)

    def losses(self, proposed: Proposed, objects: Objects) -> tuple[Tensor, Tensor]:
        """Summed losses of scores and of boxes."""
        there, count = objects.there, objects.labels.shape[1]
        if self.section.assignment == "atss":
            which = assign_atss(proposed.anchors, proposed.counts, objects.boxes, there)
            judged = torch.ones_like(which, dtype=torch.bool)
        else:
            which, judged = assign_iou(proposed.anchors, objects.boxes, there)
        good = which != NONE
        if bool(objects.ignored.any()):
            judged = judged & (good | ~on_ignored(proposed.anchors, objects.boxes, objects.ignored))
        rows, columns = good.nonzero(as_tuple=True)
        targets = objects.boxes[rows, which[rows, columns]] if count else proposed.boxes.new_zeros(0, 4)
        boxes = proposed.boxes[rows, columns]
        with torch.no_grad():
            fit = iou(boxes, targets)
            quality = torch.zeros_like(proposed.logits)
            quality[rows, columns] = fit
        scores = quality_focal(proposed.logits, quality) * judged
        # a box that fits badly still pulls: its weight does not vanish
        apart = (1 - giou(boxes, targets)) * fit.clamp(min=0.25)
        return scores.sum(), apart.sum() + 0.0 * proposed.boxes.sum()

    @torch.no_grad()
    def propose(self, proposed: Proposed, sizes: Tensor) -> Regions:
        """The best boxes of each picture, without those that others cover; ``sizes`` int64 [B, 2]."""
        section = self.section
        count = min(section.before, proposed.logits.shape[1])
        logits, index = proposed.logits.topk(count, 1)
        boxes = proposed.boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        boxes = clip(boxes, sizes.unsqueeze(1))
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = (sides >= 1).all(-1)
        kept = nms_of_pictures(boxes, valid, section.threshold)  # [B, count], best first already
        most = min(section.kept, count)
        first = kept.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        there = kept.gather(1, first)
        boxes = boxes.gather(1, first.unsqueeze(-1).expand(-1, -1, 4))
        scores = logits.sigmoid().gather(1, first) * there
        return Regions(torch.where(there.unsqueeze(-1), boxes, 0.0), scores, there)


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross-entropy against a quality in [0, 1], weighted by how far the score is off (squared).

    Li et al. 2020, "Generalized Focal Loss", https://arxiv.org/abs/2006.04388
    """
    off = (quality - logits.sigmoid()).abs().pow(_FOCUS)
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * off


class GlobalAttention(nn.Module):
    """Each place of a map attends to the whole picture, in its coarsest map, and adds what it finds."""

    def __init__(self, channels: int, section: AttentionSection) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.context_norm = nn.LayerNorm(channels)
        self.attend = CodedAttention(channels, section)

    def forward(self, x: Tensor, whole: Tensor) -> Tensor:
        """``x`` [B, C, H, W] with what ``whole`` [B, C, h, w] tells: [B, C, H, W]."""
        size = x.shape[2:]
        tokens = self.norm(x.permute(0, 2, 3, 1).flatten(1, 2))  # [B, H W, C]
        context = self.context_norm(whole.permute(0, 2, 3, 1).flatten(1, 2))
        code = map_code(*size, x.shape[1], x.device)
        context_code = map_code(*whole.shape[2:], x.shape[1], x.device)
        y = self.attend(tokens, context, code=code, context_code=context_code)
        return x + y.unflatten(1, size).permute(0, 3, 1, 2).to(x.dtype)
