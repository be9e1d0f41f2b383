"""``attn export``: a finished run as a folder that other libraries load."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from attncli import console
from attncli.commands.trained import EXPORT, load_task, module_of, open_run, say_run
from attncli.errors import Problem, RecipeError, nearest

FORMATS = {"hf": "Hugging Face transformers", "ctranslate2": "CTranslate2", "onnx": "onnxruntime"}
"""Names of formats, and who reads them."""


def main(first: str, *, format: str = "hf", out: Path | None = None) -> None:
    """Write the best weights of a run, its tokeniser and settings into a new folder."""
    if format not in FORMATS:
        near = nearest(format, FORMATS) or "hf"
        what = f"--format {format}: there is none of that name; there are {', '.join(FORMATS)}"
        raise RecipeError(what, then=f"attn export {first} --format {near}")
    run, loaded = open_run("export", first)
    if run.info["command"] == "detect":
        raise RecipeError(
            f"{run.path} is a run of attn detect, which no other library loads",
            then=f"attn detect {run.path} PICTURE",
        )
    kind = module_of(EXPORT, run.info["command"], loaded.recipe)
    folder = run.path / format if out is None else Path(os.path.expanduser(out))
    _refuse_full(folder, f"attn export {shlex.quote(first)} --format {format}")
    if format not in kind.WRITERS:
        known = " or ".join(kind.WRITERS)
        raise RecipeError(
            f"{run.path} is a run of attn {run.info['command']}, which can be exported as {known}",
            then=f"attn export {run.path} --format {next(iter(kind.WRITERS))}",
        )
    say_run(run)
    task, _ = load_task(run, loaded, data=False)
    task.model.float().cpu()
    kind.check(task, run, format)
    write, use = kind.WRITERS[format]
    _in_place(folder, lambda aside: write(task, aside))
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    then = _python(use(task, str(folder)))
    console.document(
        {"run": str(run.path), "format": format, "folder": str(folder), "files": files, "next": then}
    )
    if not console.json_mode():
        rows = [(name, console.size(size)) for name, size in files.items()]
        console.table(["file", "size"], rows, title=f"{folder} for {FORMATS[format]}", right=["size"])
    if left := getattr(kind, "note", lambda task: "")(task):
        console.say(left)
    console.say(f"next: {then}")


def _python(code: str) -> str:
    """The shell's command that runs ``code``; in double quotes where that is safe, as it reads better."""
    return f'python -c "{code}"' if not set('"$`\\!') & set(code) else f"python -c {shlex.quote(code)}"


def _refuse_full(folder: Path, command: str) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "exists and is not an empty folder" if folder.is_dir() else "is a file"
        other = f"{folder}-2"
        raise RecipeError(
            Problem(f"{folder} {what}", hint="nothing is written over"),
            then=f"{command} --out {shlex.quote(other)}",
        )


def _in_place(folder: Path, write: Callable[[Path], object]) -> None:
    """What ``write`` puts into a folder appears at ``folder`` when all of it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".tmp-export-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        write(aside)
        try:
            aside.rename(folder)
        except OSError as error:
            if not folder.exists():
                raise
            raise RecipeError(f"{folder} came to be meanwhile; nothing is written over") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
