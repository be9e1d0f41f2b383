"""How often `attn bench attention --compare` is right on this machine: noise alone, and a planted slow-down.

    python tests/comparisons/compare_tries.py [--tries 20] [--slower 1.3] [--keep runs.json] [KEY=VALUE...]

Each try measures a recipe twice as it is and once with one mechanism slowed down, and compares the second and
the third result with the first. With --keep results are added to a file, so that tries can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from attncli.bench import attention
from attncli.bench.compare import compare
from attncli.recipe.loading import load_recipe

os.environ.setdefault("KINETO_LOG_LEVEL", "99")
SETTINGS = [
    "data.mechanisms=[scaled_dot,window,linear]",
    "data.lengths=[128,256,512]",
    "data.tokens=512",
    "model.attention.heads=4",
    "evaluate.peers=false",
    "evaluate.seconds=1.5",
]


class Slowed:
    """A call that takes so many times as long as it does."""

    def __init__(self, call: Any, times: float) -> None:
        self.call, self.times = call, times

    def __call__(self, *args: Any) -> Any:
        began = time.perf_counter()
        found = self.call(*args)
        until = began + self.times * (time.perf_counter() - began)
        while time.perf_counter() < until:
            pass
        return found


def measured(recipe: Any, slower: dict[str, float]) -> list[dict[str, Any]]:
    """The rows of one run, with cases slowed down; a backward pass is slowed with its forward pass."""
    bench = attention.Bench(recipe, torch.device("cpu"))
    step = attention._step

    def slowed(case: Any, *rest: Any) -> None:
        Slowed(lambda: step(case, *rest), slower.get(case.name, 1.0))()

    attention._step = slowed
    try:
        return attention.as_json([row for _, rows in bench.measure() for row in rows])
    finally:
        attention._step = step


def main() -> None:
    """Count the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--slower", type=float, default=1.3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--case", default="attn window")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = load_recipe("bench", "attention", [*SETTINGS, *args.settings]).recipe
    tries = json.loads(args.keep.read_text()) if args.keep and args.keep.exists() else []
    for _ in range(args.tries):
        tries.append([measured(recipe, {}), measured(recipe, {}), measured(recipe, {args.case: args.slower})])
        if args.keep:
            args.keep.write_text(json.dumps(tries))
        report(tries, args.case)


def report(tries: list[Any], case: str) -> None:
    """What compare said so far."""
    noise = [[c for c in compare(first, second) if c.case.startswith("attn")] for first, second, _ in tries]
    alarms = sum(any(change.verdict == "slower" for change in changes) for changes in noise)
    planted = [{change.case: change for change in compare(first, third)} for first, _, third in tries]
    flagged = sum(changes[case].verdict == "slower" for changes in planted)
    others = sum(
        any(c.verdict == "slower" for c in changes.values() if c.case.startswith("attn") and c.case != case)
        for changes in planted
    )
    pairs = [pair for first, second, _ in tries for pair in zip(first, second, strict=True)]
    within = sum(
        abs(math.log(b["milliseconds"] / a["milliseconds"])) <= max(a["spread"], b["spread"])
        for a, b in pairs
    )
    ratios = ", ".join(f"{changes[case].ratio:.2f} ± {changes[case].noise:.2f}" for changes in planted[-3:])
    print(
        f"{len(tries)} tries: noise called slower {alarms}, planted slow-down flagged {flagged}, "
        f"others called slower beside it {others}; repeated medians within the spread shown "
        f"{within} of {len(pairs)}; last ratios {ratios}",
        flush=True,
    )


if __name__ == "__main__":
    main()
