"""Text from data sets that the ``datasets`` library loads: a hub name, or a folder it saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from attncli.data.faults import Faults, choices_hint
from attncli.data.records import text_of
from attncli.errors import DataError, Problem

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?(?::[\w.-]+)?")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def may_be_hub_name(name: str) -> bool:
    """Whether ``name`` has the form ``name``, ``owner/name``, or either with ``:configuration``."""
    return _NAME.fullmatch(name) is not None


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the datasets library wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


class HubText:
    """Documents of a hub data set, streamed, or of a folder written by ``save_to_disk``, memory-mapped.

    Args:
        name: ``owner/name`` or ``owner/name:configuration``, or the folder.
        column: the text column.
        near: a hint at the file that may have been meant, for the message when it cannot be loaded.
        setting: the recipe setting that the name comes from.
        then: the command to type next.
    """

    verbatim = False

    def __init__(
        self,
        name: str,
        column: str,
        near: str = "",
        setting: str = "data.source",
        then: str = "attn pretrain bert --data PATH",
    ) -> None:
        self.name, self.column, self.near = name, column, near
        self.setting, self.then = setting, then

    @cached_property
    def _parts(self) -> dict[str, Any]:
        import datasets

        folder = Path(self.name)
        try:
            if folder.is_dir():
                loaded = datasets.load_from_disk(self.name)
                loaded = loaded if isinstance(loaded, dict) else {"train": loaded}
            else:
                path, _, configuration = self.name.partition(":")
                # Without a revision the hub is off, on purpose: then what was downloaded before is read.
                streaming = self._revision is not None
                loaded = datasets.load_dataset(path, configuration or None, streaming=streaming)
        except Exception as error:  # the library raises whatever its back ends do
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                Problem(
                    f"{self.setting}={self.name}: there is no such file or folder here, and no data set of "
                    f"that name could be loaded from the hub: {reason}",
                    hint=f"{self.near}give the path of a file or folder, or owner/name of a hub data set, "
                    "with :configuration where it has several",
                ),
                then=self.then,
            ) from error
        parts = {}
        for split, names in _SPLITS.items():
            found = next((name for name in names if name in loaded), None)
            if found:
                parts[split] = loaded[found]
        if "train" not in parts:
            raise DataError(
                Problem(
                    f"{self.setting}={self.name}: no split called train; it has {', '.join(map(str, loaded))}"
                )
            )
        return parts

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits there are."""
        return tuple(self._parts)

    def part(self, split: str) -> Any:
        """A split as the library has it."""
        return self._parts[split]

    def rows(self, split: str, change: Callable[[Any], Any] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a split, ``change``d by the library before they are read."""
        part = self._parts[split]
        try:
            yield from part if change is None else change(part)
        except OSError as error:
            raise DataError(Problem(f"{self.setting}={self.name}: reading stopped: {error}")) from error

    def pieces(self, split: str, faults: Faults) -> Iterator[tuple[str, bool]]:
        """Every row's text as a document."""
        for number, row in enumerate(self.rows(split), 1):
            if self.column not in row:
                faults.add(
                    f"no column {self.column!r}",
                    f"{self.name} ({split})",
                    choices_hint(self.column, row, "columns", "data.column"),
                )
                return
            text = text_of(row[self.column], f"{self.name}: row {number}", self.column, faults)
            if text:
                yield text, True

    def identity(self) -> list[Any]:
        """Name and revision; of a folder its fingerprints."""
        prints = []
        for split, part in self._parts.items():
            info = getattr(part, "info", None)
            sources = sorted(getattr(info, "download_checksums", None) or {})
            prints.append(
                [split, getattr(part, "_fingerprint", None) if Path(self.name).is_dir() else sources]
            )
        revision = None if Path(self.name).is_dir() else self._revision
        return ["hub", self.name, revision, prints]

    @cached_property
    def _revision(self) -> str | None:
        """Commit of the data set; None with HF_HUB_OFFLINE. Asked first: it fails at once without network."""
        import huggingface_hub

        if huggingface_hub.constants.HF_HUB_OFFLINE:
            return None
        return huggingface_hub.HfApi().dataset_info(self.name.partition(":")[0], timeout=10).sha

    def describe(self) -> str:
        """One line."""
        return f"{self.name} ({', '.join(self.splits)})"
