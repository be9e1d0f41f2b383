"""The recipes of ``attn classify``: classifiers of text that are trained from scratch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.finetune import EncoderRecipe, LabelEvaluate
from attncli.recipe.sections import Recipe, Rule, Section
from attncli.recipe.text import ClassifyTrain, Documents, LabelledText, SequenceModel


class WordTokenizer(Section):
    """``tokenizer`` of models that read words; trained with the run and stored with it."""

    vocabulary: int = Field(20000, ge=100)
    """Most words known, special tokens included; the rest are unknown."""
    min_count: int = Field(2, ge=1)
    """A word that occurs less often in the training part is unknown."""
    lowercase: bool = True
    """Fold case."""


class HanModel(Section):
    """``model`` of the hierarchical attention network (Yang et al. 2016)."""

    family: Literal["han"] = "han"
    """Words make sentences, sentences make a document, each by attention."""
    encoder: Literal["gru", "lstm", "transformer"] = "gru"
    """What reads words in a sentence, and sentences in a document: in both directions."""
    embedding: int = Field(100, ge=1)
    """Width of the word embeddings."""
    width: int = Field(50, ge=1)
    """Width of a recurrent encoder's states, in each direction; a Transformer is twice as wide."""
    layers: int = Field(1, ge=1)
    """Layers of each encoder."""
    heads: int = Field(4, ge=1)
    """Heads of a Transformer encoder."""
    attention: Literal["additive", "dot", "mean", "max"] = "additive"
    """How the states of words, and of sentences, become one: scores against a learnt vector through a tanh
    layer as published, plain products with it, or without attention their mean or maximum."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout on embeddings, sentence vectors and before the output."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the words that are replaced by the unknown word while training."""


class HanRecipe(Recipe):
    """A recipe of ``attn classify han``."""

    data_key: ClassVar[str] = "data.path"

    data: Documents = Documents()
    tokenizer: WordTokenizer = WordTokenizer()
    model: HanModel = HanModel()
    train: ClassifyTrain = ClassifyTrain()
    evaluate: LabelEvaluate = LabelEvaluate()


class BagModel(Section):
    """``model`` of the baseline without attention or order."""

    family: Literal["bag_of_words"] = "bag_of_words"
    """A linear model on the words and runs of words of a text."""
    features: Literal["tfidf", "binary", "counts", "nb"] = "tfidf"
    """Weight of a word: tf-idf, presence, count, or log-count ratios of naive Bayes
    (Wang and Manning 2012)."""
    ngrams: int = Field(2, ge=1, le=5)
    """Longest run of words that is a feature."""
    min_count: int = Field(2, ge=1)
    """Texts of the training part that a feature occurs in at least."""


class BagRecipe(Recipe):
    """A recipe of ``attn classify bag_of_words``."""

    data_key: ClassVar[str] = "data.path"

    data: LabelledText = LabelledText()
    model: BagModel = BagModel()
    train: ClassifyTrain = ClassifyTrain()
    evaluate: LabelEvaluate = LabelEvaluate()


class TransformerRecipe(EncoderRecipe):
    """A recipe of ``attn classify transformer``: an encoder without pre-training."""

    data: LabelledText = LabelledText()
    model: SequenceModel = SequenceModel()
    train: ClassifyTrain = ClassifyTrain()
    evaluate: LabelEvaluate = LabelEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Pre-trained encoders are fine-tuned."""
        if self.model.base:
            why = "classify trains from scratch; attn finetune classify starts from a base"
            return [*super().cross_checks(), (("model.base",), why)]
        return super().cross_checks()
