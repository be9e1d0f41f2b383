"""``attn bench``: time this machine, beside other libraries where they are installed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands import bench_quality, bench_translation
from attncli.errors import RecipeError, RequirementError
from attncli.recipe.loading import load_recipe


def main(
    what: str,
    settings: list[str],
    *,
    out: Path | None = None,
    picture: Path | None = None,
    earlier: Path | None = None,
) -> None:
    """Run the bench recipe ``what`` and show its rows.

    ``out`` (.json or .csv) takes them, ``picture`` (.png, .svg or .pdf) draws them, and an ``earlier`` result
    (.json) is compared with them; the last two are for attention.
    """
    if (picture or earlier) and what.removeprefix("bench/") != "attention":
        option = "--picture" if picture else "--compare"
        raise RecipeError(f"{option} belongs to attn bench attention", then="attn bench attention --help")
    if picture and picture.suffix not in (".png", ".svg", ".pdf"):
        raise RecipeError(f"--picture {picture}: the ending says the format, .png, .svg or .pdf")
    if earlier and not earlier.exists():
        what = f"--compare {earlier}: there is no such file"
        raise RecipeError(what, then="attn bench attention --out FILE.json")
    if out and out.suffix not in (".json", ".csv"):
        raise RecipeError(
            f"--out {out}: the ending says the format, .json or .csv", then=f"attn bench {what}"
        )
    loaded = load_recipe("bench", what, settings)
    run = {
        "BenchTrainRecipe": _train,
        "BenchAttentionRecipe": _attention,
        "BenchDecodeRecipe": bench_translation.decode,
        "BenchTranslateRecipe": bench_translation.translate,
        "BenchQualityRecipe": bench_quality.quality,
    }[type(loaded.recipe).__name__]
    report = run(loaded.recipe, _device(loaded.recipe.train))
    console.document(report)
    if out:
        _write(report, out)
        console.say(f"written: {out}")
    if picture:
        from attncli.reports.growth import draw_growth

        draw_growth(report["rows"], picture)
        console.say(f"written: {picture}")
    if earlier:
        _compare(report, earlier)


def _device(settings: Any) -> Any:
    from attncli.ops.allocator import keep_freed_memory
    from attncli.training import resolve_device, set_threads

    keep_freed_memory()
    device = resolve_device(settings.device)
    set_threads(settings.threads)
    return device


def _train(recipe: Any, device: Any) -> dict[str, Any]:
    import torch

    from attncli.bench import train
    from attncli.bench.rates import matmul_rate
    from attncli.bench.timing import interleave
    from attncli.training import choose_arithmetic, describe_device

    arithmetic = choose_arithmetic(recipe.train.precision, device)
    arithmetic.apply()
    console.say(f"device: {describe_device(device)}; precision {arithmetic.precision}: {arithmetic.reason}")
    types = {"float32": torch.float32, "bf16": torch.bfloat16}
    own = train.own_steps(recipe, device, arithmetic.precision)
    peers = train.peer_steps(recipe, device, arithmetic.precision)
    cases = {**own, **peers}
    if recipe.evaluate.peers and not peers:
        console.say("no peer: pip install transformers (and model.family=bert) to compare")
    rounds, warmup = recipe.evaluate.rounds, recipe.evaluate.warmup
    with console.Progress("rounds", total=rounds + warmup) as bar:
        named = {f"{name}|{kind}": step for (name, kind), step in cases.items()}
        timed = interleave(
            named, rounds=rounds, warmup=warmup, device=device, on_round=lambda done: bar.advance(1)
        )
    for peer in peers.values():
        peer.close()
    rates = {kind: matmul_rate(types[kind], device) for kind in {kind for _, kind in cases}}
    rows = train.table(recipe, {key: timed["|".join(key)] for key in cases}, rates)
    shares = train.parts(next(iter(own.values())), device)
    if not console.json_mode():
        columns = ["case", "precision", "ms", "spread", "tokens/s", "attn is faster by", "share of rate"]
        shown = [
            (
                row["case"],
                row["precision"],
                f"{row['milliseconds']:.0f}",
                f"{100 * row['spread']:.0f} %",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['attn_times_as_fast']:.2f}",
                f"{100 * row['share_of_rate']:.0f} %",
            )
            for row in rows
        ]
        model = recipe.model
        size = f"{model.family} {model.size}, {model.length} tokens, batch {recipe.train.batch}"
        console.table(columns, shown, title=f"one training step, {size}", right=columns[2:])
        told = ", ".join(f"{kind} {rate / 1e9:,.0f}" for kind, rate in rates.items())
        console.result(f"matrix products, GFLOP/s: {told}")
        console.table(
            ["part of a step", "share"],
            [(name, f"{100 * share:.1f} %") for name, share in shares.items()],
            right=["share"],
        )
    return {
        "bench": "train",
        "device": describe_device(device),
        "rows": rows,
        "matmul_flops_per_second": rates,
        "parts": shares,
    }


def _attention(recipe: Any, device: Any) -> dict[str, Any]:
    from attncli.bench import attention
    from attncli.training import describe_device

    bench = attention.Bench(recipe, device)
    console.say(f"device: {describe_device(device)}")
    rows = []
    with console.Progress("shapes", total=len(bench.shapes())) as bar:
        for shape, measured in bench.measure():
            rows += measured
            bar.advance(1, length=shape.length)
    for text in bench.left_out:
        console.say(f"left out: {text}")
    fits = attention.growth(rows)
    choices = bench.backends()
    if not console.json_mode():
        _show_attention(rows, fits, choices)
        if bench.layers:
            columns = ["layout", "numbers a cache holds for each token"]
            console.table(
                columns, [(row["layout"], f"{row['held']:,}") for row in bench.held()], right=columns[1:]
            )
    return {
        "bench": "attention",
        "device": describe_device(device),
        "rows": attention.as_json(rows),
        "growth": fits,
        "choices": choices,
        "left_out": bench.left_out,
        "held": bench.held(),
    }


def _show_attention(rows: list[Any], fits: list[dict[str, Any]], choices: list[dict[str, Any]]) -> None:
    columns = [
        "length", "precision", "direction", "case", "ms", "spread", "peak MiB", "times the best direct",
        "GFLOP", "share of rate", "error",
    ]  # fmt: skip
    shown = [
        (
            row.length,
            row.precision,
            row.direction,
            row.case,
            f"{row.milliseconds:.2f}",
            f"{100 * row.spread:.0f} %",
            f"{row.peak_mib:,.0f}",
            f"{row.ratio:.2f}",
            "" if row.gigaflop is None else f"{row.gigaflop:.2f}",
            "" if row.share is None else f"{100 * row.share:.0f} %",
            "" if row.error is None else f"{row.error:.1e}",
        )
        for row in rows
    ]
    console.table(columns, shown, right=["length", *columns[4:]])
    columns = ["case", "precision", "direction", "time grows as", "memory grows as"]
    shown = [
        (
            f["case"],
            f["precision"],
            f["direction"],
            f"T^{f['time_exponent']:.2f}",
            f"T^{f['memory_exponent']:.2f}",
        )
        for f in fits
    ]
    if shown:
        console.table(columns, shown)
    for name in dict.fromkeys(choice["mechanism"] for choice in choices):
        mine = [choice for choice in choices if choice["mechanism"] == name]
        text = ", ".join(f"{choice['length']}: {choice['backend']}" for choice in mine)
        console.result(f"backend of {name} by length: {text}")


def _compare(report: dict[str, Any], earlier: Path) -> None:
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


def _write(report: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".json":
        out.write_text(json.dumps(console.plain(report), indent=2) + "\n", encoding="utf-8")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(report["rows"][0]))
    writer.writeheader()
    writer.writerows(report["rows"])
    out.write_text(text.getvalue(), encoding="utf-8")
