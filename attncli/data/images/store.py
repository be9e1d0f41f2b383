"""Many pictures by number: in files, in one packed file, or decoded and mapped into memory.

All of them are cheap to pickle: what is on disk goes to a worker process as its path.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attncli.data.images.reading import Header, Pixels, check
from attncli.data.images.shaping import Look, Size


class Pictures(Protocol):
    """Pictures by number."""

    def __len__(self) -> int:
        """How many."""
        ...

    def read(self, at: int) -> Pixels:
        """uint8 [H, W, C]; Unreadable where it cannot be decoded."""
        ...


class Encoded(Pictures, Protocol):
    """Pictures that are decoded when they are asked for."""

    look: Look

    def header(self, at: int) -> Header:
        """Size and colours in the file, before ``look``; Unreadable where it is no picture or cut short."""
        ...

    def take(self, chosen: NDArray[np.int64]) -> Encoded:
        """Some of them, by their numbers."""
        ...

    def seen(self, look: Look) -> Encoded:
        """The same, read in another way."""
        ...

    def identity(self) -> list[Any]:
        """JSON that changes whenever a picture does."""
        ...


class FilePictures:
    """A file each."""

    def __init__(self, paths: Sequence[Path | str], look: Look | None = None) -> None:
        self.paths, self.look = [str(path) for path in paths], look or Look()

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, at: int) -> Pixels:
        """uint8 [H, W, C]."""
        return self.look.read(self.paths[at])

    def header(self, at: int) -> Header:
        """Size and colours in the file."""
        return check(self.paths[at])

    def take(self, chosen: NDArray[np.int64]) -> FilePictures:
        """Some of them."""
        return FilePictures([self.paths[at] for at in chosen], self.look)

    def seen(self, look: Look) -> FilePictures:
        """The same, read in another way."""
        return FilePictures(self.paths, look)

    def identity(self) -> list[Any]:
        """Paths, sizes and times."""
        found: list[Any] = []
        for path in self.paths:
            try:
                stat = Path(path).stat()
                found.append([str(Path(path).absolute()), stat.st_size, stat.st_mtime_ns])
            except OSError:
                found.append([path, 0, 0])
        return ["files", found]


class BytesPictures:
    """The bytes of files, one after another in an array or in a packed file (:func:`pack`).

    Args:
        data: uint8 [total], or the packed file.
        ends: int64 [N], where each ends.
        chosen: numbers of those that count; None is all.
        name: what stands for the content in a cache key.
    """

    def __init__(
        self,
        data: NDArray[np.uint8] | Path | _Mapped,
        ends: NDArray[np.int64],
        look: Look | None = None,
        chosen: NDArray[np.int64] | None = None,
        name: str = "",
    ) -> None:
        self.ends, self.look, self.name = ends, look or Look(), name
        self.chosen = np.arange(len(ends)) if chosen is None else chosen
        self._data = _Mapped(data, "uint8", None) if isinstance(data, Path) else data

    @classmethod
    def of(cls, blobs: Sequence[bytes], look: Look | None = None) -> BytesPictures:
        """Of bytes in memory."""
        ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
        return cls(np.frombuffer(b"".join(blobs), np.uint8), ends, look)

    def __len__(self) -> int:
        return len(self.chosen)

    def bytes_of(self, at: int) -> bytes:
        """The file as it was."""
        number = int(self.chosen[at])
        data = self._data.array if isinstance(self._data, _Mapped) else self._data
        return data[int(self.ends[number - 1]) if number else 0 : int(self.ends[number])].tobytes()

    def read(self, at: int) -> Pixels:
        """uint8 [H, W, C]."""
        return self.look.read(self.bytes_of(at))

    def header(self, at: int) -> Header:
        """Size and colours in the file."""
        return check(self.bytes_of(at))

    def take(self, chosen: NDArray[np.int64]) -> BytesPictures:
        """Some of them."""
        return BytesPictures(self._data, self.ends, self.look, self.chosen[chosen], self.name)

    def seen(self, look: Look) -> BytesPictures:
        """The same, read in another way."""
        return BytesPictures(self._data, self.ends, look, self.chosen, self.name)

    def identity(self) -> list[Any]:
        """The name of the content, or a checksum of it, and which of them count."""
        import hashlib

        content = self.name
        if not content:
            content = hashlib.sha256(b"".join(map(self.bytes_of, range(len(self))))).hexdigest()
        return ["bytes", content, hashlib.sha256(self.chosen.astype("<i8").tobytes()).hexdigest()]


class ArrayPictures:
    """Decoded pictures of one size.

    Args:
        array: uint8 [N, H, W, C], or a file of it and its shape (:meth:`mapped`).
        chosen: numbers of those that count; None is all.
    """

    def __init__(self, array: NDArray[np.uint8] | _Mapped, chosen: NDArray[np.int64] | None = None) -> None:
        self._array, self.chosen = array, chosen

    @classmethod
    def mapped(cls, path: Path, shape: Sequence[int]) -> ArrayPictures:
        """Of a file, mapped into memory."""
        return cls(_Mapped(path, "uint8", tuple(shape)))

    @property
    def array(self) -> NDArray[np.uint8]:
        """uint8 [N, H, W, C] of all, whatever is chosen."""
        return self._array.array if isinstance(self._array, _Mapped) else self._array

    @property
    def size(self) -> Size:
        """Height and width of each."""
        return self.array.shape[1], self.array.shape[2]

    def __len__(self) -> int:
        return len(self.array) if self.chosen is None else len(self.chosen)

    def read(self, at: int) -> Pixels:
        """uint8 [H, W, C]."""
        return np.asarray(self.array[at if self.chosen is None else self.chosen[at]])

    def many(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, H, W, C], a copy."""
        return np.asarray(self.array[at if self.chosen is None else self.chosen[at]])

    def take(self, chosen: NDArray[np.int64]) -> ArrayPictures:
        """Some of them."""
        return ArrayPictures(self._array, chosen if self.chosen is None else self.chosen[chosen])


class RaggedPictures:
    """Decoded pictures of several sizes in one file: uint8 [total], ``shapes`` int64 [N, 3]."""

    def __init__(self, path: Path, shapes: NDArray[np.int64]) -> None:
        self.shapes = shapes
        self._ends = np.cumsum(shapes.prod(1))
        self._data = _Mapped(path, "uint8", None)

    def __len__(self) -> int:
        return len(self.shapes)

    def read(self, at: int) -> Pixels:
        """uint8 [H, W, C]."""
        end = int(self._ends[at])
        shape = self.shapes[at]
        return np.asarray(self._data.array[end - int(shape.prod()) : end]).reshape(shape)


class _Mapped:
    """An array in a file, mapped when it is first used; pickled as its path."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...] | None) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        self._array: NDArray[Any] | None = None

    @property
    def array(self) -> NDArray[Any]:
        if self._array is None:
            if self.path.stat().st_size:
                mapped = np.memmap(self.path, self.dtype, "r", shape=self.shape)
                self._array = mapped.view(np.ndarray)  # indexing a memmap costs more than an array
            else:
                self._array = np.zeros(self.shape or (0,), self.dtype)
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "dtype": self.dtype, "shape": self.shape, "_array": None}


def save_json(path: Path, values: Any) -> None:
    """Write a small file beside an array."""
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
