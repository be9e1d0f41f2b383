"""``attn bench attention``: mechanisms beside each other, beside direct calls and beside other libraries."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attncli import console
from attncli.errors import RecipeError, RequirementError


def attention(recipe: Any, device: Any, dry_run: bool) -> dict[str, Any]:
    """Measure all cases at all shapes, and show what they cost."""
    from attncli.bench import attention as bench_attention
    from attncli.training import describe_device

    bench = bench_attention.Bench(recipe, device)
    console.say(f"device: {describe_device(device)}")
    rows = []
    shapes = bench.shapes()
    if dry_run:
        return _plan(bench, shapes, recipe.evaluate.seconds)
    with console.Progress("measuring, %", total=100 * len(shapes)) as bar:

        def on_share(done: float, shape: Any) -> None:
            bar.advance(int(100 * done) - bar.done, length=shape.length, direction=shape.direction)

        for _, measured in bench.measure(on_share):
            rows += measured
    for text in bench.left_out:
        console.say(f"left out: {text}")
    fits = bench_attention.growth(rows)
    choices, held = bench.backends(), bench.held()
    if not console.json_mode():
        for precision, direction in dict.fromkeys((row.precision, row.direction) for row in rows):
            mine = [row for row in rows if (row.precision, row.direction) == (precision, direction)]
            grown = {f["case"]: f for f in fits if (f["precision"], f["direction"]) == (precision, direction)}
            _show(mine, grown, f"{precision}, {_DIRECTIONS[direction]}")
            console.result()
        for line in _LEGEND:
            console.result(line)
        _show_backends(choices)
        if held:
            columns = ["layout", "numbers a cache holds for each token"]
            console.table(columns, [(row["layout"], f"{row['held']:,}") for row in held], right=columns[1:])
    return {
        "bench": "attention",
        "device": describe_device(device),
        "rows": bench_attention.as_json(rows),
        "growth": fits,
        "choices": choices,
        "left_out": bench.left_out,
        "held": held,
    }


def _plan(bench: Any, shapes: list[Any], seconds: float) -> dict[str, Any]:
    """What would be measured."""
    cases = dict.fromkeys(case.name for shape in shapes for case in bench.cases.at(shape))
    lengths = dict.fromkeys(f"{shape.batch} x {shape.length:,}" for shape in shapes)
    return {
        "cases": list(cases),
        "sequences x tokens": list(lengths),
        "directions": list(dict.fromkeys(_DIRECTIONS[shape.direction] for shape in shapes)),
        "precisions": list(dict.fromkeys(shape.precision for shape in shapes)),
        "time": f"{len(shapes)} shapes, {seconds:g} seconds each: {console.seconds(len(shapes) * seconds)}",
        "scores of the longest, in full": console.size(max(shape.scores for shape in shapes)),
        "left out": bench.left_out,
    }


_LEGEND = (
    "±: distance of the quartiles. times direct: over the faster of the plain formula and the fused kernel",
    "called directly; of whole layers over torch.nn.MultiheadAttention; of layouts over the first.",
)
_DIRECTIONS = {"forward": "forward", "backward": "forward and backward"}


def _show(rows: list[Any], grown: dict[str, Any], title: str) -> None:
    """Two tables of one precision and direction: times by length, and what the longest costs."""
    lengths = sorted({row.length for row in rows})
    found = {(row.case, row.length): row for row in rows}
    cases = list(dict.fromkeys(row.case for row in rows))
    batches = {row.length: row.batch for row in rows}
    columns = ["milliseconds a call", *(f"{batches[n]} x {n:,}" for n in lengths)]
    times = [(case, *(_time(found.get((case, n))) for n in lengths)) for case in cases]
    console.table(columns, times, title=f"{title}: sequences x tokens", right=columns[1:])
    console.result()
    columns = [
        "at the longest", "tokens", "times direct", "peak MiB", "GFLOP", "share of rate", "error",
        "time grows", "memory grows",
    ]  # fmt: skip
    costs = []
    for case in cases:
        row = found[case, max(n for n in lengths if (case, n) in found)]
        fit = grown.get(case)
        costs.append(
            (
                case,
                row.length,
                f"{row.ratio:.2f}",
                f"{row.peak_mib:,.0f}",
                "" if row.gigaflop is None else f"{row.gigaflop:.2f}",
                "" if row.share is None else f"{100 * row.share:.0f} %",
                "" if row.error is None else f"{row.error:.1e}",
                "" if fit is None else f"T^{fit['time_exponent']:.2f}",
                "" if fit is None else f"T^{fit['memory_exponent']:.2f}",
            )
        )
    console.table(columns, costs, right=columns[1:])


def _time(row: Any) -> str:
    return "" if row is None else f"{row.milliseconds:.3g} ± {100 * row.spread:.0f} %"


def _show_backends(choices: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(choice["mechanism"] for choice in choices):
        mine = [choice for choice in choices if choice["mechanism"] == name]
        text = ", ".join(f"{choice['length']}: {choice['backend']}" for choice in mine)
        console.result(f"backend of {name} by length: {text}")


def compare_with(report: dict[str, Any], earlier: Path) -> None:
    """Show what changed since ``earlier``; a case that has become slower is a RequirementError."""
    from attncli.bench.compare import compare

    changes = compare(_earlier(report, earlier), report["rows"])
    if not changes:
        raise RecipeError(f"--compare {earlier}: it has no row of the same case and shape")
    columns = ["case", "rows", "time now / then", "noise", "verdict"]
    shown = [(c.case, c.rows, f"{c.ratio:.2f}", f"{100 * c.noise:.0f} %", c.verdict) for c in changes]
    if not console.json_mode():
        console.table(columns, shown, right=columns[1:4], title=f"since {earlier}")
    console.document({"changes": [asdict(c) for c in changes]})
    slower = [c.case for c in changes if c.verdict == "slower"]
    if slower:
        raise RequirementError(f"slower than {earlier}: {', '.join(slower)}")


def _earlier(report: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = found["rows"]
        if found["bench"] != report["bench"] or not all("ratio" in row for row in rows):
            raise KeyError("bench")
    except OSError as error:
        raise RecipeError(f"--compare {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        what = f"--compare {path}: this is no JSON result of attn bench {report['bench']}"
        raise RecipeError(what, then=f"attn bench {report['bench']} --out {path.stem}.json") from None
    return rows
