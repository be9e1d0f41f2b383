"""Pictures that stand inside tables, copied once into a packed file in the cache, to be read in any order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attncli.data.cache import entry
from attncli.data.faults import Faults
from attncli.data.images.store import BytesPictures
from attncli.data.images.tables import Row
from attncli.data.sources import Progress


class Packed(NamedTuple):
    """Pictures and what their rows say of them."""

    pictures: BytesPictures
    labels: list[Any]
    splits: list[str | None]
    places: list[str]


def pack(
    rows: Iterator[Row], faults: Faults, folder: Path, key: str, progress: Progress | None = None
) -> Packed:
    """The bytes of ``rows`` as the cache entry ``packed-KEY``; rows are read where it is not there yet.

    A row without a picture has no bytes, which is found with what else cannot be decoded. ``faults`` of the
    tables are raised before anything is kept.
    """

    def build(aside: Path) -> None:
        ends, labels, splits, places, total = [], [], [], [], 0
        with (aside / "pictures.bin").open("wb") as file:
            for row in rows:
                content = content_of(row)
                total += len(content)
                file.write(content)
                ends.append(total)
                labels.append(row.label)
                splits.append(row.split)
                places.append(row.where)
                if progress:
                    progress("copying pictures", len(ends), total)
        faults.check()
        np.array(ends, "<i8").tofile(aside / "ends.bin")
        text = json.dumps({"labels": labels, "splits": splits, "places": places}, default=str)
        (aside / "rows.json").write_text(text, encoding="utf-8")

    target = entry(folder, f"packed-{key}", build)
    told = json.loads((target / "rows.json").read_text(encoding="utf-8"))
    ends = np.fromfile(target / "ends.bin", "<i8").astype(np.int64)
    pictures = BytesPictures(target / "pictures.bin", ends, name=key)
    return Packed(pictures, told["labels"], told["splits"], told["places"])


def content_of(row: Row) -> bytes:
    """The bytes of a row's picture; empty where it has none."""
    image = row.image
    if isinstance(image, dict):
        path, image = image.get("path"), image.get("bytes")
        if not image and path:
            place = Path(path) if row.folder is None else row.folder / path
            return place.read_bytes() if place.is_file() else b""
    return bytes(image) if isinstance(image, bytes | bytearray | memoryview) else b""


def is_embedded(image: Any) -> bool:
    """Whether a column's value is the picture itself."""
    return isinstance(image, dict | bytes | bytearray | memoryview)
