"""The recipes of ``attn segment``: every pixel of a picture gets a class."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.image import ImageAttention
from attncli.recipe.sections import Recipe, Rule, Section, TrainSection, absolute
from attncli.recipe.vision import PictureParts, PixelSection


class SegmentData(PictureParts):
    """``data`` of segmentation: pictures with a mask each."""

    places: ClassVar[tuple[str, ...]] = ("path", "validation")

    path: str = "builtin"
    """builtin (scenes of handwritten digits), or a folder: images and masks, Pascal VOC's, or COCO's."""
    layout: Literal["auto", "folders", "voc", "coco"] = "auto"
    """How the folder is laid out: folders images and masks (or labels, annotations), split folders above or
    below them; VOC's JPEGImages, SegmentationClass and ImageSets; COCO's annotation files beside images."""
    classes: list[str] = Field(default_factory=list)
    """Names of the classes in the order of their numbers; empty takes classes.txt beside the masks (a name
    a line, with red green blue behind it where masks are colours), COCO's categories, VOC's twenty and
    background, or as many numbers as the masks hold."""
    ignored: list[str] = Field(default_factory=list)
    """Classes, by name or number, that neither train nor count; a pixel of value 255 that is no class never
    does."""
    background: str = "background"
    """COCO: name of the class of the pixels outside all annotations; empty ignores them."""

    def locate(self) -> None:
        """Tests may be parts of the data, by name."""
        super().locate()
        self.tests = [absolute(test) if os.sep in test else test for test in self.tests]


class SegmentAugment(Section):
    """``train.augment``: how training pictures and their masks are varied, anew each epoch."""

    flip: float = Field(0.5, ge=0, le=1)
    """Share of the pictures that are mirrored left to right."""
    vertical: float = Field(0.0, ge=0, le=1)
    """Share that is mirrored top to bottom, for pictures without an up."""
    scale: list[float] = Field(default_factory=lambda: [1.0, 1.0], min_length=2, max_length=2)
    """Smallest and largest factor that a picture is resized by, drawn evenly on a logarithmic scale."""
    stretch: float = Field(1.0, ge=1)
    """Largest change of the aspect ratio."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Largest rotation, degrees each way."""
    crop: list[int] = Field(default_factory=list, max_length=2)
    """Height and width of the piece that is then cut out at a random place, or one number for both; empty is
    the size of the pictures. What lies outside the picture is ignored."""
    rare: float = Field(0.0, ge=0, le=1)
    """Share of the pieces that are cut out around a pixel of a class drawn from those in the picture."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Largest change of brightness, as a share."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Largest change of contrast, as a share."""
    saturation: float = Field(0.0, ge=0, lt=1)
    """Largest change of saturation, as a share; of pictures with colours."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """Largest turn of the hue, as a share of the circle; of pictures with colours."""
    blur: float = Field(0.0, ge=0, le=1)
    """Share of the pictures that are blurred, by a Gaussian of up to 1.5 pixels."""

    def cross_checks(self) -> list[Rule]:
        """Scales are positive and in order; crops are positive."""
        wrong: list[Rule] = []
        low, high = self.scale
        if not 0 < low <= high:
            wrong.append((("scale",), f"{self.scale} must be two factors above 0, the smaller one first"))
        if any(side < 1 for side in self.crop):
            wrong.append((("crop",), f"{self.crop} must be whole numbers above 0"))
        return wrong


class GridAttention(ImageAttention):
    """``model.attention`` of a vit, and of the layers at the lowest level of a U-Net."""

    position: Literal[
        "none", "learned", "sinusoidal_2d", "learned_2d", "rotary_2d", "relative_2d",
        "sinusoidal", "shaw", "t5", "rotary", "alibi",
    ] = "rotary_2d"  # fmt: skip
    """Position scheme. Of rows and columns: sinusoidal_2d, learned_2d, rotary_2d, relative_2d; the others
    count places row by row."""


class SegmentModel(Section):
    """``model`` of segmentation."""

    family: Literal["attention_unet", "unet", "vit"] = "attention_unet"
    """attention_unet: U-Net whose skip connections pass additive gates (Oktay et al. 2018); unet: without the
    gates (Ronneberger et al. 2015); vit: Segmenter, a Transformer of patches (Strudel et al. 2021)."""
    width: int = Field(32, ge=1)
    """Features of a U-Net's first level, of a vit's tokens."""
    levels: int = Field(5, ge=1, le=8)
    """U-Net: levels, each half as large in pixels as the one above."""
    widest: int = Field(256, ge=1)
    """U-Net: features double from level to level up to so many."""
    convolutions: int = Field(2, ge=1)
    """U-Net: convolutions of a block, before and after the skip connection."""
    residual: bool = False
    """U-Net: add a block's input to its output (Zhang et al. 2018, "Road Extraction by Deep Residual
    U-Net")."""
    norm: Literal["batch", "group", "instance"] = "batch"
    """U-Net: norms over the batch, over groups of channels of each picture, or over each channel of each
    picture. batch learns fastest; several processes each normalise their part of a batch."""
    groups: int = Field(8, ge=1)
    """Channels are normalised in so many groups."""
    feature_attention: Literal["none", "squeeze_excite", "eca", "cbam"] = "none"
    """U-Net: attention over channels, or with cbam over channels and places, at the end of each block."""
    multi_scale: bool = False
    """U-Net: the picture, made smaller, is an input of every level."""
    deep_supervision: bool = False
    """U-Net: the levels of the way up learn from outputs of their own, of weight train.loss.auxiliary."""
    layers: int = Field(0, ge=0)
    """Transformer layers: at the lowest level of a U-Net (0 is none), or of a vit (0 is 6)."""
    patch: int = Field(8, ge=1)
    """vit: side of a patch, pixels."""
    head: Literal["linear", "mask"] = "linear"
    """vit: a linear layer on each patch, or a mask for each class by Transformer layers over patches and
    class tokens."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """U-Net: share of the features of the lowest level that are dropped; vit: dropout of its layers."""
    attention: GridAttention = GridAttention()

    def cross_checks(self) -> list[Rule]:
        """Settings of the other family; groups that divide."""
        wrong: list[Rule] = []
        fields = type(self).model_fields
        names = _UNET if self.family == "vit" else _VIT
        for name in names:
            if getattr(self, name) != fields[name].get_default():
                wrong.append(((name, "family"), f"family={self.family} does not read it"))
        if self.family != "vit" and self.norm == "group" and self.width % self.groups:
            why = f"{self.groups} must divide width={self.width}, and with it the width of every level"
            wrong.append((("groups", "width", "norm"), why))
        if self.family != "vit" and self.norm == "group" and self.widest % self.groups:
            wrong.append((("groups", "widest", "norm"), f"{self.groups} must divide widest={self.widest}"))
        if self.deep_supervision and self.levels < 2:
            wrong.append((("deep_supervision", "levels"), "there is no level below the first"))
        return wrong


_UNET = ("levels", "widest", "convolutions", "residual", "norm", "groups", "feature_attention",
         "multi_scale", "deep_supervision")  # fmt: skip
_VIT = ("patch", "head")


class LossSection(Section):
    """``train.loss``: weights of the terms that are added up; 0 leaves one out."""

    cross_entropy: float = Field(1.0, ge=0)
    """Cross-entropy, a mean over pixels weighted by class."""
    dice: float = Field(0.0, ge=0)
    """1 - soft Dice (Milletari et al. 2016), a mean over each class of each picture that holds it."""
    focal: float = Field(0.0, ge=0)
    """Focal loss (Lin et al. 2017): cross-entropy that passes over what is easy."""
    gamma: float = Field(2.0, ge=0)
    """Exponent of the focal loss; 0 is cross-entropy."""
    lovasz: float = Field(0.0, ge=0)
    """Lovasz-softmax (Berman et al. 2018), a surrogate of 1 - IoU; a mean over each class of each picture
    that holds it."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy: the share that is spread over all classes."""
    auxiliary: float = Field(0.4, ge=0)
    """Weight of the outputs of lower levels, where model.deep_supervision has some."""
    class_weights: Literal["none", "balanced", "median_frequency", "sqrt"] = "none"
    """Weights of the classes in cross-entropy and focal loss, from the training masks: inverse frequency
    (balanced), median frequency over frequency among the pictures that hold the class (Eigen and Fergus
    2015), or the root of inverse frequency (sqrt)."""

    def cross_checks(self) -> list[Rule]:
        """Something is learnt."""
        terms = ("cross_entropy", "dice", "focal", "lovasz")
        if not any(getattr(self, name) or 0 for name in terms):
            return [(terms, "one of cross_entropy, dice, focal, lovasz must be above 0")]
        return []


class SegmentTrain(TrainSection):
    """``train`` of segmentation."""

    epochs: float = Field(30.0, gt=0)
    """Passes over the training part, where steps is 0."""
    steps: int = Field(0, ge=0)
    """Updates of the weights; 0 lets epochs decide."""
    batch: int = Field(8, ge=1)
    """Pictures in one update, over all processes and accumulation rounds."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between evaluations; 0 is once an epoch."""
    loss: LossSection = LossSection()
    augment: SegmentAugment = SegmentAugment()
    goal: Literal["mean_iou", "mean_dice", "pixel_accuracy", "mean_accuracy", "loss"] = "mean_iou"
    """Metric that says which checkpoint is better."""
    seeds: int = Field(1, ge=1)
    """Runs with seeds seed, seed + 1 ...; mean and deviation of their metrics are shown."""


class SegmentEvaluate(Section):
    """``evaluate``: how a model is measured, and applied."""

    batch: int = Field(8, ge=1)
    """Pictures, or windows of large ones, at once; does not change the results beyond rounding."""
    flip: bool = False
    """Test-time augmentation: the mean over a picture and its mirror image."""
    window: Literal["auto", "always", "never"] = "auto"
    """Sliding windows of the training size over pictures of another: auto where the model needs that size,
    as a vit and attention at the lowest level do, and over pictures of more than 4 million pixels."""
    overlap: float = Field(0.5, ge=0, lt=1)
    """Share of a window that the next one covers too; there the mean counts, weighted towards the middle."""
    boundary: float = Field(0.0, ge=0)
    """Pixels that borders may be apart for boundary F1; 0 takes 0.75 % of the picture's diagonal."""


class SegmentRecipe(Recipe):
    """A recipe of ``attn segment``."""

    data_key: ClassVar[str] = "data.path"

    data: SegmentData = SegmentData()
    image: PixelSection = PixelSection(fit="stretch")
    model: SegmentModel = SegmentModel()
    train: SegmentTrain = SegmentTrain()
    evaluate: SegmentEvaluate = SegmentEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Parts of a batch give the same update as the whole; models of one size need windows."""
        wrong: list[Rule] = []
        if self.evaluate.window == "never" and (self.model.family == "vit" or self.model.layers):
            why = "never: a vit, or attention at the lowest level, reads pictures of the training size only"
            wrong.append((("evaluate.window", "model.layers", "model.family"), why))
        if self.model.family != "vit" and self.model.norm == "batch" and self.train.accumulate > 1:
            why = "batch norms would see parts of the batch; with model.norm=group the result is the same"
            wrong.append((("train.accumulate", "model.norm"), why))
        return wrong
