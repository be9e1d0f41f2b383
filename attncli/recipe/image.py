"""The recipes of ``attn classify`` for images: what is in a picture."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.finetune import LabelEvaluate
from attncli.recipe.mechanisms import MechanismName
from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section
from attncli.recipe.text import ClassifyTrain
from attncli.recipe.vision import AugmentSection, LabelledPictures, PixelSection

_OF_SWIN = ("depths", "window")
_OF_VIT = ("tokenizer", "registers", "layers")
_IN_WINDOWS = ("relative_2d", "none", "learned", "sinusoidal_2d", "learned_2d")
_OF_CONVOLUTION = (
    "convolutions",
    "kernel",
    "stride",
    "pool",
    "convolution_width",
    "convolution_norm",
    "convolution_blocks",
)


class ImageAttention(AttentionSection):
    """``model.attention`` of models that see pictures."""

    position: Literal[
        "none", "learned", "sinusoidal_2d", "learned_2d", "rotary_2d", "relative_2d",
        "sinusoidal", "shaw", "t5", "rotary", "alibi",
    ] = "learned"  # fmt: skip
    """Position scheme. Of rows and columns: sinusoidal_2d, learned_2d, rotary_2d, relative_2d; learned has a
    vector for each token; the others count tokens row by row."""


class ImageModel(Section):
    """``model`` of image classification."""

    attention: ImageAttention = ImageAttention()

    family: Literal["vit", "swin"] = "vit"
    """vit: one resolution (Dosovitskiy et al. 2021; with tokenizer=convolution CCT, Hassani et al. 2021);
    swin: stages of falling resolution, attention in shifted windows (Liu et al. 2021)."""
    size: Literal["lite2", "lite4", "lite6", "lite7", "tiny", "small", "base", "large"] = "lite4"
    """Published dimensions: ViT-Lite's and CCT's lite2 to lite7 (of swin, ours); tiny, small, base and large.
    The settings below override single ones."""
    tokenizer: Literal["patch", "convolution"] = "patch"
    """How pixels become tokens: patches through one linear layer, or convolutions with pooling (CCT)."""
    patch: int = Field(4, ge=1)
    """Side of a patch in pixels, for tokenizer=patch."""
    convolutions: int | None = Field(None, ge=1)
    """Convolutions one after the other, for tokenizer=convolution; empty takes as many as leave at most 8x8
    tokens, as CCT's two of 32x32 pixels."""
    kernel: int = Field(3, ge=1)
    """Side of their kernels, an odd number."""
    stride: int = Field(1, ge=1)
    """Their stride."""
    pool: int = Field(3, ge=0)
    """Side of the max-pooling after each, whose stride is 2; 0 pools nothing."""
    convolution_width: int = Field(64, ge=1)
    """Features of all convolutions but the last, which has the model's width."""
    convolution_norm: Literal["none", "group"] = "none"
    """Whether what convolutions find is normalised by groups of features (Wu and He 2018): learns faster."""
    convolution_blocks: int = Field(0, ge=0)
    """Residual blocks of two more convolutions behind each (He et al. 2016); 0 as in CCT."""
    pooling: Literal["auto", "class", "mean", "attention"] = "auto"
    """What the last layer reads: a class token of its own, the mean of the tokens, or a sum with learnt
    weights (CCT's sequence pooling); auto is class for vit and mean for swin, which has no class token."""
    registers: int = Field(0, ge=0)
    """Further learnt tokens that the output does not read (Darcet et al. 2024)."""
    layers: int | None = Field(None, ge=1)
    """Depth; empty is the size's."""
    width: int | None = Field(None, ge=1)
    """Features of a token; empty is the size's. Of swin, those of the first stage."""
    intermediate: int | None = Field(None, ge=1)
    """Features inside the feed-forward nets; empty keeps the size's ratio to the width."""
    depths: list[int] = Field(default_factory=list)
    """Layers of each stage of swin; empty is the size's."""
    window: int = Field(4, ge=1)
    """Side of swin's windows in tokens."""
    norm_kind: Literal["layer", "rms"] = "layer"
    """LayerNorm or RMSNorm, before each sub-layer."""
    activation: Literal["gelu", "gelu_tanh", "relu", "swiglu", "geglu"] = "gelu"
    """Of the feed-forward nets; swiglu and geglu gate."""
    bias: bool = True
    """Whether linear layers and LayerNorms have biases."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on embeddings and sub-layers."""
    head_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the last layer."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth (Huang et al. 2016): how likely an example goes past the last layer's sub-layers; it
    grows evenly from 0 at the first."""
    layer_scale: float | None = Field(None, gt=0)
    """First value of a learnt factor on each sub-layer's output (Touvron et al. 2021); empty has none."""

    def cross_checks(self) -> list[Rule]:
        """Settings that belong to a family or a tokeniser."""
        wrong: list[Rule] = []
        given = {name for name in type(self).model_fields if getattr(self, name) != self._default(name)}
        if self.kernel % 2 == 0:
            wrong.append((("kernel",), f"{self.kernel} must be odd, so that it has a middle"))
        for name in sorted(given & set(_OF_CONVOLUTION)):
            if self.tokenizer != "convolution":
                wrong.append(((name, "tokenizer"), "is of tokenizer=convolution"))
        if self.tokenizer != "patch" and "patch" in given:
            wrong.append((("patch", "tokenizer"), "is of tokenizer=patch"))
        others = {"vit": _OF_SWIN, "swin": _OF_VIT}[self.family]
        for name in others:
            if name in given:
                wrong.append(((name, "family"), f"is not of family={self.family}"))
        if self.family == "swin" and self.pooling == "class":
            wrong.append(
                (("pooling", "family"), "class: family=swin has no class token; it has mean, attention")
            )
        if self.family == "swin" and self.attention.position not in _IN_WINDOWS:
            why = f"family=swin takes {', '.join(_IN_WINDOWS)}"
            wrong.append((("attention.position", "family"), why))
        return wrong

    def _default(self, name: str) -> object:
        return type(self).model_fields[name].get_default(call_default_factory=True)


class ImageTrain(ClassifyTrain):
    """``train`` of image classification."""

    augment: AugmentSection = AugmentSection()
    batch: int = Field(128, ge=1)
    """Images in one update, over all processes and accumulation rounds."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay, on matrices only."""
    epochs: float = Field(30.0, gt=0)
    """Passes over the training part, where steps is 0."""
    goal: Literal["auto", "accuracy", "top5_accuracy", "f1", "matthews", "spearman", "loss"] = "auto"
    """Metric that says which checkpoint is better; auto: accuracy, macro F1 of several labels, Spearman of
    numbers."""


class ImageEvaluate(LabelEvaluate):
    """``evaluate`` of image classification."""

    batch: int = Field(256, ge=1)
    """Images that go through the model at once; does not change the results."""
    flip: bool = False
    """Whether each image is also seen mirrored, and the two answers are averaged; takes twice as long."""


class ImageRecipe(Recipe):
    """A recipe of ``attn classify`` for images."""

    data_key: ClassVar[str] = "data.path"

    data: LabelledPictures = LabelledPictures()
    image: PixelSection = PixelSection()
    model: ImageModel = ImageModel()
    train: ImageTrain = ImageTrain()
    evaluate: ImageEvaluate = ImageEvaluate()


class PretrainedAttention(Section):
    """``model.attention`` of a pre-trained model: positions and heads are the base's."""

    mechanism: MechanismName | None = None
    """How queries meet keys; empty is the base's own. Mechanisms without weights of their own (scaled_dot,
    topk, window, sparsemax, performer, nystrom ...) can stand in for each other."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout on attention weights; empty is the base's own."""
    backend: Literal["auto", "reference", "fused", "chunked", "flex", "blocks", "linear"] = "auto"
    """How an exact mechanism is computed; auto takes what measures fastest on this machine."""


class PretrainedImageModel(Section):
    """``model`` of fine-tuning on images: the shape is the base's."""

    places: ClassVar[tuple[str, ...]] = ("base",)

    attention: PretrainedAttention = PretrainedAttention()

    base: str = ""
    """Pre-trained model: a run of attn classify on images, or a Hugging Face folder (ViT, DeiT); --from is
    short for it."""
    weights: Literal["base", "fresh"] = "base"
    """The base's weights, or fresh ones in its shape: what pre-training is worth."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout on embeddings and sub-layers; empty is the base's own."""
    head_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the last layer."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth of the last layer; it grows evenly from 0 at the first."""
    reset_layers: int = Field(0, ge=0)
    """Highest layers whose weights are drawn anew."""
    freeze_layers: int = Field(0, ge=0)
    """Lowest layers, with the embeddings, that do not learn; 0 trains all."""
    freeze_embeddings: bool = False
    """Whether embeddings stay as they are."""
    lora: int = Field(0, ge=0)
    """Rank of low-rank updates of the attention and feed-forward matrices (Hu et al. 2022): only they and the
    head learn; 0 trains all weights."""
    lora_alpha: float = Field(16.0, gt=0)
    """Low-rank updates are scaled by this over the rank."""

    def cross_checks(self) -> list[Rule]:
        """Low-rank updates freeze all else."""
        if self.lora and self.freeze_layers:
            return [(("freeze_layers", "lora"), "with model.lora only the low-rank updates learn anyway")]
        return []


class PretrainedPixels(PixelSection):
    """``image`` of fine-tuning: what is empty comes from the base."""

    size: list[int] = Field(default_factory=list, max_length=2)
    """Height and width in pixels, or one number for both; empty takes the base's. Learnt positions are
    interpolated to another size."""
    fit: Literal["crop", "pad", "stretch"] = "stretch"
    """How an image of another shape becomes size: its middle is cut out, its rim filled, or it is stretched,
    as transformers does."""
    normalise: Literal["base", "data", "half", "imagenet"] = "base"  # type: ignore[assignment]
    """Mean and deviation that pixels are brought to 0 and 1 with: the base's own, of the training part, 0.5
    and 0.5, or ImageNet's."""


class FinetuneImageTrain(ImageTrain):
    """``train`` of fine-tuning on images."""

    epochs: float = Field(5.0, gt=0)
    """Passes over the training part, where steps is 0."""
    batch: int = Field(32, ge=1)
    """Images in one update, over all processes and accumulation rounds."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""


class FinetuneImageRecipe(ImageRecipe):
    """A recipe of ``attn finetune`` on images."""

    image: PretrainedPixels = PretrainedPixels()
    model: PretrainedImageModel = PretrainedImageModel()  # type: ignore[assignment]
    train: FinetuneImageTrain = FinetuneImageTrain()
