"""Tokenised text on disk, written once and memory-mapped: memory does not grow with the corpus.

A store is a folder of plain arrays: ``tokens.bin`` (uint16 or uint32), ``sentences.bin`` (int64, the
first token of each sentence, then the number of tokens), ``documents.bin`` (int64, the first sentence
of each document, then the number of sentences), ``counts.bin`` (int64, occurrences of each id) and
``store.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.sentences import split_sentences
from attncli.data.sources import Progress, TextSource
from attncli.data.tokenizers import Tokenizer

VERSION = 1
"""Part of the cache key: raise it when sentence splitting or the layout changes."""
_CHARACTERS = 1 << 20
_TEXTS = 1 << 14


class TokenStore:
    """Tokens of one split.

    Attributes:
        tokens: [N] memory-mapped ids, documents one after another; between verbatim ones stands eos.
        sentences: [S+1] first token of each sentence, then N.
        documents: [D+1] first sentence of each document, then S.
        counts: [V] occurrences of each id.
        characters, bytes: of the text that the tokens stand for.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "store.json").read_text())
        self.folder = folder
        self.characters: int = about["characters"]
        self.bytes: int = about["bytes"]
        self.tokens = mapped(folder / "tokens.bin", about["dtype"])
        self.sentences = mapped(folder / "sentences.bin", "int64")
        self.documents = mapped(folder / "documents.bin", "int64")
        self.counts = np.fromfile(folder / "counts.bin", np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def describe(self) -> dict[str, int]:
        """Sizes."""
        return {
            "documents": len(self.documents) - 1,
            "sentences": len(self.sentences) - 1,
            "tokens": len(self.tokens),
            "characters": self.characters,
        }


def mapped(path: Path, dtype: str) -> NDArray[Any]:
    """A file as a read-only array; an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")


def write_store(
    folder: Path,
    source: TextSource,
    split: str,
    tokenizer: Tokenizer,
    sentences: bool,
    progress: Progress | None = None,
) -> None:
    """Tokenise a split of ``source`` into the empty ``folder``, in bounded memory.

    ``sentences`` splits documents into sentences, each tokenised by itself, joined by a blank. Without
    it documents are tokenised as they stand, are one sentence each, and have eos between them.
    """
    dtype = np.dtype(np.uint16 if tokenizer.vocabulary <= 1 << 16 else np.uint32)
    counts = np.zeros(tokenizer.vocabulary, np.int64)
    tokens = ended = characters = size = documents = 0
    pending = False
    with ExitStack() as files:
        out = {
            name: files.enter_context((folder / f"{name}.bin").open("wb"))
            for name in ("tokens", "sentences", "documents")
        }
        for texts, opens in _batches(source, split, sentences):
            ids, lengths = tokenizer.encode_many(texts)
            real = lengths > 0
            begins = np.zeros(len(texts), bool)
            for at, opened in enumerate(opens):  # a document opens at its first text that has tokens
                pending = pending or opened
                if real[at]:
                    begins[at], pending = pending, False
            first = real if sentences else begins
            if not sentences:  # the end of the document before, except before the first
                ended_at = np.flatnonzero(begins)[0 if documents else 1 :]
                ids = np.insert(ids, (np.cumsum(lengths) - lengths)[ended_at], tokenizer.eos_id)
                extra = np.zeros_like(lengths)
                extra[ended_at] = 1
                starts = tokens + np.cumsum(lengths + extra) - lengths
            else:
                starts = tokens + np.cumsum(lengths) - lengths
            counts += np.bincount(ids, minlength=len(counts))
            out["tokens"].write(ids.astype(dtype).tobytes())
            out["sentences"].write(starts[first].tobytes())
            numbers = ended + np.cumsum(first) - 1
            out["documents"].write(numbers[begins].tobytes())
            ended += int(first.sum())
            documents += int(begins.sum())
            tokens += len(ids)
            joined = "".join(texts)
            characters += len(joined)
            size += len(joined) if joined.isascii() else len(joined.encode())
            if progress:
                progress(f"tokenising the {split} part", documents, size)
        out["sentences"].write(np.int64(tokens).tobytes())
        out["documents"].write(np.int64(ended).tobytes())
    counts.tofile(folder / "counts.bin")
    about = {"dtype": dtype.name, "characters": characters, "bytes": size}
    (folder / "store.json").write_text(json.dumps(about))


def _batches(source: TextSource, split: str, sentences: bool) -> Iterator[tuple[list[str], list[bool]]]:
    """Texts to encode together, and whether each opens a document."""
    texts: list[str] = []
    opens: list[bool] = []
    held = 0
    for piece, begins in source.pieces(split):
        if sentences:
            # The blank that joined a sentence to the one before is part of its first token.
            for at, sentence in enumerate(split_sentences(piece)):
                texts.append(sentence if begins and at == 0 else " " + sentence)
                opens.append(begins and at == 0)
        else:
            texts.append(piece)
            opens.append(begins)
        held += len(piece)
        if held >= _CHARACTERS or len(texts) >= _TEXTS:
            yield texts, opens
            texts, opens, held = [], [], 0
    if texts:
        yield texts, opens
