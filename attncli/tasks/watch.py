"""Progress of reading, tokenising and translating."""

from __future__ import annotations

from attncli import console


class Watch:
    """Shows how far reading and tokenising are, once they take noticeable time."""

    def __init__(self) -> None:
        self._bars: dict[str, console.Progress] = {}
        self._documents = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *problem: object) -> None:
        for bar in self._bars.values():
            bar.__exit__(None, None, None)

    def __call__(self, what: str, documents: int, size: int) -> None:
        """Of ``what``, so many documents and bytes are done."""
        if what not in self._bars:
            self.__exit__()
            self._bars = {what: console.Progress(what, unit="bytes").__enter__()}
            self._documents = self._size = 0
        self._bars[what].advance(documents - self._documents, units=size - self._size)
        self._documents, self._size = documents, size
