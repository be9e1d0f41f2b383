"""The house: imports go down only, rooms on one floor do not know each other, the core does not print."""

import ast
from pathlib import Path

import pytest

import attncli

PACKAGE = Path(attncli.__file__).parent
FLOORS = [
    {"errors", "console"},
    {"ops"},
    {"attention", "recipe", "metrics"},
    {"layers", "data"},
    {"models", "decoding"},
    {"training"},
    {"tasks", "reports", "bench"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms that a module imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "attncli":
                names = [f"attncli.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "attncli" and len(parts) > 1 and parts[1] in FLOOR:
                rooms.add(parts[1])
    return rooms


def test_every_module_has_a_floor():
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    if room == "__init__":
        return
    for other in imported(path) - {room}:
        assert FLOOR[other] < FLOOR[room], (
            f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_console_and_the_command_line_print(path):
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert room_of(path) in ("console", "cli", "commands") or not calls, f"print at lines {calls}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled_or_evaluated(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            wrong += [name for name in names if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill")]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            wrong += (
                [name] if name in ("eval", "exec", "torch.load", "torch.save", "yaml.load", "np.load") else []
            )
    assert not wrong
