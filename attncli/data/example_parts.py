"""Where labelled examples come from: files by part, or hub data; the records of each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import Kind, TextFile, find_files, kind_of, missing, near_path, split_of
from attncli.data.hub import HubText, is_saved, may_be_hub_name
from attncli.data.sources import HoldOut
from attncli.errors import DataError, Problem
from attncli.recipe.text import LabelledParts
from attncli.recipe.vision import PictureParts

T = TypeVar("T")

_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Part:
    """A part of a data set under the name it goes by: files, a split of hub data, or folders by label."""

    name: str
    files: tuple[TextFile, ...] = ()
    hub: HubText | None = None
    split: str = ""
    folder: Path | None = None

    def describe(self) -> str:
        """Where it is."""
        if self.folder is not None:
            return str(self.folder)
        return f"{self.hub.name} ({self.split})" if self.hub else quoted([str(f.path) for f in self.files], 2)


FolderReader = Callable[[Path, str], tuple[dict[str, Part], tuple[Path, ...]]]
"""Finds the parts of a folder that is laid out in a way of its own, given the setting that names it, and what
is not read there. Raises DataError."""


@dataclass(frozen=True)
class Parts:
    """The parts of a data set; ``share`` of the training part is held out where none is for validation."""

    root: str
    train: Part
    validation: Part | None
    tests: tuple[Part, ...]
    share: float
    ignored: tuple[Path, ...] = ()

    def by_name(self, name: str) -> Part | None:
        """A part by its name; None where there is no such."""
        name = _ALIASES.get(name, name)
        found = {"train": self.train, "validation": self.validation} | {t.name: t for t in self.tests}
        return found.get(name)

    @property
    def names(self) -> list[str]:
        """train, validation, test sets."""
        return ["train", "validation", *(test.name for test in self.tests)]

    def describe(self) -> str:
        """One line for the console."""
        text = self.root
        if self.validation is None:
            text += f", {self.share:.3g} of it held out"
        if self.ignored:
            beside = "" if self.train.folder is not None else " beside the split files"
            text += f"; not read{beside}: {quoted([p.name for p in self.ignored], 3)}"
        return text


def open_parts(
    section: LabelledParts | PictureParts,
    then: str,
    more: Mapping[str, Kind] | None = None,
    folders: FolderReader | None = None,
) -> Parts:
    """The parts that ``data`` names. Paths are looked at, contents are not.

    ``then``: the command to type next. ``more``: further endings of files, and how they are read.
    ``folders``: what reads folders, where they hold no text.

    Raises:
        DataError: all that is not there.
    """
    problems: list[Problem] = []
    share, other = 0.1, ""
    try:
        share = float(section.validation)
        if not 0 < share < 1:
            problems.append(Problem(f"data.validation={section.validation}: a share must be between 0 and 1"))
    except ValueError:
        other = str(section.validation)
    try:
        parts, ignored = _parts(section.path, "data.path", then, more=more, folders=folders)
    except DataError as error:
        raise DataError(*problems, *error.problems, then=error.then) from None
    validation, tests = parts.get("validation"), [p for p in parts.values() if _is_test(p)]
    if other:
        try:
            validation = single_part(other, "data.validation", section.path, "validation", more, folders)
        except DataError as error:
            problems += error.problems
    if section.tests:
        tests = []
        for name in section.tests:
            try:
                given = parts.get(name)
                tests.append(
                    given or single_part(name, "data.tests", section.path, more=more, folders=folders)
                )
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(*problems)
    held = share if validation is None else 0.0
    return Parts(section.path, parts["train"], validation, tuple(tests), held, ignored)


def single_part(
    name: str,
    setting: str,
    beside: str,
    want: str = "test",
    more: Mapping[str, Kind] | None = None,
    folders: FolderReader | None = None,
) -> Part:
    """What is meant by data that is not trained on: its part of that kind, or all of it.

    ``beside``: the data it may stand in or beside.

    Raises:
        DataError: there is no such path, or it has several test sets.
    """
    places = [Path(name).expanduser()]
    if beside != "builtin":
        base = Path(beside).expanduser()
        places += [base / name, base.parent / name]
    for place in places:
        if not place.exists():
            continue
        if place.is_file():
            return Part(_stem(place), (_file(place),))
        parts, _ = _parts(str(place), setting, training=False, more=more, folders=folders)
        chosen = [part for part in parts.values() if _is_test(part)] if want == "test" else []
        chosen = chosen or [parts[name] for name in (want, "validation", "train") if name in parts][:1]
        if len(chosen) > 1:
            names = quoted([part.name for part in chosen])
            raise DataError(Problem(f"{setting}={name}: several test sets, {names}", hint="name one file"))
        return replace(chosen[0], name=place.name)
    raise DataError(missing(places[0], setting))


def _is_test(part: Part) -> bool:
    return part.name not in ("train", "validation")


def _file(path: Path) -> TextFile:
    return TextFile(path, kind_of(path) or "text")


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return Path(name).stem or name


def _parts(
    name: str,
    setting: str,
    then: str = "",
    training: bool = True,
    more: Mapping[str, Kind] | None = None,
    folders: FolderReader | None = None,
) -> tuple[dict[str, Part], tuple[Path, ...]]:
    path = Path(name).expanduser()
    if path.is_dir() and is_saved(path):
        return _hub(HubText(str(path), "", setting=setting, then=then)), ()
    if path.is_dir() and folders is not None:
        return folders(path, setting)
    if path.exists():
        found = find_files(path, setting, training, more)
        parts: dict[str, list[TextFile]] = {}
        for split, files in found.by_split.items():
            for file in files:
                many = split == "test" and len(files) > 1
                parts.setdefault(_test_name(file.path) if many else split, []).append(file)
        return {key: Part(key, tuple(files)) for key, files in parts.items()}, found.ignored
    looks_like_path = (
        name.startswith((".", "~", "/")) or name.count("/") > 1 or kind_of(path, more) is not None
    )
    if looks_like_path or setting != "data.path" or not may_be_hub_name(name):
        raise DataError(missing(path, setting))
    near = near_path(path)
    return _hub(HubText(name, "", f"did you mean {near}? Or " if near else "", setting, then)), ()


def _test_name(path: Path) -> str:
    """A test set's own name, where there are several: its file's, unless a folder names the split."""
    return _stem(path) if split_of(Path(path.name)) else "test"


def _hub(text: HubText) -> dict[str, Part]:
    return {split: Part(split, hub=text, split=split) for split in text.splits}


def read_parts(
    parts: Parts, read: Callable[[Part, int], list[T]], limit: int, unit: str, faults: Faults
) -> dict[str, list[T]]:
    """What ``read(part, limit)`` gives of train, validation and every test set, in this order.

    Where there is no validation part, a share of the training part is held out. ``limit`` is of the training
    part, 0 for none; ``unit`` is what errors call an example.
    """
    found = {"train": read(parts.train, limit)}
    if parts.validation is not None:
        found["validation"] = read(parts.validation, 0)
    tests = {test.name: read(test, 0) for test in parts.tests}
    faults.check()
    if parts.validation is None:
        whole = found["train"]
        held = held_out(parts.share, len(whole))
        found["train"] = [one for one, out in zip(whole, held, strict=True) if not out]
        found["validation"] = [one for one, out in zip(whole, held, strict=True) if out]
        if not found["train"]:
            what = f"{parts.root}: {len(whole)} {unit} only, so none can be held out for validation"
            raise DataError(Problem(what, hint="set data.validation=PATH"))
    return found | tests


def held_out(share: float, count: int) -> list[bool]:
    """Which of ``count`` examples are validation, where a ``share`` of them is held out."""
    chosen = HoldOut(share, count if count < 1 / share else 0)
    return [chosen(number) for number in range(count)]


def no_part(parts: Parts, name: str) -> DataError:
    """The error for a part that is not there."""
    return DataError(
        Problem(
            f"{parts.root}: there is no part {name!r}",
            hint=choices_hint(name, parts.names, "it has", "--split"),
        )
    )


def hub_rows(part: Part) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of hub data with their places; labels that are numbers of names become names."""
    data = part.hub.part(part.split)  # type: ignore[union-attr]
    named = class_names(getattr(data, "features", None) or {})
    for number, row in enumerate(part.hub.rows(part.split), 1):  # type: ignore[union-attr]
        for column, names in named.items():
            row[column] = named_label(row[column], names)
        yield f"{part.hub.name}: row {number}", row  # type: ignore[union-attr]


def class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the labels of each column that holds their numbers, one or a list."""
    found = {}
    for column, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(feature, list) and feature:
            inner = feature[0]
        names = getattr(inner, "names", None)
        if names:
            found[column] = list(names)
    return found


def named_label(value: Any, names: list[str]) -> Any:
    """The name of a label's number, or those of a list; -1 is no label."""
    if isinstance(value, list):
        return [named_label(one, names) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return None if value == -1 else value


def usable(faults: Faults, count: int, part: Part) -> None:
    """A part without a single example is a fault of its own."""
    if not count and not faults.problems:
        faults.add(f"{part.describe()}: no example in it")
