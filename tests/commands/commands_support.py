"""Running the program in this process, as a user would: text, exit code."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

from attncli.cli import run as run_program

SMALL = [
    "model.layers=1",
    "model.width=32",
    "model.intermediate=64",
    "model.length=32",
    "model.attention.heads=2",
]
QUICK = [*SMALL, "train.steps=2", "train.batch=4", "train.evaluate_every=0", "train.log_every=1"]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def runner(capfd):
    """A function that runs a command line and returns exit code, standard output and standard error."""

    def call(*arguments) -> Ran:
        capfd.readouterr()
        code = run_program([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


def write_text(path: Path, documents: int = 60, seed: int = 0) -> Path:
    """A corpus of random sentences over few words, a blank line between documents."""
    rng = random.Random(seed)
    words = [
        "the",
        "cat",
        "dog",
        "sees",
        "a",
        "bird",
        "and",
        "runs",
        "home",
        "never",
        "again",
        "quick",
        "slow",
        "red",
    ]
    texts = []
    for _ in range(documents):
        lines = [" ".join(rng.choices(words, k=rng.randint(5, 12))).capitalize() + "." for _ in range(6)]
        texts.append("\n".join(lines))
    path.write_text("\n\n".join(texts) + "\n")
    return path
