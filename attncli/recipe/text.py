"""Recipe sections of models that read text and label it: data, tokeniser, model, training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.mechanisms import MechanismName
from attncli.recipe.pretrain import LanguageModel, TextTokenizer
from attncli.recipe.sections import AttentionSection, Rule, Section, TrainSection


class LabelledParts(Section):
    """What every labelled data set has: a place, its parts, and limits."""

    places: ClassVar[tuple[str, ...]] = ("path", "validation", "tests")

    path: str = "builtin"
    """builtin, a file, a folder of train, validation and test files, or the name of a hub data set."""
    validation: str | float = 0.1
    """Where there is no validation part: another path, or the share of the examples held out."""
    tests: list[str] = Field(default_factory=list)
    """Test sets measured after training, by path; empty takes every part whose name begins with test."""
    limit: int = Field(0, ge=0)
    """Read at most so many training examples; 0 reads all."""
    cache: str = ""
    """Folder for downloads and tokenised text; empty is the user's cache folder."""


class LabelledText(LabelledParts):
    """``data`` of classification: texts, or pairs of texts, with labels."""

    text: str = ""
    """Column of the text; empty takes text, sentence, sentence1, premise, question, review or the like."""
    pair: str = ""
    """Column of the second text of a pair; empty takes sentence2, hypothesis or the like beside the first."""
    label: str = ""
    """Column of the label; empty takes label, labels, class, score or the like."""
    kind: Literal["auto", "single", "multi", "regression"] = "auto"
    """One label a text, several, or a number; auto reads it from the labels: lists are several, numbers with
    fractions are regression."""
    labels: list[str] = Field(default_factory=list)
    """Every label, in the order of the outputs; empty takes those of the training part, sorted."""
    empty: Literal["refuse", "skip", "keep"] = "refuse"
    """What becomes of an empty text."""
    max_length: int = Field(128, ge=4)
    """Longest example in tokens, special ones included; longer texts are cut and counted."""


class Documents(LabelledText):
    """``data`` of models that read a document sentence by sentence."""

    max_length: int = Field(50, ge=2)
    """Longest sentence in words; what is longer goes on as another sentence."""
    max_sentences: int = Field(60, ge=1)
    """Most sentences of a document; of longer ones the first and the last halves of so many are read."""


class TaggedText(LabelledParts):
    """``data`` of tagging: words with a tag each."""

    tokens: str = ""
    """Column of the words: a number (from 0) in CoNLL files, a field in JSON lines; empty is the first, or
    tokens or words."""
    tags: str = ""
    """Column of the tags; empty is the last, or tags, ner_tags or labels."""
    scheme: Literal["auto", "iob1", "iob2", "bioes", "none"] = "auto"
    """How entities are written as tags; none: each word's tag stands alone, as parts of speech do."""
    train_scheme: Literal["same", "iob2", "bioes"] = "same"
    """Scheme that the model learns; predictions are written in the data's own."""
    max_length: int = Field(128, ge=8)
    """Longest window in tokens, special ones included; longer sentences are read in several."""


class QuestionData(LabelledParts):
    """``data`` of question answering: SQuAD's JSON."""

    unanswerable: Literal["auto", "yes", "no"] = "auto"
    """Whether questions may have no answer (SQuAD v2); auto finds out from the training part."""
    max_length: int = Field(384, ge=32)
    """Longest window in tokens: question, special tokens and a part of the context."""
    stride: int = Field(128, ge=1)
    """Tokens that neighbouring windows of a long context share."""
    max_question: int = Field(64, ge=4)
    """Longest question in tokens; longer ones are cut and counted."""


class EncoderAttention(AttentionSection):
    """``model.attention`` of an encoder that may be pre-trained: what is empty comes from the base."""

    mechanism: MechanismName | None = None  # type: ignore[assignment]
    """How queries meet keys; empty is the base's own, scaled_dot without one. Mechanisms without weights of
    their own (scaled_dot, topk, window, longformer, sparsemax, performer, nystrom ...) can stand in for each
    other on a base."""
    dropout: float | None = Field(None, ge=0, lt=1)  # type: ignore[assignment]
    """Dropout on attention weights; empty is the base's own, none without one."""


class EncoderModel(LanguageModel):
    """``model``: an encoder, pre-trained or fresh, and a head on it."""

    places: ClassVar[tuple[str, ...]] = ("base",)

    attention: EncoderAttention = EncoderAttention()

    family: Literal["bert", "roberta", "albert", "modernbert"] = "bert"  # type: ignore[assignment]
    """What the layers are like, where model.base is empty."""
    size: Literal["tiny", "mini", "small", "medium", "base", "large"] = "tiny"
    """Published dimensions, where model.base is empty; the settings below override single ones."""
    base: str = ""
    """Pre-trained encoder: a run of attn pretrain, or a Hugging Face folder; --from is short for it. Empty
    trains a fresh one of the dimensions below."""
    weights: Literal["base", "fresh"] = "base"
    """The base's weights, or fresh ones in its shape with its tokeniser: what pre-training is worth."""
    dropout: float | None = Field(None, ge=0, lt=1)  # type: ignore[assignment]
    """Dropout inside the encoder; empty is the base's own, 0.1 without one."""
    head_dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the last layer."""
    reset_layers: int = Field(0, ge=0)
    """Highest layers whose weights are drawn anew (Zhang et al. 2021): steadier on very small data."""
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
        """What a base decides cannot be set beside it, and the other way round."""
        wrong: list[Rule] = []
        fields = type(self).model_fields
        if self.base:
            decided = ("family", "size", "layers", "width", "intermediate", "length", "norm", "norm_kind",
                       "activation", "bias", "embedding_width", "share_layers", "local_window")  # fmt: skip
            for name in decided:
                if getattr(self, name) != fields[name].get_default():
                    wrong.append(((name, "base"), "comes from model.base; leave it out"))
            attention = type(self.attention).model_fields
            for name in ("position", "heads", "kv_heads", "kv_latent", "qk_norm"):
                if getattr(self.attention, name) != attention[name].get_default():
                    wrong.append(((f"attention.{name}", "base"), "comes from model.base; leave it out"))
        else:
            for name in ("weights", "reset_layers", "freeze_layers", "freeze_embeddings", "lora"):
                if getattr(self, name) != fields[name].get_default():
                    wrong.append(((name, "base"), "is of a pre-trained encoder: give model.base (--from)"))
        if self.lora and self.freeze_layers:
            wrong.append(
                (("freeze_layers", "lora"), "with model.lora only the low-rank updates learn anyway")
            )
        return wrong


class SequenceModel(EncoderModel):
    """``model`` of classification."""

    pooling: Literal["auto", "first", "mean", "max", "attention"] = "auto"
    """What the head reads: the first token, as BERT does; the mean or maximum over tokens; or a weighted sum
    with learnt attention weights. auto is the first, but the mean for a base whose first token has learnt to
    stand for nothing: a run without an objective for sentences."""


class TokenModel(EncoderModel):
    """``model`` of tagging."""

    crf: bool = False
    """A conditional random field over the tags: scores of neighbouring tags are learnt as well
    (Lample et al. 2016)."""


class LabelTrain(TrainSection):
    """``train`` of models on labelled data."""

    epochs: float = Field(3.0, gt=0)
    """Passes over the training part, where steps is 0."""
    steps: int = Field(0, ge=0)
    """Updates of the weights; 0 lets epochs decide."""
    batch: int = Field(32, ge=1)
    """Examples in one update, over all processes and accumulation rounds."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between evaluations; 0 is once an epoch."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each layer of the encoder learns at this share of the rate of the layer above it (Sun et al. 2019);
    1 is the same rate for all."""
    head_rate: float = Field(1.0, gt=0)
    """The head learns at so many times the learning rate."""
    r_drop: float = Field(0.0, ge=0)
    """Weight of R-Drop: two passes with different dropout shall agree (Liang et al. 2021); 0 is off, and a
    step takes half as long."""
    seeds: int = Field(1, ge=1)
    """Runs with seeds seed, seed + 1 ...; mean and deviation of their metrics are shown."""


class FreshTrain(Section):
    """What ``train`` of fine-tuning adds for encoders whose weights are fresh."""

    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate; empty suits the encoder's width C: 5e-5 (768 / C)^1.5, 3e-4 at most."""
    fresh_epochs: float = Field(10.0, gt=0)
    """Passes over the training part of an encoder without pre-trained weights, in place of epochs."""
    fresh_learning_rate: float = Field(1e-3, gt=0)
    """Its peak learning rate, in place of learning_rate."""


class ClassifyTrain(LabelTrain):
    """``train`` of classification."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the probability that is spread over all labels (single-label only)."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each label's loss is weighted by the inverse of its frequency."""
    goal: Literal["auto", "accuracy", "f1", "matthews", "spearman", "loss"] = "auto"
    """Metric that says which checkpoint is better; auto: accuracy, macro F1 of several labels, Spearman of
    numbers."""


__all__ = [
    "ClassifyTrain",
    "Documents",
    "EncoderModel",
    "FreshTrain",
    "LabelTrain",
    "LabelledParts",
    "LabelledText",
    "QuestionData",
    "SequenceModel",
    "TaggedText",
    "TextTokenizer",
    "TokenModel",
]
