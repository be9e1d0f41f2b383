"""From recipe settings to token stores and a tokeniser: read, checked, trained and tokenised once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.faults import Faults
from attncli.data.sources import Progress, Survey, TextSource, one_document, open_text
from attncli.data.token_store import VERSION, TokenStore, write_store
from attncli.data.tokenizers import MOST_TEXT, Tokenizer, train_tokenizer
from attncli.errors import DataError, Problem
from attncli.metrics.language import unigram_loss
from attncli.recipe.pretrain import Objective, TextData, TextTokenizer

PARTS = ("train", "validation")


@dataclass
class Corpus:
    """Tokenised text of one run."""

    source: TextSource
    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore

    def unigram_loss(self) -> float:
        """Nats a token of the validation text, predicted by its frequency in the training text alone."""
        return unigram_loss(self.train.counts.tolist(), self.validation.counts.tolist())


class _Sample:
    """Text that a tokeniser is trained on: all, or every k-th document of a large corpus."""

    def __init__(self, source: TextSource, survey: Survey, progress: Progress | None) -> None:
        self.source, self.progress = source, progress
        self.every = 1 if source.verbatim else max(1, -(-survey.characters // MOST_TEXT))

    def __iter__(self) -> Iterator[str]:
        number = size = 0
        for text, begins in self.source.pieces("train"):
            number += begins
            if (number - 1) % self.every:
                continue
            size += len(text)
            if self.progress:
                self.progress("training the tokeniser", number, size)
            yield text
            if size >= 2 * MOST_TEXT:
                return


def prepare(
    data: TextData,
    tokenizer: TextTokenizer | Tokenizer,
    objective: Objective,
    progress: Progress | None = None,
) -> Corpus:
    """Everything a language model is trained on, from the cache where it was made before.

    Args:
        data: the ``data`` section.
        tokenizer: the ``tokenizer`` section, or the tokeniser of a run that goes on.
        objective: decides whether text is kept verbatim (clm) or split into sentences, and which
            special tokens the tokeniser must have.
        progress: called with what is being done, documents and bytes, for every document.

    Raises:
        DataError: the text or the tokeniser does not serve; all problems of the text at once.
        DeviceError: the cache folder is full or cannot be written to.
    """
    source = open_text(data)
    folder = cache_folder(data.cache)
    identity = source.identity()
    surveyed: list[dict[str, Survey]] = []

    def survey() -> Survey:
        if not surveyed:
            surveyed.append(source.check(progress))
        return surveyed[0]["train"]

    if isinstance(tokenizer, TextTokenizer) and not tokenizer.path:
        name = f"tokenizer-{key_of(VERSION, identity, tokenizer.model_dump())}"

        def train(aside: Path) -> None:
            train_tokenizer(tokenizer, _Sample(source, survey(), progress)).save(aside)

        tokenizer = Tokenizer.load(entry(folder, name, train))
    elif isinstance(tokenizer, TextTokenizer):
        tokenizer = Tokenizer.load(tokenizer.path)
    sentences = objective.kind == "mlm"
    if sentences:
        tokenizer.require("pad", "cls", "sep", "mask", why=", which masked language models need")
    else:
        tokenizer.require("eos", why=", which ends a document")
    stores = {
        split: open_store(source, split, tokenizer, sentences, folder, progress, survey) for split in PARTS
    }
    corpus = Corpus(source, tokenizer, stores["train"], stores["validation"])
    if objective.sentences == "next":
        for split, store in stores.items():
            if len(store.documents) < 3:
                origin = source.other if split == "validation" and source.other is not None else source.origin
                raise one_document(
                    origin,
                    f"next-sentence prediction draws the second segment from another document "
                    f"(the {split} part has {len(store.documents) - 1})",
                    "train.objective.sentences=none (no second objective)",
                )
    return corpus


def open_store(
    source: TextSource,
    split: str,
    tokenizer: Tokenizer,
    sentences: bool,
    folder: Path,
    progress: Progress | None = None,
    survey: Callable[[], object] | None = None,
) -> TokenStore:
    """The token store of a split, made when the cache does not have it.

    ``survey`` is called before the first reading, so that bad data is refused before any work.
    """
    name = f"tokens-{key_of(VERSION, source.identity(), split, tokenizer.fingerprint, sentences)}"

    def build(aside: Path) -> None:
        if survey is not None:
            survey()
        write_store(aside, source, split, tokenizer, sentences, progress)

    store = TokenStore(entry(folder, name, build))
    if len(store) == 0:
        raise DataError(Problem(f"{source.describe()}: the {split} part has no token"))
    return store


def measured_store(
    data: TextData,
    tokenizer: Tokenizer,
    objective: Objective,
    *,
    split: str | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> TokenStore:
    """Text to measure a finished model on: a ``split`` of its own data, or all of another ``source``.

    A source with a test part is measured on that, else on its validation part, else as a whole.

    Raises:
        DataError: no such split or source, or bad text.
    """
    text = open_text(data if source is None else data.model_copy(update={"source": source}))
    if source is not None:
        text = TextSource(text.origin, 0.0)
        split = next((part for part in ("test", "validation") if part in text.origin.splits), "train")
    elif split not in text.splits:
        near = f"there are {', '.join(text.splits)}"
        raise DataError(Problem(f"{text.describe()}: there is no part {split!r}", hint=near))

    def survey() -> None:
        faults = Faults()
        for _ in text.pieces(split, faults):
            pass
        faults.check()

    folder = cache_folder(data.cache)
    return open_store(text, split, tokenizer, objective.kind == "mlm", folder, progress, survey)
