"""``attn bench quality``: what each attention mechanism learns in equal time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from attncli import console


def quality(recipe: Any, device: Any, dry_run: bool) -> dict[str, Any]:
    """Train every mechanism on every probe, and show how far each came."""
    from attncli.attention import MECHANISMS
    from attncli.bench import quality as bench
    from attncli.tasks.watch import Watch
    from attncli.training import describe_device

    names = (
        list(MECHANISMS) if recipe.data.mechanisms == ["all"] else list(dict.fromkeys(recipe.data.mechanisms))
    )
    with Watch() as watch:
        tasks = bench.tasks(recipe, watch)
    count = len(names) * len(tasks)
    if dry_run:
        return {
            "device": describe_device(device),
            "mechanisms": names,
            "probes": list(tasks),
            "seconds of training each": recipe.train.seconds,
            "time": f"{console.seconds(count * recipe.train.seconds)} and what measuring takes",
        }
    console.say(f"device: {describe_device(device)}")
    several = "s" if len(tasks) > 1 else ""
    console.say(
        f"{len(names)} mechanisms on {len(tasks)} probe{several}, {recipe.train.seconds:g} seconds each: "
        f"{console.seconds(count * recipe.train.seconds)} and what measuring takes"
    )
    rows = []
    each = max(1, round(recipe.train.seconds))
    with console.Progress("seconds", total=each * count) as bar:
        for mechanism in names:
            for name, task in tasks.items():
                done = [0]

                def on_time(
                    share: float, done: list[int] = done, label: str = f"{mechanism}, {name}"
                ) -> None:
                    step = int(each * share) - done[0]
                    if step:
                        done[0] += step
                        bar.advance(step, run=label)

                row = bench.measure(recipe, mechanism, name, task, device, on_time)
                rows.append(row)
                console.say(f"{mechanism:14} {name:8} {row.metric} {row.value:.4f}  {row.steps:,} steps")
    if not console.json_mode():
        _show(rows, list(tasks), tasks)
    return {"bench": "quality", "device": describe_device(device), "rows": [asdict(row) for row in rows]}


def _show(rows: list[Any], probes: list[str], tasks: dict[str, Any]) -> None:
    columns = ["mechanism", "parameters", "tokens/s", *(f"{p} {tasks[p].metric}" for p in probes)]
    shown = []
    for mechanism in dict.fromkeys(row.mechanism for row in rows):
        mine = {row.probe: row for row in rows if row.mechanism == mechanism}
        first = next(iter(mine.values()))
        speed = sum(row.tokens_per_second for row in mine.values()) / len(mine)
        shown.append(
            (mechanism, f"{first.parameters:,}", f"{speed:,.0f}", *(f"{mine[p].value:.3f}" for p in probes))
        )
    shown.append(("chance", "", "", *(f"{tasks[p].chance:.3f}" for p in probes)))
    ceilings = [tasks[p].ceiling for p in probes]
    shown.append(("ceiling", "", "", *("" if c is None else f"{c:.3f}" for c in ceilings)))
    console.table(columns, shown, right=columns[1:])
