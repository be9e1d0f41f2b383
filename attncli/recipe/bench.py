"""The recipes of ``attn bench``: what is timed, at which sizes, for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from attncli.recipe.pretrain import LanguageModel, PretrainTrain
from attncli.recipe.sections import AttentionSection, Recipe, Section


class BenchTokens(Section):
    """``tokenizer`` of bench: the inputs are random tokens, so only their number counts."""

    vocabulary: int = Field(8192, ge=8)
    """Entries of the vocabulary."""


class BenchEvaluate(Section):
    """``evaluate`` of bench: how the timing is done."""

    rounds: int = Field(15, ge=1)
    """Timed rounds; every case runs once in each, in turn, and the median counts."""
    warmup: int = Field(3, ge=0)
    """Rounds before those."""
    peers: bool = True
    """Time other libraries beside ours, where they are installed."""


class BenchTrainRecipe(Recipe):
    """A recipe of ``attn bench train``: one training step (forward, backward, update)."""

    tokenizer: BenchTokens = BenchTokens()
    model: LanguageModel = LanguageModel()
    train: PretrainTrain = PretrainTrain()
    evaluate: BenchEvaluate = BenchEvaluate()


class BenchShapes(Section):
    """``data`` of bench attention: the shapes."""

    tokens: int = Field(4096, ge=1)
    """Tokens in one call: so many sequences at once as make them up, one at least."""
    lengths: list[int] = Field([128, 256, 512, 1024, 2048, 4096], min_length=1)
    """Tokens in a sequence."""
    causal: bool = False
    """Whether a token sees only those before it."""


class BenchHeads(Section):
    """``model`` of bench attention."""

    head_width: int = Field(64, ge=1)
    """Width of a head."""
    attention: AttentionSection = AttentionSection(heads=8, position="none")


class BenchDevice(Section):
    """``train`` of bench attention: where and in which precisions."""

    precisions: list[Literal["float32", "bf16"]] = Field(["float32"], min_length=1)
    """Types of the inputs."""
    directions: list[Literal["forward", "backward"]] = Field(["forward", "backward"], min_length=1)
    """forward alone without gradients; backward is forward and backward together."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 leaves the choice to PyTorch."""
    seed: int = Field(1, ge=0)
    """Seed of the random inputs."""


class BenchAttentionRecipe(Recipe):
    """A recipe of ``attn bench attention``: the core's choice beside every backend called directly."""

    data: BenchShapes = BenchShapes()
    model: BenchHeads = BenchHeads()
    train: BenchDevice = BenchDevice()
    evaluate: BenchEvaluate = BenchEvaluate()
