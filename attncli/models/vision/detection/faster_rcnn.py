"""Detection in two stages: regions are proposed, then named and moved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.models.vision.detection.detections import Detections, Objects, object_counts, some
from attncli.models.vision.detection.proposals import ProposalNetwork, Regions
from attncli.models.vision.detection.pyramid import Maps, Pyramid
from attncli.models.vision.detection.regions import RegionHead
from attncli.models.vision.detection.resnet import ResNet
from attncli.recipe.detect import DetectEvaluate, FasterRcnnModel

_BOXES = 0.5
"""Weight of the losses of boxes, of which an object has several."""


class FasterRcnn(nn.Module):
    """Backbone, pyramid, proposals, regions; weights are drawn from PyTorch's generator.

    Ren et al. 2015, https://arxiv.org/abs/1506.01497
    """

    def __init__(self, section: FasterRcnnModel, classes: int) -> None:
        super().__init__()
        backbone, pyramid = section.backbone, section.pyramid
        self.backbone = ResNet(
            backbone.kind,
            width=backbone.width,
            norm=backbone.norm,
            attention=backbone.attention,
            highest=pyramid.highest,
        )
        self.pyramid = Pyramid(
            self.backbone.channels, pyramid.channels, pyramid.lowest, pyramid.highest, pyramid.fusion
        )
        self.proposals = ProposalNetwork(pyramid.channels, section.proposals, section.attention)
        self.regions = RegionHead(pyramid.channels, classes, section.regions, section.attention)
        self.to(memory_format=torch.channels_last)

    def maps(self, images: Tensor) -> Maps:
        """uint8 [B, 3, H, W] to the pyramid's maps by level."""
        return self.pyramid(self.backbone(images))

    def losses(self, images: Tensor, sizes: Tensor, objects: Objects) -> dict[str, Tensor]:
        """Loss terms summed over the pictures; what each is divided by is :meth:`counts`."""
        objects = some(objects)
        maps = self.maps(images)
        proposed = self.proposals(maps)
        scores, boxes = self.proposals.losses(proposed, objects)
        regions = self.proposals.propose(proposed, sizes)
        kinds, moved = self.regions.losses(maps, regions, objects)
        return {
            "proposal_scores": scores,
            "proposal_boxes": _BOXES * boxes,
            "classes": kinds,
            "boxes": _BOXES * moved,
        }

    @staticmethod
    def counts(labels: Tensor) -> dict[str, float]:
        """Denominators of the losses of objects' ``labels`` [B, M]."""
        objects = object_counts(labels)
        return {
            "proposal_scores": objects,
            "proposal_boxes": objects,
            "classes": float(len(labels)),
            "boxes": objects,
        }

    def propose(self, images: Tensor, sizes: Tensor) -> tuple[Maps, Regions]:
        """Maps and proposals."""
        maps = self.maps(images)
        return maps, self.proposals.propose(self.proposals(maps), sizes)

    def detect(self, images: Tensor, sizes: Tensor, settings: DetectEvaluate) -> list[Detections]:
        """Boxes of each picture, in pixels of the frame; ``sizes`` int64 [B, 2] are the pictures in it."""
        maps, regions = self.propose(images, sizes)
        return self.regions.detect(maps, regions, sizes, settings)
