"""The recipes of ``attn finetune``: a pre-trained encoder learns to classify, to tag, to answer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.pretrain import TextTokenizer
from attncli.recipe.sections import Recipe, Rule, Section
from attncli.recipe.text import (
    ClassifyTrain,
    EncoderModel,
    FreshTrain,
    LabelledText,
    LabelTrain,
    QuestionData,
    SequenceModel,
    TaggedText,
    TokenModel,
)


class LabelEvaluate(Section):
    """``evaluate`` of models on labelled data."""

    batch: int = Field(64, ge=1)
    """Examples that go through the model at once; does not change the results."""


class AnswerEvaluate(LabelEvaluate):
    """``evaluate`` of question answering."""

    max_answer: int = Field(30, ge=1)
    """Longest answer in tokens."""
    nbest: int = Field(20, ge=1)
    """Starts and ends of each window that are combined to answers."""
    no_answer_threshold: float | None = None
    """A question counts as unanswerable where no answer scores above 'none' by this much; empty finds the
    value that is best on the validation part."""


class EncoderRecipe(Recipe):
    """What recipes on an encoder share."""

    data_key: ClassVar[str] = "data.path"

    tokenizer: TextTokenizer = TextTokenizer()
    model: EncoderModel = EncoderModel()

    def cross_checks(self) -> list[Rule]:
        """Rules across sections."""
        wrong: list[Rule] = []
        if self.model.base:
            for name, info in TextTokenizer.model_fields.items():
                if getattr(self.tokenizer, name) != info.get_default():
                    wrong.append(((f"tokenizer.{name}", "model.base"), "comes from model.base; leave it out"))
        return wrong


class FinetuneClassifyTrain(FreshTrain, ClassifyTrain):
    """``train`` of fine-tuning to classify."""

    epochs: float | None = Field(None, gt=0)  # type: ignore[assignment]
    """Passes over the training part, where steps is 0; empty is 3, or up to 50 to make 200 updates."""


class ClassifyRecipe(EncoderRecipe):
    """A recipe of ``attn finetune classify``."""

    data: LabelledText = LabelledText()
    model: SequenceModel = SequenceModel()
    train: FinetuneClassifyTrain = FinetuneClassifyTrain()
    evaluate: LabelEvaluate = LabelEvaluate()


class TagTrain(FreshTrain, LabelTrain):
    """``train`` of tagging."""

    epochs: float | None = Field(None, gt=0)  # type: ignore[assignment]
    """Passes over the training part, where steps is 0; empty is 3, or up to 50 to make 200 updates."""
    head_rate: float | None = Field(None, gt=0)  # type: ignore[assignment]
    """The head learns at so many times the learning rate; empty is 10 for a random field on a pre-trained
    encoder, else 1."""
    goal: Literal["auto", "f1", "accuracy", "loss"] = "auto"
    """Metric that says which checkpoint is better; auto: entity F1, accuracy without a scheme."""


class TagRecipe(EncoderRecipe):
    """A recipe of ``attn finetune ner``."""

    data: TaggedText = TaggedText()
    model: TokenModel = TokenModel()
    train: TagTrain = TagTrain()
    evaluate: LabelEvaluate = LabelEvaluate()


class AnswerTrain(FreshTrain, LabelTrain):
    """``train`` of question answering."""

    epochs: float | None = Field(None, gt=0)  # type: ignore[assignment]
    """Passes over the training part, where steps is 0; empty is 2, or up to 50 to make 1,000 updates."""
    goal: Literal["f1", "exact_match", "loss"] = "f1"
    """Metric that says which checkpoint is better."""


class AnswerRecipe(EncoderRecipe):
    """A recipe of ``attn finetune qa``."""

    data: QuestionData = QuestionData()
    train: AnswerTrain = AnswerTrain()
    evaluate: AnswerEvaluate = AnswerEvaluate()
