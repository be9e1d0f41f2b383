"""Texts as an encoder reads them: ids with its special tokens around, cut to a length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import tokenizers as hf
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from attncli.data.tokenizers import Tokenizer
from attncli.errors import CheckpointError, Problem

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Encoded:
    """Texts, or pairs of texts, as tokens."""

    ids: list[Ids]
    segments: list[Ids]
    """0 for the first text with what surrounds it, 1 for the second where the tokeniser says so."""
    cut: int
    """How many did not fit."""


class EncoderTokenizer:
    """A tokeniser with the special tokens that its encoder was trained with.

    Special tokens that stand in a text are text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.backend = hf.Tokenizer.from_str(tokenizer.backend.to_str())
        self.backend.encode_special_tokens = True
        tokenizer.require("pad", "cls", "sep", why=", which encoders need")
        if self.backend.post_processor is None:
            self.backend.post_processor = _template(tokenizer)
        self._cutting = lru_cache(maxsize=4)(self._truncated)

    @property
    def pad_id(self) -> int:
        """Fills short rows."""
        return self.tokenizer.pad_id

    def _truncated(self, max_length: int) -> hf.Tokenizer:
        twin = hf.Tokenizer.from_str(self.backend.to_str())
        twin.encode_special_tokens = True
        twin.enable_truncation(max_length, strategy="longest_first")
        return twin

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int) -> Encoded:
        """Ids of each text, or of each pair, at most ``max_length`` of them: the longer text is cut first."""
        backend = self._cutting(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        found = backend.encode_batch(inputs, add_special_tokens=True)
        return Encoded(
            [np.array(one.ids, np.int32) for one in found],
            [np.array(one.type_ids, np.int32) for one in found],
            sum(bool(one.overflowing) for one in found),
        )

    def parts(
        self, text: str, pair: str | None = None, *, max_length: int
    ) -> tuple[Ids, Ids, list[tuple[str, bool, bool]]]:
        """Ids and segments of one text or pair, and of each token what of the text it is.

        That is the text's own characters (a special token's name), whether a blank stands before it, and
        whether it is special.
        """
        found = self._cutting(max_length).encode(text, pair, add_special_tokens=True)
        shown = []
        before: tuple[int | None, int] = (None, 0)
        for token, (first, end), of in zip(found.tokens, found.offsets, found.sequence_ids, strict=True):
            if of is None:
                shown.append((token, True, True))
                continue
            source = (text, pair or "")[of]
            blank = before[0] != of or first > before[1] or source[first : first + 1].isspace()
            shown.append((source[first:end].strip(), blank, False))
            before = (of, end)
        return np.array(found.ids, np.int32), np.array(found.type_ids, np.int32), shown

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[Ids, Ids]]:
        """Of each sentence the ids of its words, and the number of the word that each id is of.

        Nothing stands around them. A word that the tokeniser makes nothing of is one unknown token, or a
        blank's where there is no unknown one.
        """
        backend = self._words
        found = backend.encode_batch(
            [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
        )
        return [
            _with_all_words(one, len(words), self.fallback)
            for one, words in zip(found, sentences, strict=True)
        ]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[Ids, NDArray[np.int64]]]:
        """Ids of each text with nothing around, and where in the text each begins and ends, [T, 2]."""
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            (np.array(one.ids, np.int32), np.array(one.offsets, np.int64).reshape(-1, 2)) for one in found
        ]

    def around(self, first: Ids, second: Ids | None = None) -> tuple[Ids, Ids, int]:
        """One or two encoded texts with special tokens around, their segments, and where the last begins."""
        key = second is not None
        ids, segments, places = self._template[key]
        out: list[Ids] = []
        kinds: list[Ids] = []
        begins = 0
        for token, kind, place in zip(ids, segments, places, strict=True):
            piece = (first, second)[place] if place is not None else np.array([token], np.int32)
            if place == (1 if key else 0):
                begins = sum(map(len, out))
            out.append(piece)
            kinds.append(np.full(len(piece), kind, np.int32))
        return np.concatenate(out), np.concatenate(kinds), begins

    def special(self, pair: bool = False) -> int:
        """Special tokens around a text, or around a pair."""
        return sum(place is None for place in self._template[pair][2])

    @cached_property
    def _template(self) -> dict[bool, tuple[list[int], list[int], list[int | None]]]:
        """What stands around one text and around two: ids, segments, and which of the texts (or None)."""
        word = next(at for at in range(self.tokenizer.vocabulary) if at not in self.tokenizer.special_ids)
        token = self.tokenizer.tokens[word]
        found = {}
        for pair in (False, True):
            parts = [_one_token(self.backend, token, word)] * (2 if pair else 1)
            made = self.backend.post_process(*parts, add_special_tokens=True)
            places: list[int | None] = []
            count = 0
            for special in made.special_tokens_mask:
                places.append(None if special else count)
                count += not special
            found[pair] = (list(made.ids), list(made.type_ids), places)
        return found

    @cached_property
    def fallback(self) -> int:
        """Stands for a word that the tokeniser makes nothing of."""
        unknown = self.tokenizer.unk_id
        return self.tokenizer.pad_id if unknown is None else unknown

    @cached_property
    def _words(self) -> hf.Tokenizer:
        """For words that are apart already: where a blank is part of a word, each has one before it."""
        values = json.loads(self.backend.to_str())
        _blank_before(values.get("pre_tokenizer"))
        twin = hf.Tokenizer.from_str(json.dumps(values))
        twin.encode_special_tokens = True
        return twin

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``."""
        Tokenizer(hf.Tokenizer.from_str(self.backend.to_str()), self.tokenizer.kind).save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> EncoderTokenizer:
        """From a run, or from a folder of Hugging Face's layout.

        Reads ``tokenizer.json``, else ``vocab.txt`` (BERT's family), or ``vocab.json`` and ``merges.txt``
        (RoBERTa).

        Raises:
            CheckpointError: none of them, or a file of another kind.
            DataError: a file that is damaged.
        """
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            return cls(Tokenizer.load(folder))
        settings = _settings(folder)
        if (folder / "vocab.txt").is_file():
            return cls(Tokenizer(_wordpiece(folder / "vocab.txt", settings)))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return cls(Tokenizer(_byte_bpe(folder)))
        pieces = sorted(path.name for path in folder.glob("*.model"))
        convert = "from transformers import AutoTokenizer as T; "
        convert += f"T.from_pretrained('{folder}').save_pretrained('{folder}')"
        hint = f"{pieces[0]} is SentencePiece's: convert it once with transformers" if pieces else None
        raise CheckpointError(
            Problem(
                "there is no tokenizer.json, vocab.txt, or vocab.json with merges.txt", str(folder), hint
            ),
            then=f'python -c "{convert}"' if pieces else None,
        )


def _one_token(backend: hf.Tokenizer, token: str, at: int) -> hf.Encoding:
    """An encoding of a single token, for templates."""
    blank = hf.Tokenizer(models.WordLevel({token: at}, unk_token=token))
    blank.pre_tokenizer = None
    return blank.encode(token, add_special_tokens=False)


def _with_all_words(one: hf.Encoding, count: int, fallback: int) -> tuple[Ids, Ids]:
    ids, words = np.array(one.ids, np.int32), np.array(one.word_ids, np.int64).astype(np.int32)
    lost = np.setdiff1d(np.arange(count), words)
    if len(lost):
        ids = np.concatenate((ids, np.full(len(lost), fallback, np.int32)))
        words = np.concatenate((words, lost.astype(np.int32)))
        order = np.argsort(words, kind="stable")
        ids, words = ids[order], words[order]
    return ids, words


def _blank_before(part: dict | None) -> None:
    """Byte-level parts of a pre-tokeniser put a blank before each word."""
    if not part:
        return
    if part.get("type") == "ByteLevel":
        part["add_prefix_space"] = True
    for inner in part.get("pretokenizers", ()):
        _blank_before(inner)


def _template(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    """BERT's frame for tokenisers that do not say how theirs is."""
    cls, sep = tokenizer.tokens[tokenizer.cls_id], tokenizer.tokens[tokenizer.sep_id]
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )


def _settings(folder: Path) -> dict:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


def _wordpiece(path: Path, settings: dict) -> hf.Tokenizer:
    """BERT's tokeniser from its list of words."""
    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None
    backend = hf.Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    lower = bool(settings.get("do_lower_case", True))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lower,
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    known = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in words]
    backend.add_special_tokens([hf.AddedToken(name, special=True, normalized=False) for name in known])
    return backend


def _byte_bpe(folder: Path) -> hf.Tokenizer:
    """RoBERTa's tokeniser from its words and merges."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            Problem(f"vocab.json and merges.txt cannot be read: {error}", str(folder))
        ) from None
    backend = hf.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    known = [name for name in names if backend.token_to_id(name) is not None]
    backend.add_special_tokens([hf.AddedToken(name, special=True, normalized=False) for name in known])
    ids = {name: backend.token_to_id(name) for name in known}
    if "<s>" in ids and "</s>" in ids:
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False
        )
    return backend
