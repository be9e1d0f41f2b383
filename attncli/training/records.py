"""``metrics.jsonl`` and ``timings.jsonl``: one JSON object a line, cut back to a step on resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attncli.training.files import disk_errors, dumps, write_text


def read_records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of ``path``; a last line torn by a kill is left out. Empty when there is no file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


class Records:
    """Appends lines; on opening, drops those after ``step`` that a killed run left behind."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        with disk_errors(str(path)):
            if path.exists():
                kept = [dumps(record) + "\n" for record in read_records(path) if record["step"] <= step]
                write_text(path, "".join(kept))
            self._handle = path.open("a", encoding="utf-8")

    def add(self, **record: Any) -> None:
        """One line, visible to readers at once."""
        with disk_errors(str(self.path)):
            self._handle.write(dumps(record) + "\n")
            self._handle.flush()

    def flush(self) -> None:
        """Wait until every line is on the disk."""
        with disk_errors(str(self.path)):
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file; adding more is an error."""
        self._handle.close()
