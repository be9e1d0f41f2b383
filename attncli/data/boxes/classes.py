"""The classes of a detector, in the order of its outputs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attncli.data.faults import quoted
from attncli.errors import CheckpointError, Problem

_FILE = "classes.json"


@dataclass(frozen=True)
class Classes:
    """Names, and the numbers that results have for them: those of the COCO file learnt from, else 1, 2 ..."""

    names: list[str]
    numbers: list[int]

    @classmethod
    def of(cls, names: list[str], numbers: dict[str, int] | None = None) -> Classes:
        """``numbers``: those that are known; the others come after them."""
        numbers = numbers or {}
        free = max(numbers.values(), default=0)
        found = []
        for name in names:
            if name not in numbers:
                free += 1
            found.append(numbers.get(name, free))
        return cls(list(names), found)

    def describe(self) -> str:
        """Words for the console."""
        return f"{len(self.names)} classes ({quoted(self.names, 6)})"

    def save(self, folder: Path) -> None:
        """Write ``classes.json``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Classes:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names, numbers = [str(name) for name in values["names"]], [int(n) for n in values["numbers"]]
            if len(names) != len(numbers):
                raise ValueError(f"{len(names)} names and {len(numbers)} numbers")
            return cls(names, numbers)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None
