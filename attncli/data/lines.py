"""Text of a file as it is stored: unpacked, decoded, line by line."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from attncli.data.faults import Faults
from attncli.data.files import TextFile

CHUNK = 1 << 20
"""Bytes read at once."""

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


def chunks(file: TextFile, faults: Faults) -> Iterator[str]:
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


def unix(chunks: Iterator[str]) -> Iterator[str]:
    """Chunks with \\r\\n turned into \\n."""
    held = ""
    for chunk in chunks:
        chunk = held + chunk
        held = "\r" if chunk.endswith("\r") else ""
        yield chunk.removesuffix("\r").replace("\r\n", "\n")
    if held:
        yield held


def lines(file: TextFile, faults: Faults) -> Iterator[str]:
    """Lines without their end."""
    held: list[str] = []
    for chunk in unix(chunks(file, faults)):
        first, *more = chunk.split("\n")
        held.append(first)
        if more:
            yield "".join(held)
            yield from more[:-1]
            held = more[-1:]
    if any(held):
        yield "".join(held)
