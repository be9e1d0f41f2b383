"""The recipes of ``attn detect``: boxes around things in pictures."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section
from attncli.recipe.text import LabelTrain
from attncli.recipe.vision import PictureParts


class BoxData(PictureParts):
    """``data`` of detection: pictures with boxes, in the field's formats."""

    places: ClassVar[tuple[str, ...]] = (*PictureParts.places, "images")

    path: str = "builtin"
    """builtin, a COCO JSON file, a folder in the layout of Pascal VOC, COCO, YOLO or of parquet files, or the
    name of a hub data set."""
    layout: Literal["auto", "coco", "voc", "yolo", "parquet"] = "auto"
    """How the annotations are written; auto looks."""
    images: str = ""
    """Folder of the pictures, where it is not where the layout has it."""
    classes: list[str] = Field(default_factory=list)
    """Every class, in the order of the outputs; empty takes those that the data names."""
    boxes: Literal["mend", "refuse"] = "mend"
    """What becomes of boxes that reach out of their picture or have no area: mend cuts them at its edges,
    leaves out what has no area and says how many, refuse names them and stops."""
    box: Literal["sides", "corners"] = "sides"
    """How hub data and parquet files write a box: x, y, width, height, as COCO does, or x0, y0, x1, y1."""
    difficult: Literal["ignore", "use", "drop"] = "ignore"
    """Objects that VOC marks as difficult: ignore counts neither finding nor missing them, use takes them as
    any other, drop as if they were not there. COCO's crowds are always ignored."""


class BoxImage(Section):
    """``image`` of detection: the frame that pictures are scaled to fit in."""

    size: list[int] = Field(default_factory=list, max_length=2)
    """Height and width in pixels, or one number for both; empty takes those of the training pictures, 416 for
    the longer side at most. Pictures keep their shape and are made as large as fits; a batch is padded to its
    largest."""
    normalise: Literal["data", "half", "imagenet"] = "data"
    """Mean and deviation that pixels are brought to 0 and 1 with: of the training part, 0.5 and 0.5, or
    ImageNet's."""

    def cross_checks(self) -> list[Rule]:
        """A side has some pixels."""
        if any(side < 32 for side in self.size):
            return [(("size",), f"{self.size} must be whole numbers of 32 and more")]
        return []


class BoxAugment(Section):
    """``train.augment`` of detection: pictures are varied with their boxes, anew in each epoch."""

    flip: float = Field(0.5, ge=0, le=1)
    """Share of the pictures that are mirrored left to right."""
    flip_vertical: float = Field(0.0, ge=0, le=1)
    """Share that are turned upside down: right for cells or roofs, wrong for streets."""
    scale: list[float] = Field(default_factory=lambda: [0.7, 1.5], min_length=2, max_length=2)
    """Pictures are made smaller and larger by a factor between these; of larger ones a piece is cut out."""
    stretch: float = Field(1.1, ge=1)
    """Width over height changes by at most this factor, either way."""
    mosaic: float = Field(0.0, ge=0, le=1)
    """Share of the pictures that are put together from four (Bochkovskiy et al. 2020)."""
    plain_end: float = Field(0.1, ge=0, le=1)
    """Last share of the training that sees no mosaics."""
    keep: float = Field(0.25, ge=0, le=1)
    """A box of which less than this share of its area is left is no object any more, and ignored."""
    brightness: float = Field(0.2, ge=0, lt=1)
    """Brightness changes by at most this share, either way."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """The same of the contrast."""
    saturation: float = Field(0.3, ge=0, le=1)
    """The same of the colours' strength."""
    hue: float = Field(0.02, ge=0, le=0.5)
    """Colours turn by at most this share of the circle, either way."""
    multi_scale: float = Field(0.0, ge=0, lt=1)
    """The frame of each batch is smaller or larger by at most this share."""

    def cross_checks(self) -> list[Rule]:
        """A range begins below its end."""
        low, high = self.scale
        if not 0 < low <= high:
            return [(("scale",), f"{self.scale} must be two factors above 0, the smaller first")]
        return []


class Backbone(Section):
    """``model.backbone``: a residual network (He et al. 2016) that makes maps at strides 4, 8, 16 and 32."""

    places: ClassVar[tuple[str, ...]] = ("weights",)

    kind: Literal["resnet10", "resnet14", "resnet18", "resnet34", "resnet50"] = "resnet18"
    """Depth; resnet50 has bottlenecks. The names of the weights are timm's."""
    width: int = Field(64, ge=8, multiple_of=8)
    """Channels of the first stage, 64 as published; each further stage has twice as many."""
    norm: Literal["group", "batch"] = "group"
    """GroupNorm (Wu and He 2018) knows no batch: small batches, batches cut into rounds and averaged weights
    are no different. BatchNorm is what most pre-trained weights have."""
    attention: Literal["none", "squeeze_excite", "eca", "cbam"] = "none"
    """Attention after the convolutions of each block: over channels; cbam over channels, then places."""
    weights: str = ""
    """A .safetensors file of pre-trained weights under timm's names; empty starts fresh."""


class Pyramid(Section):
    """``model.pyramid``: maps of several scales, each knowing what the coarser ones saw (Lin et al. 2017)."""

    channels: int = Field(128, ge=16, multiple_of=16)
    """Channels of every map."""
    lowest: int = Field(3, ge=2, le=4)
    """Finest map: 2 has a stride of 4 pixels, 3 of 8, 4 of 16."""
    highest: int = Field(5, ge=3, le=7)
    """Coarsest map."""
    fusion: Literal["plain", "attention"] = "plain"
    """plain adds the coarser map to the finer one, as published; attention lets each place weigh what all
    scales hold for it."""

    def cross_checks(self) -> list[Rule]:
        """There is more than one scale."""
        if self.lowest >= self.highest:
            return [(("lowest", "highest"), f"{self.lowest} must be below highest={self.highest}")]
        return []


class Proposals(Section):
    """``model.proposals``: the network that proposes regions (RPN; Ren et al. 2015)."""

    anchor: float = Field(4.0, gt=0)
    """Side of an anchor, in strides of its map."""
    ratios: list[float] = Field(default_factory=lambda: [1.0], min_length=1)
    """Height over width of the anchors at each place."""
    assignment: Literal["atss", "iou"] = "atss"
    """Which anchors shall find an object: the nearest ones whose overlap stands out for that object (ATSS,
    Zhang et al. 2020), or those over fixed overlaps, as published."""
    convolutions: int = Field(1, ge=1, le=4)
    """Convolutions before the outputs."""
    attention: Literal["none", "squeeze_excite", "cbam", "global"] = "none"
    """In the head: over channels, over channels and places, or global: each place attends to the whole
    picture in its coarsest map."""
    before: int = Field(256, ge=1)
    """Best boxes of a picture that suppression looks at."""
    threshold: float = Field(0.7, gt=0, le=1)
    """Overlap (IoU) over which the worse of two proposals is dropped."""
    kept: int = Field(100, ge=1)
    """Proposals of a picture."""


class Regions(Section):
    """``model.regions``: the second stage, which names each region and moves its edges."""

    sampled: int = Field(64, ge=8)
    """Regions of a picture that are learnt from in a step."""
    positive: float = Field(0.5, gt=0, le=1)
    """At most this share of them are objects."""
    overlap: float = Field(0.5, gt=0, lt=1)
    """Overlap from which a region is an object."""
    bins: int = Field(7, ge=1)
    """RoIAlign makes a grid of so many bins each way."""
    convolutions: int = Field(0, ge=0, le=4)
    """Convolutions on that grid."""
    width: int = Field(512, ge=16)
    """Features of a region."""
    relation: int = Field(0, ge=0, le=6)
    """Layers in which the regions of a picture attend to one another, by what they show and where they lie
    (Hu et al. 2018)."""
    score: Literal["class", "product"] = "product"
    """What ranks detections: the class's probability, or its geometric mean with that of the proposal."""


class PlaceFree(AttentionSection):
    """``model.attention`` where places are boxes or maps, which have codes of their own."""

    position: Literal["none"] = "none"  # type: ignore[assignment]
    """Places come from the boxes and the maps; there is no order to count along."""
    heads: int | None = Field(8, ge=1)
    """Heads."""

    def cross_checks(self) -> list[Rule]:
        """Keys have codes of their own, which no latent could hold."""
        why = "keys meet codes of their places here, which a latent does not hold"
        return super().cross_checks() + ([(("kv_latent",), why)] if self.kv_latent else [])


class FasterRcnnModel(Section):
    """``model`` of two-stage detection."""

    family: Literal["faster_rcnn"] = "faster_rcnn"
    """Regions are proposed, then named (Ren et al. 2015, https://arxiv.org/abs/1506.01497)."""
    backbone: Backbone = Backbone()
    pyramid: Pyramid = Pyramid()
    proposals: Proposals = Proposals()
    regions: Regions = Regions()
    attention: PlaceFree = PlaceFree()
    """Of proposals.attention=global and regions.relation."""

    def cross_checks(self) -> list[Rule]:
        """Widths that heads share."""
        heads, wrong = self.attention.heads or 8, []
        if self.regions.relation and self.regions.width % heads:
            why = f"{heads} must divide regions.width={self.regions.width}"
            wrong.append((("attention.heads", "regions.width"), why))
        if self.proposals.attention == "global" and self.pyramid.channels % heads:
            why = f"{heads} must divide pyramid.channels={self.pyramid.channels}"
            wrong.append((("attention.heads", "pyramid.channels"), why))
        return wrong


class DetrModel(Section):
    """``model`` of set prediction."""

    family: Literal["detr"] = "detr"
    """Queries become boxes by attention to the picture and to one another, each object by one of them
    (Carion et al. 2020, https://arxiv.org/abs/2005.12872)."""
    backbone: Backbone = Backbone()
    lowest: int = Field(3, ge=2, le=5)
    """Finest map that is read: 3 has a stride of 8 pixels."""
    highest: int = Field(5, ge=3, le=6)
    """Coarsest map."""
    width: int = Field(128, ge=32, multiple_of=8)
    """Features of a query and of a place."""
    intermediate: int = Field(512, ge=32)
    """Features inside the feed-forward nets."""
    encoder: int = Field(1, ge=0, le=12)
    """Layers in which places attend to places."""
    decoder: int = Field(3, ge=1, le=12)
    """Layers in which queries attend to places and to one another."""
    queries: int = Field(100, ge=1)
    """Boxes that are predicted of a picture."""
    sight: Literal["deformable", "full"] = "deformable"
    """How places are attended to: at a few points of every map that a query chooses (Zhu et al. 2020), or all
    of them."""
    points: int = Field(4, ge=1)
    """Points of a head in a map, of deformable sight."""
    denoising: int = Field(5, ge=0)
    """Groups of noised objects that queries learn to restore beside their matching (Li et al. 2022): learning
    begins much sooner; 0 is none."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on every sub-layer."""
    attention: PlaceFree = PlaceFree()

    def cross_checks(self) -> list[Rule]:
        """Levels and heads."""
        wrong: list[Rule] = []
        heads = self.attention.heads or 8
        if self.lowest > self.highest:
            wrong.append((("lowest", "highest"), f"{self.lowest} must not be above highest={self.highest}"))
        if self.width % heads:
            wrong.append((("attention.heads", "width"), f"{heads} must divide width={self.width}"))
        return wrong


class DetectTrain(LabelTrain):
    """``train`` of detection."""

    epochs: float | None = Field(None, gt=0)  # type: ignore[assignment]
    """Passes over the training part, where steps is 0; empty makes 1,000 updates, however few the pictures
    are."""
    batch: int = Field(8, ge=1)
    """Pictures in one update, over all processes and accumulation rounds."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay, on matrices only."""
    backbone_rate: float = Field(1.0, ge=0)
    """The backbone learns at this share of the rate: less than 1 where it is pre-trained, 0 keeps it as it
    is."""
    goal: Literal["map", "map50", "map75", "recall"] = "map"
    """Metric that says which checkpoint is better."""
    augment: BoxAugment = BoxAugment()

    def cross_checks(self) -> list[Rule]:
        """What detection does not have."""
        wrong = super().cross_checks()
        for name in ("layer_decay", "head_rate", "r_drop"):
            if getattr(self, name) != type(self).model_fields[name].get_default():
                wrong.append(((name,), "is of encoders of text; detection has backbone_rate"))
        return wrong


class DetectEvaluate(Section):
    """``evaluate``: what is measured, and what is shown of a finished run."""

    batch: int = Field(8, ge=1)
    """Pictures at once."""
    suppression: float = Field(0.5, gt=0, le=1)
    """Overlap over which the worse of two boxes of a class is dropped; 1 drops none, as set prediction needs
    none."""
    most: int = Field(100, ge=1)
    """Detections of a picture, the best ones; 100 is COCO's."""
    least: float = Field(0.01, ge=0, lt=1)
    """Detections with a lower score are not counted at all."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Score from which a detection is drawn, listed, and counted in the confusion table."""
    confusion_overlap: float = Field(0.5, gt=0, lt=1)
    """Overlap from which a detection and an object are the same thing in the confusion table."""


class FasterRcnnRecipe(Recipe):
    """A recipe of ``attn detect faster_rcnn``."""

    data_key: ClassVar[str] = "data.path"

    data: BoxData = BoxData()
    image: BoxImage = BoxImage()
    model: FasterRcnnModel = FasterRcnnModel()
    train: DetectTrain = DetectTrain()
    evaluate: DetectEvaluate = DetectEvaluate()


class DetrRecipe(Recipe):
    """A recipe of ``attn detect detr``."""

    data_key: ClassVar[str] = "data.path"

    data: BoxData = BoxData()
    image: BoxImage = BoxImage()
    model: DetrModel = DetrModel()
    train: DetectTrain = DetectTrain()
    evaluate: DetectEvaluate = DetectEvaluate()
