"""The recipes of ``attn translate``: parallel text to a model that translates."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section, TrainSection, absolute


class ParallelData(Section):
    """``data``: the sentence pairs that are learnt from."""

    path: str = "builtin"
    """builtin, a folder or the common beginning of parallel files (train.en, train.de ...), a file of pairs
    (TSV, CSV, JSON lines, parquet), or the name of a hub data set."""
    source: str = "en"
    """Language translated from: the ending of its files, or its column or field."""
    target: str = "de"
    """Language translated to."""
    validation: str | float = 0.05
    """Where there is no validation part: another path, or the share of the pairs held out."""
    tests: list[str] = Field(default_factory=list)
    """Test sets measured after training, by name (test_2016_flickr for test_2016_flickr.en and .de) or by
    path; empty takes every part whose name begins with test."""
    max_length: int = Field(128, ge=2)
    """Longest sentence learnt from, in tokens, on either side; longer pairs are left out and counted."""
    limit: int = Field(0, ge=0)
    """Read at most so many training pairs; 0 reads all."""
    cache: str = ""
    """Folder for the tokenised text; empty is the user's cache folder."""

    def locate(self) -> None:
        """A path may be the common beginning of files; tests may be parts of the data, by name."""
        if self.path != "builtin":
            self.path = _absolute_beginning(self.path)
        if isinstance(self.validation, str):
            self.validation = _absolute_beginning(self.validation)
        self.tests = [_absolute_beginning(test) if os.sep in test else test for test in self.tests]


def _absolute_beginning(text: str) -> str:
    parent, name = os.path.split(os.path.expanduser(text))
    folder = parent or "."
    begins = os.path.isdir(folder) and any(entry.startswith(f"{name}.") for entry in os.listdir(folder))
    return os.path.abspath(os.path.expanduser(text)) if begins else absolute(text)


class PairTokenizer(Section):
    """``tokenizer``: trained with the run and stored with it."""

    vocabulary: int = Field(8000, ge=300)
    """Entries, special tokens included, or what the text supports where that is less."""
    joint: bool = True
    """One BPE for both languages; false trains one for each."""
    lowercase: bool = False
    """Fold the case of both sides; translations are lower-cased too."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """BPE-dropout: share of the merges left out at random while training (Provilkov et al. 2020)."""


class TransformerModel(Section):
    """``model`` of a Transformer."""

    family: Literal["transformer"] = "transformer"
    """Encoder and decoder of Vaswani et al. 2017."""
    size: Literal["tiny", "small", "base", "big"] = "tiny"
    """Published dimensions; the settings below override single ones."""
    encoder_layers: int | None = Field(None, ge=1)
    """Layers that read the source."""
    decoder_layers: int | None = Field(None, ge=1)
    """Layers that write the target."""
    width: int | None = Field(None, ge=1)
    """Width of the residual stream."""
    intermediate: int | None = Field(None, ge=1)
    """Inner width of the feed-forward nets."""
    length: int = Field(256, ge=4)
    """Positions that the model knows."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on embeddings and on each sub-layer's output."""
    norm: Literal["post", "pre"] = "post"
    """LayerNorm after each residual sum as published, or before each sub-layer."""
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu", "geglu"] = "relu"
    """Of the feed-forward nets."""
    tie_embeddings: Literal["none", "decoder", "all"] = "all"
    """Which embeddings are one matrix: none; target input and output (decoder); these and the
    source's (all)."""
    attention: AttentionSection = AttentionSection(position="sinusoidal")


class RecurrentAttention(Section):
    """``model.attention`` of the recurrent model."""

    mechanism: Literal["additive", "dot", "scaled_dot", "bilinear", "cosine", "topk"] = "additive"
    """Score: additive (Bahdanau et al. 2015; Luong's concat), dot, bilinear (Luong's general)."""
    scope: Literal["global", "local"] = "global"
    """Over the whole source, or over a window around a predicted place (Luong et al. 2015, local-p)."""
    window: int = Field(10, ge=1)
    """Source tokens on each side of the place, for scope local."""
    topk: int | None = Field(None, ge=1)
    """Source tokens kept for each query, for mechanism topk."""
    heads: int = Field(1, ge=1)
    """Query heads; the published models have one."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on attention weights."""

    def cross_checks(self) -> list[Rule]:
        """Options belong to their mechanism."""
        if self.mechanism == "topk" and self.topk is None:
            return [(("topk", "mechanism"), "mechanism topk needs it: how many tokens a query sees")]
        if self.mechanism != "topk" and self.topk is not None:
            return [
                (("topk", "mechanism"), f"only mechanism topk reads it, and mechanism is {self.mechanism}")
            ]
        return []


class RecurrentModel(Section):
    """``model`` of a recurrent encoder and decoder."""

    family: Literal["recurrent"] = "recurrent"
    """Encoder and decoder of recurrent cells with attention between them."""
    style: Literal["bahdanau", "luong"] = "luong"
    """bahdanau: attention comes before the cell and feeds it (Bahdanau et al. 2015); luong: it comes after
    the cells and meets their output (Luong et al. 2015)."""
    input_feeding: bool = False
    """Luong's: the attended output of one step is part of the next step's input. Slower: step by step."""
    cell: Literal["gru", "lstm"] = "gru"
    """Recurrent cell."""
    encoder_layers: int = Field(1, ge=1)
    """Bidirectional layers that read the source."""
    decoder_layers: int = Field(1, ge=1)
    """Layers that write the target."""
    embedding: int = Field(256, ge=1)
    """Width of the word embeddings."""
    width: int = Field(256, ge=1)
    """Width of the states; the encoder has so much in each direction."""
    length: int = Field(256, ge=4)
    """Longest sentence that is translated, in tokens."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on embeddings, between layers and before the output."""
    tie_embeddings: Literal["none", "decoder", "all"] = "all"
    """Which embeddings are one matrix: none; target input and output (decoder); these and the
    source's (all)."""
    attention: RecurrentAttention = RecurrentAttention()

    def cross_checks(self) -> list[Rule]:
        """Options belong to their style."""
        if self.input_feeding and self.style == "bahdanau":
            return [(("input_feeding", "style"), "is Luong's; Bahdanau's attention feeds the cell already")]
        return []


class TranslateTrain(TrainSection):
    """``train`` of translate."""

    batch: int = Field(4096, ge=32)
    """Tokens in one update, over all processes and accumulation rounds: pairs of like length, the longer side
    counted, padding included."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the probability that is spread over all words (Szegedy et al. 2016)."""
    goal: Literal["bleu", "loss"] = "bleu"
    """What says which checkpoint is better, and stops early: BLEU of the validation part, or its loss."""


class Search(Section):
    """``evaluate.search``: how a translation is found."""

    beam: int = Field(5, ge=1)
    """Hypotheses kept; 1 is greedy."""
    length_penalty: float = Field(1.0, ge=0)
    """Scores are divided by the length to this power: 0 favours short ones."""
    min_length: int = Field(0, ge=0)
    """Fewest tokens of a translation."""
    max_length: float = Field(2.0, gt=0)
    """Most tokens of a translation: so many times the source's, and ten more."""
    no_repeat: int = Field(0, ge=0)
    """No sequence of so many tokens comes twice; 0 allows all."""
    batch: int = Field(256, ge=1)
    """Sentences searched at once; does not change the translations."""
    shortlist: int = Field(0, ge=0)
    """Search among the words that are likely for the sources at hand: so many for each source token and the
    most frequent ones; 0 is the whole vocabulary."""


class TranslateEvaluate(Section):
    """``evaluate`` of translate."""

    search: Search = Search()
    limit: int = Field(0, ge=0)
    """Validation sentences translated in each evaluation while training; 0 is all."""
    validation_beam: int = Field(1, ge=1)
    """Beam of the evaluations while training; greedy is quicker and ranks alike."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of the confidence interval of BLEU; 0 leaves it out."""


class TranslateRecipe(Recipe):
    """What the recipes of ``attn translate`` share."""

    data_key: ClassVar[str] = "data.path"

    data: ParallelData = ParallelData()
    tokenizer: PairTokenizer = PairTokenizer()
    train: TranslateTrain = TranslateTrain()
    evaluate: TranslateEvaluate = TranslateEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Rules across sections."""
        wrong: list[Rule] = []
        model = self.model  # type: ignore[attr-defined]
        if self.data.source == self.data.target:
            wrong.append((("data.target", "data.source"), f"both languages are {self.data.source}"))
        if not self.tokenizer.joint and model.tie_embeddings == "all":
            why = "all embeddings can be one matrix only with tokenizer.joint=true; take decoder or none"
            wrong.append((("model.tie_embeddings", "tokenizer.joint"), why))
        if self.data.max_length > model.length:
            why = f"the model takes model.length={model.length} tokens"
            wrong.append((("data.max_length", "model.length"), why))
        return wrong


class TransformerRecipe(TranslateRecipe):
    """A recipe of ``attn translate``: the Transformer."""

    model: TransformerModel = TransformerModel()


class Seq2SeqRecipe(TranslateRecipe):
    """A recipe of ``attn translate``: recurrent encoder and decoder with attention."""

    model: RecurrentModel = RecurrentModel()
