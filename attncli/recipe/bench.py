"""The recipes of ``attn bench``: what is timed, at which sizes, for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from attncli.recipe.mechanisms import LayoutName, MechanismName
from attncli.recipe.pretrain import LanguageModel, Objective, PretrainTrain, TextData, TextTokenizer
from attncli.recipe.sections import AttentionSection, Recipe, Rule, Section
from attncli.recipe.translate import Search, TransformerModel, TranslateTrain


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
    """``data`` of bench attention: the mechanisms and the shapes."""

    mechanisms: list[MechanismName | Literal["all"]] = Field([])
    """Mechanisms side by side, or all; empty is model.attention.mechanism alone. Options that
    model.attention gives go to each mechanism that takes them."""
    layouts: list[LayoutName | Literal["all"]] = Field([])
    """Head layouts side by side, or all: whole layers with their projections, a step of decoding over a full
    cache, and what that holds; empty is none."""
    tokens: int = Field(4096, ge=1)
    """Tokens in one call: so many sequences at once as make them up, one at least."""
    lengths: list[int] = Field([128, 256, 512, 1024, 2048, 4096], min_length=1)
    """Tokens in a sequence."""
    causal: bool = False
    """Whether a token sees only those before it."""


class BenchAttention(AttentionSection):
    """``model.attention`` of bench attention."""

    def cross_checks(self) -> list[Rule]:
        """Head counts; options may belong to any of the mechanisms that are timed."""
        return [rule for rule in super().cross_checks() if "mechanism" not in rule[0]]


class BenchHeads(Section):
    """``model`` of bench attention."""

    head_width: int = Field(64, ge=1)
    """Width of a head."""
    attention: BenchAttention = BenchAttention(heads=8, position="none")


class BenchMachine(Section):
    """``train`` of bench decode: where."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 leaves the choice to PyTorch."""
    seed: int = Field(1, ge=0)
    """Seed of the random inputs."""


class BenchDevice(BenchMachine):
    """``train`` of bench attention: where and in which precisions."""

    precisions: list[Literal["float32", "bf16"]] = Field(["float32"], min_length=1)
    """Types of the inputs."""
    directions: list[Literal["forward", "backward"]] = Field(["forward", "backward"], min_length=1)
    """forward alone without gradients; backward is forward and backward together."""


class BenchAttentionEvaluate(BenchEvaluate):
    """``evaluate`` of bench attention."""

    peers: bool = True
    """Time flex attention, and whole layers with projections beside ours: PyTorch's, and those of
    x-transformers and Keras where they are installed."""
    seconds: float = Field(5.0, gt=0)
    """Time for one shape, all cases together: where the rounds would take longer there are fewer, three at
    least; where they take less and times scatter there are more."""


class BenchAttentionRecipe(Recipe):
    """A recipe of ``attn bench attention``: mechanisms beside each other and beside direct calls."""

    data: BenchShapes = BenchShapes()
    model: BenchHeads = BenchHeads()
    train: BenchDevice = BenchDevice()
    evaluate: BenchAttentionEvaluate = BenchAttentionEvaluate()


class BenchLengths(Section):
    """Lengths of random sentences, in tokens with their end: between two, around a mean."""

    shortest: int = Field(5, ge=2)
    """Tokens of the shortest sentence."""
    mean: float = 13.0
    """Tokens of a sentence on average."""
    longest: int = Field(25, ge=4)
    """Tokens of the longest sentence."""

    def cross_checks(self) -> list[Rule]:
        """The mean lies between."""
        if not self.shortest < self.mean < self.longest:
            why = f"{self.mean:g} is not between shortest={self.shortest} and longest={self.longest}"
            return [(("mean", "shortest", "longest"), why)]
        return []


class BenchSentences(BenchLengths):
    """``data`` of bench decode: what is translated."""

    run: str = ""
    """A trained run of ``attn translate``: its weights and its test set, and BLEU beside the speed. Empty:
    random weights and sentences."""
    test: str = ""
    """Which test set of the run, by name; empty takes its first."""
    sentences: int = Field(1000, ge=1)
    """Sentences translated, or all of the test set where it has fewer."""
    output: int = Field(15, ge=2)
    """Tokens of every translation, the end counted, where weights are random: the same for all systems."""


class BenchDecodeEvaluate(BenchEvaluate):
    """``evaluate`` of bench decode."""

    rounds: int = Field(5, ge=1)
    """Timed rounds; every system translates all sentences once in each, in turn, and the median counts."""
    warmup: int = Field(1, ge=0)
    """Rounds before those."""
    peers_batch: int = Field(64, ge=1)
    """Sentences of like length that peers search at once; more make transformers slower."""
    search: Search = Search()


class BenchDecodeRecipe(Recipe):
    """A recipe of ``attn bench decode``: beam search of a translating Transformer."""

    data: BenchSentences = BenchSentences()
    tokenizer: BenchTokens = BenchTokens()
    model: TransformerModel = TransformerModel()
    train: BenchMachine = BenchMachine()
    evaluate: BenchDecodeEvaluate = BenchDecodeEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Sentences and translations that the model can take."""
        most, length = max(self.data.longest, self.data.output), self.model.length
        if most > length and not self.data.run:
            return [(("model.length", "data.longest", "data.output"), f"{length} is less than {most} tokens")]
        return []


class BenchPairs(BenchLengths):
    """``data`` of bench translate: random pairs; each side's length follows the other's."""

    longest: int = Field(40, ge=4)
    """Tokens of the longest sentence."""
    pairs: int = Field(29000, ge=1)
    """Pairs that batches are made from."""
    batches: int = Field(3, ge=1)
    """Batches, short and long sentences among them; a round takes a step on each."""


class BenchTranslateRecipe(Recipe):
    """A recipe of ``attn bench translate``: training steps of a translating Transformer."""

    data: BenchPairs = BenchPairs()
    tokenizer: BenchTokens = BenchTokens()
    model: TransformerModel = TransformerModel()
    train: TranslateTrain = TranslateTrain()
    evaluate: BenchEvaluate = BenchEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Sentences that the model and a batch can take."""
        most = self.data.longest
        rooms = {"model.length": self.model.length, "train.batch": self.train.batch}
        return [
            ((key, "data.longest"), f"{room} is less than {most} tokens")
            for key, room in rooms.items()
            if most > room
        ]


class BenchProbes(TextData):
    """``data`` of bench quality: which mechanisms learn what; the text is that of probe masked."""

    mechanisms: list[MechanismName | Literal["all"]] = Field(["scaled_dot"], min_length=1)
    """Mechanisms side by side, or all. Options that model.attention gives go to each that takes them."""
    probes: list[Literal["copy", "recall", "sorting", "listops", "masked"]] = Field(
        ["copy", "recall", "sorting", "listops"], min_length=1
    )
    """Tasks: copy a row, recall what went with a key, sort, evaluate nested lists; or masked words of
    data.source."""


class BenchQualityModel(LanguageModel):
    """``model`` of bench quality."""

    family: Literal["bert"] = "bert"  # type: ignore[assignment]
    """Encoders, which every mechanism can be part of."""
    attention: BenchAttention = BenchAttention(heads=4)


class BenchQualityTrain(BenchMachine):
    """``train`` of bench quality."""

    seconds: float = Field(20.0, gt=0)
    """Time of training for each mechanism and probe; drawing examples does not count."""
    batch: int = Field(64, ge=1)
    """Rows in one update."""
    learning_rate: float = Field(2e-3, gt=0)
    """At its peak, after a twentieth of the time; it falls to nothing at the end."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay, on matrices only."""
    objective: Objective = Objective(sentences="none", packing="full")
    """Of probe masked."""


class BenchQualityEvaluate(Section):
    """``evaluate`` of bench quality."""

    examples: int = Field(1024, ge=1)
    """Rows measured at the end."""


class BenchQualityRecipe(Recipe):
    """A recipe of ``attn bench quality``: mechanisms trained for the same time on the same tasks."""

    data: BenchProbes = BenchProbes()
    tokenizer: TextTokenizer = TextTokenizer()
    model: BenchQualityModel = BenchQualityModel()
    train: BenchQualityTrain = BenchQualityTrain()
    evaluate: BenchQualityEvaluate = BenchQualityEvaluate()

    def cross_checks(self) -> list[Rule]:
        """Probes have room; masked words are masked words."""
        wrong: list[Rule] = []
        if self.model.length < 16 and self.data.probes != ["masked"]:
            wrong.append(
                (("model.length",), f"{self.model.length} tokens are too few for a probe: 16 at least")
            )
        if self.train.objective.kind != "mlm":
            wrong.append((("train.objective.kind",), "encoders predict masked tokens: it must be mlm"))
        return wrong
