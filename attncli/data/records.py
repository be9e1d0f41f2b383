"""Records of JSON lines, CSV and parquet: the fields that are asked for, with the place of each record."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attncli.data.faults import Faults, choices_hint
from attncli.data.files import TextFile
from attncli.data.lines import lines

Record = tuple[str, tuple[Any, ...]]
"""Where it stands (file and line, or row), and its fields."""


@dataclass(frozen=True)
class Fields:
    """Fields to read of every record.

    Attributes:
        names: of the fields or columns.
        settings: the recipe setting that each name comes from, for messages.
        within: a field that may hold them all, such as ``translation`` in ``{"translation": {"en": ...}}``.
        typed: those that need not be text: labels, lists.
    """

    names: tuple[str, ...]
    settings: tuple[str, ...]
    within: str = ""
    typed: frozenset[str] = frozenset()

    def holder(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record, or what is nested in it."""
        nested = record.get(self.within) if self.within else None
        return nested if isinstance(nested, Mapping) else record

    def missing(self, names: Any, what: str, where: str, kind: str, faults: Faults) -> bool:
        """Whether some are not among ``names``; each is a fault."""
        lacking = [at for at, name in enumerate(self.names) if name not in names]
        for at in lacking:
            hint = choices_hint(self.names[at], names, what, self.settings[at])
            faults.add(f"no {kind} {self.names[at]!r}", where, hint)
        return bool(lacking)


def read_records(file: TextFile, fields: Fields, faults: Faults) -> Iterator[Record]:
    """The records of ``file``; what is wrong with it goes to ``faults``."""
    yield from _READERS[file.kind](file, fields, faults)


def field_names(file: TextFile) -> list[str]:
    """Names of the columns or fields of a file, of JSON lines those of the first; empty where it has none.

    What cannot be read has no names: :func:`read_records` says why.
    """
    if file.kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with file.open() as handle:
                return list(pq.read_schema(handle).names)
        except (pa.ArrowException, OSError, EOFError, zlib.error):
            return []
    first = next((line for line in lines(file, Faults(1 << 30)) if line.strip()), "")
    if file.kind == "csv":
        return csv_header(first, ()).names
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return []
    return list(record) if isinstance(record, dict) else []


def text_of(value: object, where: str, name: str, faults: Faults) -> str | None:
    """A field's text; None when blank or not text."""
    if value is None:
        return None
    if not isinstance(value, str):
        faults.add(f"{name} is {type(value).__name__}, not text", where)
        return None
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # lone surrogates, which JSON can hold
    return value if value.strip() else None


def _json(file: TextFile, fields: Fields, faults: Faults) -> Iterator[Record]:
    named = " and ".join(fields.names)
    for number, line in enumerate(lines(file, faults), 1):
        if not line.strip():
            continue
        where = f"{file.path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == 1 and line.lstrip()[0] in "[{" and len(line.strip()) == 1:
                faults.add(
                    "is one JSON value over several lines, not JSON lines",
                    str(file.path),
                    "write one object a line, for example jq -c '.[]' IN > OUT",
                )
                return
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg} at column {error.colno}"
            else:
                reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
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
            what = f"the field {named}" if len(fields.names) == 1 else f"the fields {named}"
            faults.add(f"a JSON {type(record).__name__} where an object with {what} belongs", where)
            continue
        record = fields.holder(record)
        if fields.missing(record, "fields of this line", where, "field", faults):
            if number == 1:
                return  # most likely so in every line
            continue
        yield where, tuple(record[name] for name in fields.names)


def _csv(file: TextFile, fields: Fields, faults: Faults) -> Iterator[Record]:
    csv.field_size_limit(1 << 26)
    ended = (line + "\n" for line in lines(file, faults))
    first = next(ended, "")
    header = csv_header(first, fields.names)
    if not set(fields.names) <= set(header.names):
        for at, name in enumerate(fields.names):
            if first and name not in header.names:
                faults.add(
                    f"no column {name!r}; the first line must name the columns",
                    f"{file.path}:1",
                    choices_hint(name, header.names, "it reads", fields.settings[at]),
                )
        return
    places = [header.names.index(name) for name in fields.names]
    reader = csv.reader(ended, delimiter=header.mark, strict=True)  # never joins lines at a stray quote
    while True:
        start = reader.line_num + 2
        where = f"{file.path}:{start}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            faults.add(f"not CSV: {error} (a quote that is never closed, or stray?)", where)
            return
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(header.names):
            count = f"{len(row)} field{'s' * (len(row) > 1)}"
            faults.add(f"{count} where the header has {len(header.names)}", where)
            continue
        yield where, tuple(row[at] for at in places)


@dataclass(frozen=True)
class Header:
    """Names in the first line of a CSV file, and the mark between them."""

    names: list[str]
    mark: str


def csv_header(first: str, wanted: tuple[str, ...]) -> Header:
    """Read with the mark that finds a wanted name, or else the most names."""
    rows = {mark: next(csv.reader([first], delimiter=mark), []) for mark in "\t,;"}
    mark = max(rows, key=lambda mark: (len(set(wanted) & set(rows[mark])), len(rows[mark])))
    return Header(rows[mark], mark)


def _parquet(file: TextFile, fields: Fields, faults: Faults) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open() as handle, pq.ParquetFile(handle) as table:
            schema = table.schema_arrow
            columns, kinds = list(fields.names), {name: schema.field(name).type for name in schema.names}
            nested = kinds.get(fields.within)
            if nested is not None and pa.types.is_struct(nested):
                columns = [fields.within]
                kinds = {nested.field(at).name: nested.field(at).type for at in range(nested.num_fields)}
            if fields.missing(kinds, "columns", str(file.path), "column", faults):
                return
            wrong = [name for name in fields.names if name not in fields.typed and not _is_text(kinds[name])]
            for name in wrong:
                faults.add(f"column {name} holds {kinds[name]}, not text", str(file.path))
            if wrong:
                return
            row = 0
            for batch in table.iter_batches(batch_size=256, columns=columns):
                for record in batch.to_pylist():
                    row += 1
                    record = fields.holder(record)
                    yield f"{file.path}: row {row}", tuple(record.get(name) for name in fields.names)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        faults.add(f"not readable as parquet: {str(error).splitlines()[0]}", str(file.path))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    view = getattr(pa.types, "is_string_view", lambda _: False)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or view(kind)


_READERS = {"json": _json, "csv": _csv, "parquet": _parquet}
