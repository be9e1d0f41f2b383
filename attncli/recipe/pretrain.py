"""The recipe of ``attn pretrain``: language models trained from raw text."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section, TrainSection


class TextData(Section):
    """``data``: what is learnt from."""

    places: ClassVar[tuple[str, ...]] = ("source", "validation")

    source: str = "builtin"
    """builtin, a file or folder (text, JSON lines, CSV, parquet), or the name of a hub data set."""
    column: str = "text"
    """Column or field that holds the text, in JSON lines, CSV, parquet and hub data."""
    documents: Literal["blank_line", "line", "file"] = "blank_line"
    """What ends a document in plain text: a blank line, a line end, or the file's end (kept verbatim)."""
    validation: str | float = 0.05
    """A validation file, or the share of the documents (of the characters when documents=file) held out."""
    limit: int = Field(0, ge=0)
    """Read at most so many documents; 0 reads all."""
    cache: str = ""
    """Folder for the tokenised text; empty is the user's cache folder."""


class TextTokenizer(Section):
    """``tokenizer``: how text becomes numbers; trained with the run and stored with it."""

    places: ClassVar[tuple[str, ...]] = ("path",)

    kind: Literal["wordpiece", "bytebpe", "bpe", "char", "byte"] = "wordpiece"
    """WordPiece as BERT, byte-level BPE as GPT-2 and RoBERTa, plain BPE, characters, or bytes."""
    vocabulary: int = Field(0, ge=0)
    """Entries, special tokens included; 0 is 8,192, or what the text supports where that is less.
    Characters and bytes take what there are."""
    lowercase: bool = True
    """Fold case and strip accents (WordPiece and plain BPE)."""
    path: str = ""
    """Use this tokenizer.json in place of training one."""


class LanguageModel(Section):
    """``model``: the family and its dimensions."""

    family: Literal["bert", "roberta", "albert", "gpt", "modernbert"] = "bert"
    """What the layers and heads are like; the defaults of the settings below come from it."""
    size: Literal["tiny", "mini", "small", "medium", "base", "large"] = "mini"
    """Published dimensions; the settings below override single ones."""
    layers: int | None = Field(None, ge=1)
    """Transformer layers."""
    width: int | None = Field(None, ge=1)
    """Width of the residual stream."""
    intermediate: int | None = Field(None, ge=1)
    """Inner width of the feed-forward nets."""
    length: int = Field(128, ge=4)
    """Tokens a training example has, and positions the model knows."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on embeddings and on each sub-layer's output."""
    norm: Literal["post", "pre"] | None = None
    """LayerNorm after each residual sum as published for BERT, or before each sub-layer."""
    norm_kind: Literal["layer", "rms"] | None = None
    """LayerNorm, or RMSNorm without a mean."""
    activation: Literal["gelu", "gelu_tanh", "relu", "swiglu", "geglu"] | None = None
    """Of the feed-forward nets; the glu kinds are gated."""
    bias: bool | None = None
    """Whether linear layers have biases."""
    tie_embeddings: bool | None = None
    """Whether output and input embeddings are one matrix."""
    embedding_width: int | None = Field(None, ge=1)
    """Factorised embeddings of this width (ALBERT); empty follows the family."""
    share_layers: bool | None = None
    """Whether all layers share one set of parameters (ALBERT)."""
    local_window: int = Field(0, ge=0)
    """Tokens seen on each side in local layers; 0 has global layers only."""
    global_every: int = Field(3, ge=1)
    """One layer in so many is global, when local_window is set."""
    attention: AttentionSection = AttentionSection()


class Objective(Section):
    """``train.objective``: what is predicted."""

    kind: Literal["mlm", "clm"] = "mlm"
    """Masked tokens, or the next token."""
    mask: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens chosen for prediction (80 % masked, 10 % random, 10 % kept)."""
    whole_word: bool = False
    """Choose whole words rather than single tokens."""
    sentences: Literal["none", "next", "order"] = "none"
    """Second objective on two segments: next-sentence (BERT), sentence-order (ALBERT), or none."""
    packing: Literal["segments", "full", "packed"] = "segments"
    """segments: two segments of one example; full: sentences across documents; packed: several documents
    a row, kept apart by the mask, no padding."""


class PretrainTrain(TrainSection):
    """``train`` of pretrain."""

    objective: Objective = Objective()


class TextEvaluate(Section):
    """``evaluate``: how finished weights are measured."""

    batches: int = Field(0, ge=0)
    """Validation batches in each evaluation; 0 is the whole validation text."""
    stride: int = Field(0, ge=0)
    """Tokens between windows of the next-token perplexity; 0 is the length (no overlap)."""


class PretrainRecipe(Recipe):
    """A recipe of ``attn pretrain``."""

    data: TextData = TextData()
    tokenizer: TextTokenizer = TextTokenizer()
    model: LanguageModel = LanguageModel()
    train: PretrainTrain = PretrainTrain()
    evaluate: TextEvaluate = TextEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Rules across settings."""
        wrong: list[Rule] = []
        model, objective = self.model, self.train.objective
        causal = model.family == "gpt"
        if causal != (objective.kind == "clm"):
            why = (
                "family gpt needs objective clm: it sees only the tokens to the left"
                if causal
                else f"family {model.family} needs objective mlm: it sees the next token too"
            )
            wrong.append((("train.objective.kind", "model.family"), why))
        if objective.kind == "clm" and objective.sentences != "none":
            why = "only masked models have a sentence objective; clm needs none"
            wrong.append((("train.objective.sentences", "train.objective.kind"), why))
        if objective.sentences != "none" and objective.packing != "segments":
            why = f"sentences={objective.sentences} needs packing=segments: it needs two segments a row"
            wrong.append((("train.objective.packing", "train.objective.sentences"), why))
        return wrong
