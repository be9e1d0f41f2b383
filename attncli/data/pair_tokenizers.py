"""Tokenisers of a pair of languages: BPE, one for both or one for each, trained with the run.

Special tokens are the same in both: ``<pad>`` 0, ``<s>`` 1, ``</s>`` 2, ``<unk>`` 3, then the 256 bytes,
which spell every character that is not in the vocabulary, so that any text can be written and ``<unk>``
never comes up. A blank is written ``▁`` before its word; punctuation is apart from words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers as hf
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from attncli.data.bpe_dropout import Resegmenter
from attncli.data.tokenizers import characters
from attncli.errors import CheckpointError, Problem
from attncli.recipe.translate import PairTokenizer as PairTokenizerSection

Side = Literal["source", "target"]
Ints = NDArray[np.int64]

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_BLANK = "▁"


class PairTokenizer:
    """Text of two languages to token ids and back.

    Attributes:
        languages: the source's and the target's.
        source, target: of the ``tokenizers`` library; one object when ``joint``.
        vocabulary_source, vocabulary_target: numbers of ids.
        pad_id, bos_id, eos_id, unk_id: the same on both sides.
    """

    pad_id, bos_id, eos_id, unk_id = range(len(SPECIAL))

    def __init__(
        self,
        languages: tuple[str, str],
        source: hf.Tokenizer,
        target: hf.Tokenizer | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """``target`` None: ``source`` serves both sides. ``settings`` are stored with it."""
        self.languages, self.settings = languages, settings or {}
        self.source, self.target = source, target or source
        for backend in (self.source, self.target):
            backend.encode_special_tokens = True  # </s> that stands in a text is text

    @property
    def joint(self) -> bool:
        """Whether both sides share one vocabulary."""
        return self.source is self.target

    @cached_property
    def vocabulary_source(self) -> int:
        """Number of ids of the source."""
        return self.source.get_vocab_size()

    @cached_property
    def vocabulary_target(self) -> int:
        """Number of ids of the target."""
        return self.target.get_vocab_size()

    def _side(self, side: Side) -> hf.Tokenizer:
        return self.source if side == "source" else self.target

    def normalise(self, text: str, side: Side = "target") -> str:
        """What :meth:`decode` gives back of an encoded text.

        NFC; lower-cased where the tokeniser folds case; every stretch of white space (what
        ``str.isspace`` says is) one blank, none at the ends.
        """
        return self._side(side).normalizer.normalize_str(_whole(text))

    def encode_source(self, text: str) -> list[int]:
        """Ids of a source sentence, ``</s>`` at the end."""
        return self.encode_many([text], "source")[0]

    def encode_target(self, text: str) -> list[int]:
        """Ids of a target sentence, ``</s>`` at the end."""
        return self.encode_many([text], "target")[0]

    def encode_many(
        self, texts: Sequence[str], side: Side = "source", dropout: float = 0.0, seed: int | None = None
    ) -> list[list[int]]:
        """Ids of each text, ``</s>`` at the end; with ``dropout`` segmented at random, as ``seed`` says."""
        ids, lengths = self.flat(texts, side)
        if dropout:
            ids, lengths = self.resegment(ids, lengths, side, dropout, np.random.default_rng(seed))
        ends = np.cumsum(lengths).tolist()
        whole = ids.tolist()
        return [
            [*whole[end - length : end], self.eos_id]
            for end, length in zip(ends, lengths.tolist(), strict=True)
        ]

    def flat(self, texts: Sequence[str], side: Side) -> tuple[Ints, Ints]:
        """Ids [N] of all texts one after another without ``</s>``, and how many each has [S]."""
        backend = self._side(side)
        texts = [_whole(text) for text in texts]
        hidden = {at: self._hide(text, backend) for at, text in enumerate(texts) if _BLANK in text}
        for at, stand_in in hidden.items():
            texts[at] = texts[at].replace(_BLANK, stand_in)
        found = [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
        for at, stand_in in hidden.items():
            found[at] = _replaced(found[at], _spelt(stand_in), _spelt(_BLANK))
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return np.fromiter(chain.from_iterable(found), np.int64, int(lengths.sum())), lengths

    @staticmethod
    def _hide(text: str, backend: hf.Tokenizer) -> str:
        """A character that neither text nor vocabulary has, to stand for a ``▁`` that is no blank."""
        points = range(0x10FFFF, 0xF0000, -1)
        return next(c for c in map(chr, points) if c not in text and backend.token_to_id(c) is None)

    def resegment(
        self, ids: Ints, lengths: Ints, side: Side, dropout: float, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """The sentences ``ids`` [N] of ``lengths`` [S] segmented anew with BPE-dropout."""
        found = self._resegmenters[0 if side == "source" else -1]
        return found(ids, lengths, dropout, rng)

    @cached_property
    def _resegmenters(self) -> list[Resegmenter]:
        return (
            [Resegmenter(self.source)] if self.joint else [Resegmenter(self.source), Resegmenter(self.target)]
        )

    def decode(self, ids: Iterable[int], side: Side = "target") -> str:
        """Text of ids, one line; special tokens are dropped, bytes that are no UTF-8 become U+FFFD."""
        spelling = self._spellings[0 if side == "source" else -1]
        text = b"".join([spelling[at] for at in ids]).decode("utf-8", "replace")
        return self._side(side).normalizer.normalize_str(text)

    @cached_property
    def _spellings(self) -> list[list[bytes]]:
        """The bytes that each id stands for, of the source and, where it is another, of the target."""
        return [_spelling(self.source)] if self.joint else [_spelling(self.source), _spelling(self.target)]

    def source_tokens(self, ids: Iterable[int]) -> list[str]:
        """Source ids as the vocabulary writes them."""
        return [self.source.id_to_token(int(at)) for at in ids]

    def target_tokens(self, ids: Iterable[int]) -> list[str]:
        """Target ids as the vocabulary writes them."""
        return [self.target.id_to_token(int(at)) for at in ids]

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever ids would."""
        written = [backend.to_str() for backend in (self.source, self.target)]
        return hashlib.sha256(json.dumps([self.languages, *written]).encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json``, or ``source.json`` and ``target.json``, and ``translation.json``."""
        folder = Path(folder)
        files = {"tokenizer": self.source} if self.joint else {"source": self.source, "target": self.target}
        for name, backend in files.items():
            (folder / f"{name}.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
        about = {
            "source": self.languages[0],
            "target": self.languages[1],
            "joint": self.joint,
            "tokenizer": self.settings,
        }
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        (folder / "translation.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PairTokenizer:
        """From a folder that :meth:`save` wrote.

        Raises:
            CheckpointError: a file is missing or damaged; all of them at once.
        """
        folder = Path(folder).expanduser()
        about_file = folder / "translation.json"
        try:
            about = json.loads(about_file.read_text(encoding="utf-8"))
            languages = (str(about["source"]), str(about["target"]))
            names = ["tokenizer"] if about["joint"] else ["source", "target"]
            settings = dict(about["tokenizer"])
        except OSError as error:
            reason = f"{folder}: no tokeniser of a translation run ({error.strerror}: translation.json)"
            raise CheckpointError(Problem(reason)) from None
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(Problem("not JSON with the languages of a run", str(about_file))) from None
        backends, problems = [], []
        for file in (folder / f"{name}.json" for name in names):
            try:
                backend = hf.Tokenizer.from_str(file.read_text(encoding="utf-8"))
                wrong = next((t for at, t in enumerate(SPECIAL) if backend.token_to_id(t) != at), None)
                if wrong:
                    problems.append(Problem(f"no {wrong} where this program puts it", str(file)))
                backends.append(backend)
            except OSError as error:
                problems.append(Problem(f"cannot be read: {error.strerror}", str(file)))
            except Exception as error:  # the library raises bare Exception
                reason = str(error).splitlines()[0]
                problems.append(Problem(f"not a tokenizer of the tokenizers library: {reason}", str(file)))
        if problems:
            raise CheckpointError(*problems)
        return cls(languages, *backends, settings=settings)


def train_pair_tokenizer(
    section: PairTokenizerSection,
    languages: tuple[str, str],
    source: Iterable[str],
    target: Iterable[str],
) -> PairTokenizer:
    """BPE (https://arxiv.org/abs/1508.07909) trained on both sides' texts, each read twice.

    The same texts give the same ids, whatever the number of threads. A text that supports fewer entries
    than ``tokenizer.vocabulary`` gets those.
    """
    settings = section.model_dump()
    if section.joint:
        return PairTokenizer(languages, _bpe(section, _Chain(source, target)), settings=settings)
    return PairTokenizer(languages, _bpe(section, source), _bpe(section, target), settings)


class _Chain:
    """Several texts one after another, as often as wanted."""

    def __init__(self, *texts: Iterable[str]) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.texts)


def _bpe(section: PairTokenizerSection, texts: Iterable[str]) -> hf.Tokenizer:
    fixed = [*SPECIAL, *_BYTES]
    fold = [normalizers.Lowercase(), normalizers.NFC()] if section.lowercase else []
    blanks = [normalizers.Replace(hf.Regex(r"[\s\x1c-\x1f]+"), " "), normalizers.Strip()]
    backend = hf.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *fold, *blanks])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(_BLANK, prepend_scheme="always", split=False),
            pre_tokenizers.Split(hf.Regex(r"▁?\w+|▁?[^\w▁]+|▁"), "isolated"),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(_BLANK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    # Characters seen once are left to the bytes, which so are seen in training too.
    most = (section.vocabulary - len(fixed)) // 2
    alphabet = [_BLANK, *characters(texts, backend.normalizer, most=most - 1, least=2)]
    trainer = trainers.BpeTrainer(
        vocab_size=section.vocabulary,
        min_frequency=2,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([hf.AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    end = ("</s>", backend.token_to_id("</s>"))
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[end]
    )
    return backend


def _whole(text: str) -> str:
    """Without lone surrogates, which a string can hold and no file can."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _spelt(text: str) -> list[int]:
    """Ids of the bytes of a text."""
    return [len(SPECIAL) + byte for byte in text.encode()]


def _replaced(ids: list[int], old: list[int], new: list[int]) -> list[int]:
    out, at = [], 0
    while at < len(ids):
        if ids[at : at + len(old)] == old:
            out += new
            at += len(old)
        else:
            out.append(ids[at])
            at += 1
    return out


def _spelling(backend: hf.Tokenizer) -> list[bytes]:
    tokens = [backend.id_to_token(at) or "" for at in range(backend.get_vocab_size())]
    spelt = [token.replace(_BLANK, " ").encode() for token in tokens]
    spelt[: len(SPECIAL)] = [b""] * len(SPECIAL)
    spelt[len(SPECIAL) : len(SPECIAL) + 256] = [bytes([byte]) for byte in range(256)]
    return spelt
