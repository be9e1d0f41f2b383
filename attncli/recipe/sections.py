"""The recipe sections that every task shares, as pydantic models.

The docstring under each setting is its documentation: it goes into ``attn recipes show``, into the
JSON schema for editors and into errors. A task's own recipe class stands in a file of its own beside
this one (``pretrain.py``) and is listed in ``schemas.py``.
"""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from attncli.recipe.mechanisms import OPTIONS, TAKES, MechanismName, takers

Rule = tuple[tuple[str, ...], str]
"""A broken rule across settings: the keys it reads, the one to blame first, and the reason."""


class Section(BaseModel):
    """Base of every section: unknown keys are errors, settings are documented where they stand."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    places: ClassVar[tuple[str, ...]] = ()
    """Settings that may name a file or a folder."""

    def locate(self) -> None:
        """Make paths absolute, here and in the sections inside, so that a run can be used from anywhere."""
        for name in self.places:
            value = getattr(self, name)
            found = [absolute(one) for one in value] if isinstance(value, list) else absolute(value)
            setattr(self, name, found)
        for name in type(self).model_fields:
            if isinstance(inside := getattr(self, name), Section):
                inside.locate()

    def cross_checks(self) -> list[Rule]:
        """The rules across this section's settings that are broken; keys are relative to the section.

        Every section of a recipe is asked. A rule is passed over where one of its keys is wrong already.
        """
        return []


def absolute(value: Any) -> Any:
    """The absolute path of what is there by this name; anything else as it is."""
    if not isinstance(value, str) or value in ("", "builtin"):
        return value
    path = os.path.expanduser(value)
    return os.path.abspath(path) if os.path.exists(path) else value


class AttentionSection(Section):
    """``model.attention``: which attention, and how it is computed. The same in every task."""

    mechanism: MechanismName = "scaled_dot"
    """How queries meet keys."""
    position: Literal["none", "sinusoidal", "learned", "shaw", "t5", "rotary", "alibi"] = "learned"
    """Position scheme: absolute ones are added to the input, the others act inside attention."""
    heads: int | None = Field(None, ge=1)
    """Query heads; empty takes the size's published number."""
    kv_heads: int | None = Field(None, ge=1)
    """Key/value heads: equal to heads is multi-head, 1 multi-query, between grouped-query."""
    kv_latent: int | None = Field(None, ge=1)
    """Features of a latent that keys and values of all heads come from (MLA), and that a cache holds in their
    place; empty is none."""
    window: int | None = Field(None, ge=1)
    """Tokens visible on each side; for window, dilated, longformer and global_local: 64."""
    topk: int | None = Field(None, ge=1)
    """Keys kept for each query; for topk: 8."""
    dilation: int | None = Field(None, ge=1)
    """Only every so-manieth token of the window; for dilated: 2."""
    global_tokens: int | None = Field(None, ge=0)
    """First tokens that see all and that all see; for longformer: 1."""
    block: int | None = Field(None, ge=1)
    """Tokens in a block; for bigbird: 64."""
    global_blocks: int | None = Field(None, ge=0)
    """First blocks that see all and that all see; for bigbird: 1."""
    random_blocks: int | None = Field(None, ge=0)
    """Further blocks drawn for each block; for bigbird: 2."""
    span: int | None = Field(None, ge=1)
    """Farthest that a head may learn to look, in tokens; for adaptive_span: 512."""
    ramp: int | None = Field(None, ge=1)
    """Tokens over which a head's sight fades; for adaptive_span: 32."""
    buckets: int | None = Field(None, ge=2)
    """Buckets of each hash, an even number; for lsh: one for 32 tokens of length, 16 at least."""
    rounds: int | None = Field(None, ge=1)
    """Hashes, any of which may bring two tokens together; for lsh: 2."""
    features: int | None = Field(None, ge=1)
    """Random features of a head; for performer: 128."""
    length: int | None = Field(None, ge=1)
    """Longest sequence, for cosformer, linformer and lsh: empty is the model's length."""
    rank: int | None = Field(None, ge=1)
    """Rows that keys and values are projected to; for linformer: 64."""
    landmarks: int | None = Field(None, ge=1)
    """Landmarks; for nystrom: 64."""
    kernel: int | None = Field(None, ge=1)
    """Width of the convolution's kernel in tokens, an odd number; for convolution: 15."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on attention weights."""
    qk_norm: bool = False
    """Normalise queries and keys of each head (RMS) before the scores."""
    backend: Literal["auto", "reference", "fused", "chunked", "flex", "blocks", "linear"] = "auto"
    """How an exact mechanism is computed; auto takes what measures fastest on this machine."""

    def cross_checks(self) -> list[Rule]:
        """Head counts that divide, and options that belong to the mechanism."""
        wrong: list[Rule] = []
        if self.heads and self.kv_heads and self.heads % self.kv_heads:
            why = f"{self.kv_heads} must divide heads={self.heads}: each serves equally many query heads"
            wrong.append((("kv_heads", "heads"), why))
        if self.kv_latent and self.qk_norm:
            why = "the latent is normalised itself, and its keys are not formed when decoding"
            wrong.append((("qk_norm", "kv_latent"), why))
        for option in OPTIONS:
            if getattr(self, option) is not None and option not in TAKES.get(self.mechanism or "", ()):
                why = f"only mechanism {takers(option)} reads it, and mechanism is {self.mechanism}"
                wrong.append(((option, "mechanism"), why))
        return wrong

    def options(self) -> dict[str, int]:
        """The mechanism's options that were given."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}


class ScheduleSection(Section):
    """``train.schedule``: the learning rate over the steps."""

    kind: Literal["linear", "cosine", "inverse_sqrt", "wsd", "constant"] = "linear"
    """Shape after warm-up: linear or cosine to the floor, inverse square root, warm-up-stable-decay (wsd), or
    constant."""
    warmup: int | float = Field(0.1, ge=0)
    """Warm-up steps; a fraction below 1 is a share of all steps."""
    floor: float = Field(0.0, ge=0, le=1)
    """Final learning rate as a share of the peak."""
    decay: float = Field(0.2, gt=0, le=1)
    """Share of the steps that the decay of wsd takes, at the end."""

    def cross_checks(self) -> list[Rule]:
        """A fraction is a share of the steps only below 1."""
        if self.warmup > 1 and self.warmup != int(self.warmup):
            return [(("warmup",), f"{self.warmup} is neither a number of steps nor a share below 1")]
        return []


class TrainSection(Section):
    """``train``: the loop. The same in every task; tasks add an objective."""

    steps: int = Field(1000, ge=1)
    """Optimizer updates."""
    batch: int = Field(32, ge=1)
    """Examples in one update, over all processes and accumulation rounds."""
    accumulate: int = Field(1, ge=1)
    """Rounds that one batch is split into, to save memory; the result is the same."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon for the matrices with adamw for the rest."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    muon_learning_rate: float = Field(0.02, gt=0)
    """Peak learning rate of the matrices under muon."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay, on matrices only."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """First-moment decay of adamw."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Second-moment decay of adamw."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to adamw's denominator."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 is no clipping."""
    schedule: ScheduleSection = ScheduleSection()
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto is bf16 autocast where the processor or GPU multiplies it faster, else float32."""
    average: Literal["none", "ema", "last"] = "none"
    """Weight averaging that evaluation and export use: none, moving average, or the last checkpoints."""
    ema_decay: float = Field(0.999, gt=0, lt=1)
    """Decay of the moving average."""
    average_last: int = Field(5, ge=1)
    """Checkpoints averaged by average=last."""
    evaluate_every: int = Field(200, ge=0)
    """Steps between evaluations; 0 evaluates at the end only."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps between checkpoints; 0 is at every evaluation."""
    keep: int = Field(2, ge=1)
    """Latest checkpoints kept, besides the best."""
    patience: int = Field(0, ge=0)
    """Evaluations without improvement before stopping early; 0 never stops early."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of metrics.jsonl."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    compile: bool = False
    """torch.compile the model; worth it on GPUs, seldom on CPUs."""
    tensorboard: bool = False
    """Also write TensorBoard events into the run folder."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 leaves the choice to PyTorch."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Seed of the weights, the data order, masking and dropout."""

    def cross_checks(self) -> list[Rule]:
        """Batches cut evenly; the device is one there can be."""
        wrong: list[Rule] = []
        if self.batch % self.accumulate:
            wrong.append(
                (("accumulate", "batch"), f"{self.accumulate} must divide batch={self.batch} evenly")
            )
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            wrong.append(
                (("device",), f"{self.device!r} is no device; there are auto, cpu, cuda, cuda:1 and so on")
            )
        return wrong


class Recipe(Section):
    """What every recipe has: five sections that answer five questions, in the same words everywhere."""

    data_key: ClassVar[str] = "data.source"
    """The setting that ``--data`` is short for."""

    extends: str | None = None
    """Another recipe of the same command that this one starts from."""
    description: str = ""
    """One line shown in lists."""
