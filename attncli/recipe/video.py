"""The recipe of ``attn classify video``: clips of video, labelled by attention over space and time."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.finetune import LabelEvaluate
from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section
from attncli.recipe.text import ClassifyTrain
from attncli.recipe.vision import AugmentSection, PictureParts, PixelSection

APART = ("pooled", "frame")
"""Kinds of ``model.space_time`` that see each frame for itself."""


class VideoData(PictureParts):
    """``data`` of video: files or folders of frames, with a label each."""

    path: str = "builtin"
    """builtin (moving digits), a folder with a folder for each label (or first one for each split), or a list
    of paths: CSV, TSV or JSON lines with columns path and label and, if any, split, group and fold."""
    file: str = ""
    """Column of the paths in a list, relative to the list's folder; empty takes path, file, video, clip or
    the like."""
    label: str = ""
    """Column of the label in a list; empty takes label, class or the like."""
    kind: Literal["auto", "single", "multi", "regression"] = "auto"
    """One label a video, several, or a number; auto reads it from the labels."""
    labels: list[str] = Field(default_factory=list)
    """The labels in the order of the model's outputs; empty takes those of the training part, sorted."""
    fold: int | None = Field(None, ge=0)
    """Fold of the list that is the test set; the others are trained on. Those below 0 are never tested.
    Videos of one group are never on both sides, nor in both training and validation."""
    cross_validate: bool = False
    """Whether each fold of the list is the test set of a run of its own; mean and deviation are shown."""

    def cross_checks(self) -> list[Rule]:
        """One fold, or all of them."""
        if self.cross_validate and self.fold is not None:
            return [(("cross_validate", "fold"), "goes round all folds; leave data.fold out")]
        return []


class ClipSection(PixelSection):
    """``clip``: what a video becomes before a model sees it."""

    frames: int = Field(8, ge=1)
    """Frames of a clip."""
    stride: list[int] = Field(default_factory=lambda: [1], min_length=1)
    """Every so-manieth frame of the video is in the clip; 0 spreads the frames over the whole video. Several
    strides see each moment at several scales, slow and fast (Feichtenhofer et al. 2019)."""
    rate: float = Field(0.0, ge=0)
    """Frames a second that videos are read at, whatever their own rates; 0 takes the frames as they are
    stored."""
    motion: Literal["none", "beside", "only"] = "none"
    """Whether a model also sees how each frame differs from the one before it in the clip, as further
    channels beside its pixels, or sees only that (Wang et al. 2016, temporal segment networks)."""

    def cross_checks(self) -> list[Rule]:
        """Strides are not negative, and spreading does not go with other scales."""
        wrong = super().cross_checks()
        if any(stride < 0 for stride in self.stride):
            wrong.append((("stride",), f"{self.stride} must be whole numbers from 0"))
        elif len(set(self.stride)) < len(self.stride):
            wrong.append((("stride",), f"{self.stride} has a stride twice"))
        return wrong


class VideoAttention(AttentionSection):
    """``model.attention`` of video."""

    position: Literal["none", "sinusoidal", "learned", "rotary"] = "learned"
    """Position scheme over time, height and width: a learnt table for space and one for time, sines and
    cosines of three axes, or turning queries and keys by three axes."""


class VideoModel(Section):
    """``model``: how clips are cut into tokens, and which tokens see which."""

    family: Literal["video"] = "video"
    """A vision Transformer over space and time."""
    space_time: Literal["joint", "factorised", "divided", "pooled", "frame"] = "factorised"
    """joint: every token sees all of the clip; factorised: space first, then time (ViViT, Arnab et al. 2021);
    divided: time, then space in every layer (TimeSformer, Bertasius et al. 2021); pooled: each frame for
    itself, then weights over frames; frame: the middle frame alone, for comparison."""
    tokenizer: Literal["patch", "convolution"] = "convolution"
    """How pixels become tokens: patches through one linear layer, or convolutions that halve the picture
    until a patch is one cell, which learn from less data (Hassani et al. 2021)."""
    patch: int = Field(8, ge=1)
    """Side of a token in pixels; a power of two where tokenizer is convolution."""
    tubelet: int | None = Field(None, ge=1)
    """Frames in a token; empty is 2 for joint and factorised, else 1."""
    layers: int = Field(4, ge=1)
    """Layers over space, or over space and time."""
    temporal_layers: int = Field(2, ge=1)
    """Further layers over time, of factorised."""
    width: int = Field(128, ge=1)
    """Width of the residual stream."""
    intermediate: int | None = Field(None, ge=1)
    """Inner width of the feed-forward nets; empty is four times the width."""
    pooling: Literal["class", "mean", "attention"] = "attention"
    """How tokens become one vector, in space and in time: a class token, their mean, or a weighted sum with
    learnt attention, whose weights tell which frames and regions counted."""
    ordered: bool | None = None
    """Whether frames know their place in time; empty: in all kinds but pooled."""
    fusion: Literal["mean", "concat", "attention"] = "attention"
    """How the scales of several strides become one vector."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on embeddings and on each sub-layer's output."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth (Huang et al. 2016): the share of examples that go past the last layer while training;
    earlier layers have less."""
    head_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the last layer."""
    norm: Literal["post", "pre"] = "pre"
    """LayerNorm before each sub-layer, or after each residual sum."""
    norm_kind: Literal["layer", "rms"] = "layer"
    """LayerNorm, or RMSNorm without a mean."""
    activation: Literal["gelu", "gelu_tanh", "relu", "swiglu", "geglu"] = "gelu_tanh"
    """Of the feed-forward nets; the glu kinds are gated."""
    bias: bool = True
    """Whether linear layers have biases."""
    attention: VideoAttention = VideoAttention()

    def cross_checks(self) -> list[Rule]:
        """Patches that convolutions can make; frames for themselves have no tubelets, one frame no order."""
        wrong: list[Rule] = []
        if self.tokenizer == "convolution" and (self.patch & (self.patch - 1) or self.patch < 2):
            why = f"{self.patch}: convolutions halve, so that a token is 2, 4, 8, 16 or 32 pixels wide"
            wrong.append((("patch", "tokenizer"), why))
        if self.space_time in APART and (self.tubelet or 1) > 1:
            why = f"{self.space_time} sees each frame for itself, and a tubelet holds {self.tubelet}"
            wrong.append((("tubelet", "space_time"), why))
        if self.ordered is not None and self.space_time not in ("factorised", "pooled"):
            why = "is of factorised and pooled; the others " + (
                "see one frame" if self.space_time == "frame" else "tell time and space together"
            )
            wrong.append((("ordered", "space_time"), why))
        return wrong


class VideoAugment(AugmentSection):
    """``train.augment``: how training clips are varied, all frames of a clip alike."""


class VideoTrain(ClassifyTrain):
    """``train`` of video."""

    epochs: float = Field(20.0, gt=0)
    """Passes over the training part, where steps is 0."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    augment: VideoAugment = VideoAugment()


class VideoEvaluate(LabelEvaluate):
    """``evaluate`` of video."""

    clips: int = Field(4, ge=1)
    """Clips of each video, evenly spaced, whose probabilities are averaged."""


class VideoRecipe(Recipe):
    """A recipe of ``attn classify video``."""

    data_key: ClassVar[str] = "data.path"

    data: VideoData = VideoData()
    clip: ClipSection = ClipSection()
    model: VideoModel = VideoModel()
    train: VideoTrain = VideoTrain()
    evaluate: VideoEvaluate = VideoEvaluate()

    def cross_checks(self) -> list[Rule]:
        """A clip is whole tubelets; one frame has no motion."""
        wrong: list[Rule] = []
        tubelet = tubelet_of(self.model)
        if self.clip.frames % tubelet:
            why = f"{self.clip.frames} frames are not whole tubelets of {tubelet}"
            wrong.append((("clip.frames", "model.tubelet"), why))
        for name in ("layer_decay", "head_rate"):
            if getattr(self.train, name) != 1.0:
                why = "is of encoders that are one stack of layers; a model of video has several"
                wrong.append(((f"train.{name}",), why))
        if self.data.cross_validate and self.train.seeds > 1:
            wrong.append((("data.cross_validate", "train.seeds"), "give one of the two: folds or seeds"))
        if self.clip.motion != "none" and self.model.space_time == "frame":
            wrong.append((("clip.motion", "model.space_time"), "frame sees one frame, which has no motion"))
        return wrong


def tubelet_of(model: VideoModel) -> int:
    """Frames in a token."""
    return model.tubelet or (2 if model.space_time in ("joint", "factorised") else 1)
