"""Tokenisers of the ``tokenizers`` library: trained from a stream, stored as ``tokenizer.json``.

WordPiece has BERT's special tokens, ``[PAD] [UNK] [CLS] [SEP] [MASK]``; every other kind has RoBERTa's,
``<s> <pad> </s> <unk> <mask>``. In both, the separator also ends a document (``eos``), GPT included.
``tokenizer_config.json`` beside it lets ``transformers`` load the folder.

Special tokens are only ever put in by this program: ``[MASK]`` that stands in a text is text, unless
``encode(..., special=True)`` is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers as hf
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from attncli.errors import DataError, Problem
from attncli.recipe.pretrain import TextTokenizer

ROLES = ("pad", "unk", "cls", "sep", "mask", "eos")
"""What special tokens are for."""
_NAMES = {
    "pad": ("[PAD]", "<pad>", "<|padding|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
    "cls": ("[CLS]", "<s>", "<|startoftext|>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "eos": ("</s>", "<|endoftext|>", "<eos>", "[SEP]"),
}
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
DEFAULT_VOCABULARY = 8192
"""Most entries that a tokeniser gets where the recipe leaves the number open."""
MOST_TEXT = 1 << 26
"""Characters that a tokeniser is trained on; of a larger text an evenly spread sample of documents."""
_ALPHABET = 1000
"""Most characters that WordPiece and BPE know; rarer ones are unknown."""


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        kind: wordpiece, bytebpe, bpe, char, byte, or ``given`` for a user's own file.
        vocabulary: number of ids.
        pad_id, unk_id, cls_id, sep_id, mask_id, eos_id: ids of special tokens, None when there is none.
        special_ids: all special ids, sorted.
    """

    def __init__(self, backend: hf.Tokenizer, kind: str = "given") -> None:
        backend.no_truncation()
        backend.no_padding()
        self.kind, self.backend = kind, backend
        self.vocabulary = backend.get_vocab_size(with_added_tokens=True)
        ids = {role: next(filter(None, map(self._id, names)), None) for role, names in _NAMES.items()}
        self._roles = {role: found[0] if found else None for role, found in ids.items()}
        self.pad_id, self.unk_id = self._roles["pad"], self._roles["unk"]
        self.cls_id, self.sep_id = self._roles["cls"], self._roles["sep"]
        self.mask_id, self.eos_id = self._roles["mask"], self._roles["eos"]
        added = {at for at, token in backend.get_added_tokens_decoder().items() if token.special}
        self.special_ids = sorted(added | {at for at in self._roles.values() if at is not None})

    def _id(self, token: str) -> tuple[int] | None:
        found = self.backend.token_to_id(token)
        return None if found is None else (found,)

    def require(self, *roles: str, why: str = "") -> None:
        """Raise :class:`DataError` naming every one of ``roles`` that this tokeniser lacks."""
        lacking = [role for role in roles if self._roles[role] is None]
        if lacking:
            raise DataError(
                *(
                    Problem(f"tokenizer: no {role} token{why}", hint=f"one of {' '.join(_NAMES[role])}")
                    for role in lacking
                )
            )

    @cached_property
    def _literal(self) -> hf.Tokenizer:
        """The same with special tokens in a text taken as text."""
        twin = hf.Tokenizer.from_str(self.backend.to_str())
        twin.encode_special_tokens = True
        return twin

    @cached_property
    def tokens(self) -> list[str]:
        """The token of each id, as the vocabulary writes it."""
        return [self.backend.id_to_token(at) or "" for at in range(self.vocabulary)]

    @cached_property
    def starts_word(self) -> NDArray[np.bool_]:
        """[V] bool: whether a token opens a word, or goes on with the word of the token before.

        WordPiece says so itself (``##``). Elsewhere a token goes on with a word when its first
        character is a letter or digit without a blank before it.
        """
        if isinstance(self.backend.model, models.WordPiece):
            prefix = self.backend.model.continuing_subword_prefix
            return np.array([not token.startswith(prefix) for token in self.tokens])
        blank = ("Ġ", "Ċ", "ĉ", "▁", "</w>")
        if self._byte_level:
            plain = {mapped: byte for byte, mapped in enumerate(_byte_characters())}
            word = [
                bool(t) and (plain.get(t[0], 0) >= 128 or chr(plain.get(t[0], 0)).isalnum())
                for t in self.tokens
            ]
        else:
            word = [t[:1].isalnum() for t in self.tokens]
        starts = np.array([not w or t.startswith(blank) for t, w in zip(self.tokens, word, strict=True)])
        starts[self.special_ids] = True
        return starts

    @cached_property
    def ordinary(self) -> NDArray[np.int64]:
        """Ids that are not special, sorted."""
        return np.setdiff1d(np.arange(self.vocabulary), np.array(self.special_ids))

    @property
    def _byte_level(self) -> bool:
        return isinstance(self.backend.decoder, decoders.ByteLevel)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of one text, nothing put around; ``special`` reads ``[MASK]`` and the like as special."""
        backend = self.backend if special else self._literal
        return backend.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of all texts one after another, and how many each has. The fast way."""
        if self.kind == "byte":
            raw = [text.encode() for text in texts]
            return np.frombuffer(b"".join(raw), np.uint8).astype(np.int64) + len(ROBERTA_SPECIAL), _lengths(
                raw
            )
        if self.kind == "char":
            points = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
            table = self._points
            return table[np.minimum(points, len(table) - 1)], _lengths(texts)
        found = [e.ids for e in self._literal.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = _lengths(found)
        return np.fromiter(chain.from_iterable(found), np.int64, int(lengths.sum())), lengths

    @cached_property
    def _points(self) -> NDArray[np.int64]:
        """Code point to id; the last entry stands for all beyond."""
        known = {ord(t): at for at, t in enumerate(self.tokens) if at not in self.special_ids}
        table = np.full(max(known, default=0) + 2, self.unk_id, np.int64)
        table[list(known)] = list(known.values())
        return table

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids."""
        return self.backend.decode([int(at) for at in ids], skip_special_tokens=skip_special)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever ids would."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``."""
        folder = Path(folder)
        named = {f"{role}_token": self.tokens[at] for role, at in self._roles.items() if at is not None}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named, "attn_kind": self.kind}
        (folder / "tokenizer.json").write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """From a folder that holds ``tokenizer.json``, or that file.

        Raises:
            DataError: not there or not such a file.
        """
        path = Path(path).expanduser()
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise DataError(
                Problem(
                    f"tokenizer.path={path}: no tokenizer.json", hint="give the file or the folder it is in"
                )
            )
        try:
            backend = hf.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0]
            raise DataError(
                Problem(f"not a tokenizer of the tokenizers library: {reason}", str(file))
            ) from None
        settings = file.parent / "tokenizer_config.json"
        kind = "given"
        if settings.is_file():
            try:
                kind = str(json.loads(settings.read_text(encoding="utf-8")).get("attn_kind", kind))
            except (ValueError, AttributeError):
                raise DataError(Problem("not JSON with settings of a tokenizer", str(settings))) from None
        return cls(backend, kind)


def train_tokenizer(section: TextTokenizer, texts: Iterable[str]) -> Tokenizer:
    """A tokeniser trained on ``texts`` (read twice, so no one-time iterator), or the user's own.

    The same texts give the same ids, whatever the number of threads.

    Raises:
        DataError: the text supports fewer entries than ``tokenizer.vocabulary``; ``tokenizer.path`` is
            not a tokeniser.
    """
    if section.path:
        return Tokenizer.load(section.path)
    if iter(texts) is texts:
        raise TypeError("train_tokenizer reads its texts twice: give a list or an object with __iter__")
    chosen = section.model_copy(update={"vocabulary": section.vocabulary or DEFAULT_VOCABULARY})
    tokenizer = Tokenizer(_BUILDERS[section.kind](chosen, texts), section.kind)
    if section.kind not in ("char", "byte") and tokenizer.vocabulary < section.vocabulary:
        raise DataError(
            Problem(
                f"tokenizer.vocabulary={section.vocabulary}: the text supports only {tokenizer.vocabulary} "
                f"entries of {section.kind}",
                hint=f"set tokenizer.vocabulary={_round(tokenizer.vocabulary)} or give more text",
            )
        )
    return tokenizer


def _round(entries: int) -> int:
    """A number of entries at or below, in steps of 64 where there are that many."""
    return entries // 64 * 64 or entries


def characters(
    texts: Iterable[str], normalizer: normalizers.Normalizer, most: int = _ALPHABET, least: int = 1
) -> list[str]:
    """Characters after normalisation that occur ``least`` times, the ``most`` frequent ones, sorted."""
    counts: dict[str, int] = {}
    points = _points_of(texts)
    for point in np.flatnonzero(points):
        for char in normalizer.normalize_str(chr(point)):
            if not char.isspace():
                counts[char] = counts.get(char, 0) + int(points[point])
    known = [char for char in counts if counts[char] >= least]
    return sorted(sorted(known, key=lambda char: (-counts[char], char))[:most])


def _points_of(texts: Iterable[str]) -> NDArray[np.int64]:
    """How often each code point occurs."""
    points = np.zeros(0x110000, np.int64)
    for text in texts:
        seen = np.bincount(np.frombuffer(text.encode("utf-32-le", "replace"), "<u4"))
        points[: len(seen)] += seen
    return points


def _wordpiece(section: TextTokenizer, texts: Iterable[str]) -> hf.Tokenizer:
    """WordPiece (https://arxiv.org/abs/1810.04805) with merges by frequency."""
    lower = section.lowercase
    normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=lower)
    alphabet = characters(texts, normalizer)
    words = hf.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    # The trainer numbers ##-characters in the order of a hash table, which differs from run to run and
    # breaks ties between merges; listed as special tokens they have their numbers beforehand.
    fixed = [*BERT_SPECIAL, *alphabet, *(f"##{char}" for char in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(section.vocabulary, len(fixed)),
        min_frequency=2,
        special_tokens=fixed,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    ids = sorted(words.get_vocab().items(), key=lambda item: item[1])
    if len(fixed) > section.vocabulary:
        raise _too_small(section, len(fixed))
    vocabulary = {token: at for at, (token, _) in enumerate(ids)}
    backend = hf.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer, backend.pre_tokenizer = words.normalizer, words.pre_tokenizer
    backend.decoder = decoders.WordPiece()
    return _finished(backend, BERT_SPECIAL)


def _bpe_trainer(section: TextTokenizer, alphabet: Sequence[str]) -> trainers.BpeTrainer:
    least = len(ROBERTA_SPECIAL) + len(alphabet)
    if least > section.vocabulary:
        raise _too_small(section, least)
    return trainers.BpeTrainer(
        vocab_size=section.vocabulary,
        min_frequency=2,
        special_tokens=ROBERTA_SPECIAL,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )


def _bytebpe(section: TextTokenizer, texts: Iterable[str]) -> hf.Tokenizer:
    """Byte-level BPE as GPT-2 and RoBERTa have it: any text, kept as it is."""
    backend = hf.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(texts, _bpe_trainer(section, sorted(pre_tokenizers.ByteLevel.alphabet())))
    return _finished(backend, ROBERTA_SPECIAL)


def _bpe(section: TextTokenizer, texts: Iterable[str]) -> hf.Tokenizer:
    """BPE over characters (https://arxiv.org/abs/1508.07909), a blank before a word being part of it."""
    fold = [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    first = normalizers.Sequence(fold if section.lowercase else [normalizers.NFC()])
    alphabet = [*characters(texts, first), "▁"]
    backend = hf.Tokenizer(models.BPE(unk_token="<unk>"))
    blanks = [normalizers.Replace(hf.Regex(r"\s+"), " "), normalizers.Strip()]
    backend.normalizer = normalizers.Sequence([first, *blanks])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
            pre_tokenizers.Split(hf.Regex(r"▁?\w+|▁?[^\w▁]+|▁"), "isolated"),
        ]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.train_from_iterator(texts, _bpe_trainer(section, sorted(alphabet)))
    return _finished(backend, ROBERTA_SPECIAL)


def _char(section: TextTokenizer, texts: Iterable[str]) -> hf.Tokenizer:
    """Every character that the texts have, as it is."""
    seen = [chr(point) for point in np.flatnonzero(_points_of(texts))]
    vocabulary = {token: at for at, token in enumerate([*ROBERTA_SPECIAL, *seen])}
    backend = hf.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(hf.Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _finished(backend, ROBERTA_SPECIAL)


def _byte(section: TextTokenizer, texts: Iterable[str]) -> hf.Tokenizer:
    """The 256 bytes of UTF-8."""
    vocabulary = {token: at for at, token in enumerate([*ROBERTA_SPECIAL, *_byte_characters()])}
    backend = hf.Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _finished(backend, ROBERTA_SPECIAL)


_BUILDERS = {"wordpiece": _wordpiece, "bytebpe": _bytebpe, "bpe": _bpe, "char": _char, "byte": _byte}


def _byte_characters() -> Iterator[str]:
    """The visible character that byte-level BPE writes for each byte, as GPT-2 maps them."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256
    for byte in range(256):
        if byte in shown:
            yield chr(byte)
        else:
            yield chr(hidden)
            hidden += 1


def _finished(backend: hf.Tokenizer, special: list[str]) -> hf.Tokenizer:
    """With its special tokens, put around single texts and pairs by libraries that ask for it."""
    backend.add_special_tokens([hf.AddedToken(token, special=True, normalized=False) for token in special])
    if special is BERT_SPECIAL:
        cls, sep = "[CLS]", "[SEP]"
        pair = f"{cls} $A {sep} $B:1 {sep}:1"
    else:
        cls, sep = "<s>", "</s>"
        pair = f"{cls} $A {sep} {sep} $B {sep}"
    ids = [(token, backend.token_to_id(token)) for token in (cls, sep)]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=ids
    )
    return backend


def _too_small(section: TextTokenizer, least: int) -> DataError:
    return DataError(
        Problem(
            f"tokenizer.vocabulary={section.vocabulary}: the characters and special tokens alone are {least}",
            hint=f"set tokenizer.vocabulary={-(-least // 64) * 64} or more",
        )
    )


def _lengths(items: Sequence[Sequence[object]] | Sequence[str] | Sequence[bytes]) -> NDArray[np.int64]:
    return np.fromiter(map(len, items), np.int64, len(items))
