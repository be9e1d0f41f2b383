"""Readers of one file each: plain text, JSON lines, CSV and parquet, as a stream of pieces of documents.

A piece is ``(text, begins)``: ``begins`` marks the first piece of a document. Documents longer than
``PIECE`` characters come in several pieces, so that memory stays bounded whatever the file holds.
Nothing here raises for bad data before the caller's :class:`Faults` says so.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Iterator

from attncli.data.faults import Faults, choices_hint
from attncli.data.files import TextFile

PIECE = 1 << 20
"""Characters after which a document is handed on in pieces."""
CHUNK = 1 << 20
"""Bytes read at once."""

Piece = tuple[str, bool]

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_MAGIC = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive or office document",
    b"\x1f\x8b": "gzip data (name it .gz)",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PAR1": "parquet (name it .parquet)",
    b"SQLite": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "zstd data (unpack it)",
    b"BZh": "bzip2 data (unpack it)",
    b"\xfd7zXZ": "xz data (unpack it)",
}


def read_pieces(file: TextFile, column: str, documents: str, faults: Faults) -> Iterator[Piece]:
    """The documents of ``file`` in pieces. Blank documents are left out."""
    if file.kind == "text":
        yield from _TEXT[documents](file, faults)
    else:
        yield from ((text, True) for text in _RECORDS[file.kind](file, column, faults))


def _chunks(file: TextFile, faults: Faults) -> Iterator[str]:
    """Decoded text; invalid UTF-8 is reported once a line, with the rest of that line left out."""
    pending, line, lead, first = b"", 1, 0, True
    try:
        with file.open() as handle:
            while True:
                chunk = handle.read(CHUNK)
                data, pending = pending + chunk, b""
                if first:
                    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
                    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        faults.add(
                            "is UTF-16, not UTF-8", str(file.path), "iconv -f UTF-16 -t UTF-8 IN > OUT"
                        )
                        return
                    if kind:
                        faults.add(f"is {kind}, not text", str(file.path))
                        return
                    data, first = data.removeprefix(b"\xef\xbb\xbf"), False
                zero = data.find(b"\0")
                if zero >= 0:
                    at = line + data.count(b"\n", 0, zero)
                    faults.add("is binary (a zero byte), not text", f"{file.path}:{at}")
                    return
                while data:
                    try:
                        text, rest = data.decode(), b""
                    except UnicodeDecodeError as error:
                        text, rest = data[: error.start].decode(), data[error.start :]
                        if chunk and len(rest) < 4 and error.end == len(data):
                            pending, rest = rest, b""  # a character cut by the end of the chunk
                        else:
                            at = line + data.count(b"\n", 0, error.start)
                            before = data.rfind(b"\n", 0, error.start)
                            position = error.start - before + (lead if before < 0 else 0)
                            faults.add(
                                f"byte 0x{rest[0]:02x} at position {position} of the line is not UTF-8",
                                f"{file.path}:{at}",
                                "iconv -f LATIN1 -t UTF-8 IN > OUT, if that is what it is",
                            )
                            end = rest.find(b"\n")
                            rest = rest[end:] if end >= 0 else b""
                    done = data[: len(data) - len(rest) - len(pending)]
                    line += done.count(b"\n")
                    lead = len(done) - done.rfind(b"\n") - 1 if b"\n" in done else lead + len(done)
                    if text:
                        yield text
                    data = rest
                if not chunk:
                    return
    except (OSError, EOFError, zlib.error) as error:
        faults.add(f"cannot be read: {error}", str(file.path))


def _unix(chunks: Iterator[str]) -> Iterator[str]:
    """Chunks with \\r\\n turned into \\n."""
    held = ""
    for chunk in chunks:
        chunk = held + chunk
        held = "\r" if chunk.endswith("\r") else ""
        yield chunk.removesuffix("\r").replace("\r\n", "\n")
    if held:
        yield held


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
    for chunk in _unix(_chunks(file, faults)):
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
    for chunk in _chunks(file, faults):
        rest += chunk
        while len(rest) > PIECE:
            at = cut_at(rest, PIECE)
            yield rest[:at], begins
            rest, begins = rest[at:], False
    if rest:
        yield rest, begins


_TEXT = {"blank_line": _by_blank_line, "line": _by_line, "file": _whole}


def lines(file: TextFile, faults: Faults) -> Iterator[str]:
    """Lines without their end."""
    rest = ""
    for chunk in _unix(_chunks(file, faults)):
        *ended, rest = (rest + chunk).split("\n")
        yield from ended
    if rest:
        yield rest


def _text(value: object, where: str, column: str, faults: Faults) -> str | None:
    """A field's text; None when blank or not text."""
    if value is None:
        return None
    if not isinstance(value, str):
        faults.add(f"{column} is {type(value).__name__}, not text", where)
        return None
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # lone surrogates, which JSON can hold
    return value if value.strip() else None


def _json(file: TextFile, column: str, faults: Faults) -> Iterator[str]:
    for number, line in enumerate(lines(file, faults), 1):
        if not line.strip():
            continue
        where = f"{file.path}:{number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == 1 and line.lstrip()[0] in "[{" and len(line.strip()) == 1:
                faults.add(
                    "is one JSON value over several lines, not JSON lines",
                    str(file.path),
                    "write one object a line, for example jq -c '.[]' IN > OUT",
                )
                return
            reason = (
                f"{error.msg} at column {error.colno}" if isinstance(error, ValueError) else "nested too deep"
            )
            faults.add(f"not JSON: {reason}", where)
            continue
        if isinstance(record, list) and number == 1:
            faults.add(
                "is a JSON array, not JSON lines",
                where,
                "write one object a line, for example jq -c '.[]' IN > OUT",
            )
            return
        if not isinstance(record, dict):
            faults.add(
                f"a JSON {type(record).__name__} where an object with the field {column} belongs", where
            )
            continue
        if column not in record:
            faults.add(
                f"no field {column!r}",
                where,
                choices_hint(column, record, "fields of this line", "data.column"),
            )
            if number == 1:
                return  # most likely so in every line
            continue
        text = _text(record[column], where, column, faults)
        if text:
            yield text


def _csv(file: TextFile, column: str, faults: Faults) -> Iterator[str]:
    csv.field_size_limit(1 << 26)
    ended = (line + "\n" for line in lines(file, faults))
    first = next(ended, "")
    rows = {mark: next(csv.reader([first], delimiter=mark), []) for mark in "\t,;"}
    mark = next(
        (mark for mark, names in rows.items() if column in names), max(rows, key=lambda mark: len(rows[mark]))
    )
    header = rows[mark]
    if column not in header:
        if first:
            faults.add(
                f"no column {column!r}; the first line must name the columns",
                f"{file.path}:1",
                choices_hint(column, header, "it reads", "data.column"),
            )
        return
    at = header.index(column)
    reader = csv.reader(ended, delimiter=mark)
    while True:
        start = reader.line_num + 2
        try:
            row = next(reader, None)
        except csv.Error as error:
            faults.add(f"not CSV: {error} (a quote that is never closed?)", f"{file.path}:{start}")
            return
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(header):
            faults.add(f"{len(row)} fields where the header has {len(header)}", f"{file.path}:{start}")
            continue
        text = _text(row[at], f"{file.path}:{start}", column, faults)
        if text:
            yield text


def _parquet(file: TextFile, column: str, faults: Faults) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open() as handle, pq.ParquetFile(handle) as table:
            names = table.schema_arrow.names
            if column not in names:
                faults.add(
                    f"no column {column!r}",
                    str(file.path),
                    choices_hint(column, names, "columns", "data.column"),
                )
                return
            kind = table.schema_arrow.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                faults.add(f"column {column} holds {kind}, not text", str(file.path))
                return
            row = 0
            for batch in table.iter_batches(batch_size=256, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    text = _text(value, f"{file.path}: row {row}", column, faults)
                    if text:
                        yield text
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        faults.add(f"not readable as parquet: {str(error).splitlines()[0]}", str(file.path))


_RECORDS = {"json": _json, "csv": _csv, "parquet": _parquet}
