"""``attn bench``: time this machine, beside other libraries where they are installed."""

from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands import bench_attention, bench_quality, bench_translation
from attncli.commands.shared import say_dry_run
from attncli.errors import RecipeError
from attncli.recipe.loading import load_recipe


def main(
    what: str,
    settings: list[str],
    *,
    out: Path | None = None,
    picture: Path | None = None,
    earlier: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Run the bench recipe ``what`` and show its rows; with ``dry_run`` only what would be measured.

    ``out`` (.json or .csv) takes them, ``picture`` (.png, .svg or .pdf) draws them (attention and quality),
    and an ``earlier`` result (.json) of attention is compared with them.
    """
    name = what.removeprefix("bench/")
    if earlier and name != "attention":
        raise RecipeError("--compare belongs to attn bench attention", then="attn bench --help")
    if picture and name not in _PICTURES:
        raise RecipeError(
            f"--picture belongs to attn bench {' and '.join(_PICTURES)}", then="attn bench --help"
        )
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
        "BenchAttentionRecipe": bench_attention.attention,
        "BenchDecodeRecipe": bench_translation.decode,
        "BenchTranslateRecipe": bench_translation.translate,
        "BenchQualityRecipe": bench_quality.quality,
    }[type(loaded.recipe).__name__]
    report = run(loaded.recipe, _device(loaded.recipe.train), dry_run)
    if dry_run:
        say_dry_run({"recipe": loaded.name, **report})
        return
    console.document(report)
    if out:
        _write(report, out)
        console.say(f"written: {out}")
    if picture:
        module, function = _PICTURES[report["bench"]]
        getattr(importlib.import_module(module), function)(report["rows"], picture)
        console.say(f"written: {picture}")
    if earlier:
        bench_attention.compare_with(report, earlier)


_PICTURES = {
    "attention": ("attncli.reports.growth", "draw_growth"),
    "quality": ("attncli.reports.tradeoff", "draw_tradeoff"),
}
"""What draws the rows of a bench; imported when used."""


def _device(settings: Any) -> Any:
    from attncli.ops.allocator import keep_freed_memory
    from attncli.training import resolve_device, set_threads

    keep_freed_memory()
    device = resolve_device(settings.device)
    set_threads(settings.threads)
    return device


def _train(recipe: Any, device: Any, dry_run: bool) -> dict[str, Any]:
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
    if dry_run:
        return {
            "device": describe_device(device),
            "cases": [" ".join(key) for key in own],
            "tokens a step": recipe.train.batch * recipe.model.length,
            "FLOPs a step": train.flops_a_step(recipe),
            "rounds": recipe.evaluate.rounds + recipe.evaluate.warmup,
        }
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
