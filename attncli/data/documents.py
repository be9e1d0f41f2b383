"""Documents as sentences of words: a vocabulary of words, and rectangular batches of both levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers as hf
import torch
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, trainers

from attncli.data.order import Batch
from attncli.data.sentences import split_sentences
from attncli.errors import CheckpointError, DataError, Problem
from attncli.recipe.classify import WordTokenizer

PAD, UNKNOWN = "[PAD]", "[UNK]"
_FILE = "tokenizer.json"


class DocumentTokenizer:
    """Text to sentences to words: runs of letters and digits, and runs of other marks."""

    pad_id, unk_id = 0, 1

    def __init__(self, backend: hf.Tokenizer) -> None:
        self.backend = backend
        self.vocabulary = backend.get_vocab_size()

    @classmethod
    def train(cls, section: WordTokenizer, texts: Sequence[str]) -> DocumentTokenizer:
        """The most frequent words of ``texts``. Raises DataError where too few come often enough."""
        backend = hf.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        folds = [normalizers.NFC(), *([normalizers.Lowercase()] if section.lowercase else [])]
        backend.normalizer = normalizers.Sequence(folds)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Split(hf.Regex(r"\w+(?:['’]\w+)*|[^\w\s]+"), "isolated"),
            ]
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=section.vocabulary,
            min_frequency=section.min_count,
            special_tokens=[PAD, UNKNOWN],
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        if backend.get_vocab_size() < 4:
            raise DataError(
                Problem(
                    f"no word of the training texts comes {section.min_count} times",
                    hint="set tokenizer.min_count=1, or give more text",
                )
            )
        return cls(backend)

    def sentences(self, text: str) -> list[str]:
        """Sentences of a document: its lines where they are some, else by punctuation."""
        return split_sentences(text) or [text]

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        """The words of each sentence as they stand in it."""
        found = self.backend.encode_batch(list(sentences), add_special_tokens=False)
        return [
            [sentence[first:last] for first, last in one.offsets]
            for sentence, one in zip(sentences, found, strict=True)
        ]

    def encode(self, sentences: Sequence[str]) -> list[NDArray[np.int32]]:
        """Ids of the words of each sentence."""
        found = self.backend.encode_batch_fast(list(sentences), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in found]

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        (folder / _FILE).write_text(self.backend.to_str(pretty=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> DocumentTokenizer:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            return cls(hf.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(
                Problem(f"cannot be read: {str(error).splitlines()[0]}", str(path))
            ) from None


@dataclass(frozen=True)
class EncodedDocuments:
    """Documents as lists of sentences, each an array of word ids; none is empty."""

    documents: list[list[NDArray[np.int32]]]
    pad_id: int
    cut: int
    """Documents of more sentences than were asked for."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """What a document takes: its sentences times the longest of them."""
        return np.array([len(d) * max(map(len, d)) for d in self.documents], np.int64)

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """``tokens`` int64 and ``keep`` bool, [B, S, W] both."""
        documents = [self.documents[at] for at in chosen]
        most = max(map(len, documents))
        longest = max(len(words) for document in documents for words in document)
        tokens = np.full((len(documents), most, longest), self.pad_id, np.int64)
        keep = np.zeros(tokens.shape, bool)
        for row, document in enumerate(documents):
            for at, words in enumerate(document):
                tokens[row, at, : len(words)] = words
                keep[row, at, : len(words)] = True
        return {"tokens": torch.from_numpy(tokens), "keep": torch.from_numpy(keep)}


def encode_documents(
    texts: Sequence[str], tokenizer: DocumentTokenizer, max_length: int, max_sentences: int
) -> EncodedDocuments:
    """Documents as ids. Long sentences go on as further ones; of many sentences the two ends are kept."""
    split = [tokenizer.sentences(text) for text in texts]
    ids = iter(tokenizer.encode([sentence for sentences in split for sentence in sentences]))
    documents = []
    cut = 0
    for sentences in split:
        found = [piece for _ in sentences for piece in pieces(next(ids), max_length)]
        if len(found) > max_sentences:
            cut += 1
            found = [found[at] for at in kept_sentences(len(found), max_sentences)]
        documents.append(found or [np.array([tokenizer.unk_id], np.int32)])
    return EncodedDocuments(documents, tokenizer.pad_id, cut)


def pieces(words: Sequence, most: int) -> list:
    """A sentence in stretches of at most so many words; nothing for an empty one."""
    return [words[at : at + most] for at in range(0, len(words), most)]


def kept_sentences(count: int, most: int) -> list[int]:
    """Which of ``count`` sentences are read: all, or the first and the last halves of ``most``."""
    if count <= most:
        return list(range(count))
    first = -(-most // 2)
    return [*range(first), *range(count - (most - first), count)]
