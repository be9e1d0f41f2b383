"""Readers of one file each: plain text, or a column of records, as a stream of pieces of documents.

A piece is ``(text, begins)``: ``begins`` marks the first piece of a document. Documents longer than
``PIECE`` characters come in several pieces, so that memory stays bounded whatever the file holds.
Nothing here raises for bad data before the caller's :class:`Faults` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attncli.data.faults import Faults
from attncli.data.files import TextFile
from attncli.data.lines import chunks, unix
from attncli.data.records import Fields, read_records, text_of

PIECE = 1 << 20
"""Characters after which a document is handed on in pieces."""

Piece = tuple[str, bool]

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


def read_pieces(file: TextFile, column: str, documents: str, faults: Faults) -> Iterator[Piece]:
    """The documents of ``file`` in pieces. Blank documents are left out."""
    if file.kind == "text":
        yield from _TEXT[documents](file, faults)
    else:
        for where, (value,) in read_records(file, Fields((column,), ("data.column",)), faults):
            text = text_of(value, where, column, faults)
            if text:
                yield text, True


def cut_at(text: str, limit: int) -> int:
    """Where to cut a long text at or before ``limit`` so that no token is likely to be cut.

    Best before a line end, then before a space, that follows a visible character: no tokeniser here
    makes a token across such a place.
    """
    for mark in ("\n", " "):
        at = text.rfind(mark, 1, limit)
        while at > limit // 2:
            if not text[at - 1].isspace():
                return at
            at = text.rfind(mark, 1, at)
    return limit


def _until(separated: re.Pattern[str], file: TextFile, faults: Faults) -> Iterator[Piece]:
    """Documents between matches of ``separated``."""
    rest, begins = "", True
    for chunk in unix(chunks(file, faults)):
        *ended, rest = separated.split(rest + chunk)
        for text in ended:
            if text.strip():
                yield text, begins
            begins = True
        while len(rest) > PIECE:
            at = cut_at(rest, PIECE)
            if rest[:at].strip():
                yield rest[:at], begins
                begins = False
            rest = rest[at:]
    if rest.strip():
        yield rest, begins


def _by_blank_line(file: TextFile, faults: Faults) -> Iterator[Piece]:
    return _until(_BLANK_LINES, file, faults)


def _by_line(file: TextFile, faults: Faults) -> Iterator[Piece]:
    return _until(re.compile("\n"), file, faults)


def _whole(file: TextFile, faults: Faults) -> Iterator[Piece]:
    """The file verbatim, line ends included."""
    rest, begins = "", True
    for chunk in chunks(file, faults):
        rest += chunk
        while len(rest) > PIECE:
            at = cut_at(rest, PIECE)
            yield rest[:at], begins
            rest, begins = rest[at:], False
    if rest:
        yield rest, begins


_TEXT = {"blank_line": _by_blank_line, "line": _by_line, "file": _whole}
