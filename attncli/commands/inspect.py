"""``attn inspect``: where a model looks, what each head does and is worth; two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.seeing import Looking, Record, Sight
from attncli.commands.trained import INSPECT, module_of, open_run, read_inputs, want_inputs
from attncli.errors import RecipeError

_LABELLED = ("finetune", "classify")


def main(
    first: str,
    inputs: list[str],
    *,
    out: Path | None = None,
    split: str | None = None,
    data: str | None = None,
    context: str | None = None,
    quick: bool = False,
) -> None:
    """Draw the attention maps of a run for each input text.

    A second run before the inputs stands beside the first. What each head is worth is measured on each input,
    or on a part ``split`` of the run's data, or on other ``data``; ``quick`` leaves it out. ``context``: a
    text, or a file of it, in which questions are answered.
    """
    given = [name for name, value in (("--split", split), ("--data", data), ("--quick", quick)) if value]
    if len(given) > 1:
        raise RecipeError(f"{' and '.join(given)}: give one", then="attn inspect --help")
    given += ["--context"] * (context is not None)
    looking = Looking(not quick, split, data)
    runs, inputs = _runs(first, inputs)
    opened = [open_run("inspect", run) for run in runs]
    want_inputs(inputs, f"attn inspect {' '.join(runs)} 'A sentence.'")
    modules = [module_of(INSPECT, run.info["command"], loaded.recipe) for run, loaded in opened]
    pictured = [
        run for (run, _), module in zip(opened, modules, strict=True) if not hasattr(module, "see_with")
    ]
    if pictured and len(runs) > 1:
        what = f"{pictured[0].path} sees pictures; two runs are shown side by side where they read text"
        raise RecipeError(what, then=f"attn inspect {pictured[0].path} {inputs[0]}")
    if pictured and given:
        what = f"{given[0]} is of runs that read text; {pictured[0].path} sees pictures"
        raise RecipeError(what, then=f"attn inspect {pictured[0].path} {inputs[0]}")
    if pictured:
        modules[0].inspect(*opened[0], inputs, out)
        return
    records = _records(inputs, [run.info["command"] for run, _ in opened])
    if context is not None:
        records = _with_context(records, opened, context)
    pairs = zip(opened, modules, strict=True)
    sees = [module.see_with(run, loaded, looking) for (run, loaded), module in pairs]
    found = []
    for number, record in enumerate(records, 1):
        sights = [see(record) for see in sees]
        base = out or opened[0][0].path / (sights[0].picture if len(sights) == 1 else _beside(opened))
        base = base.with_suffix(".png") if base.suffix == ".html" else base  # the page stands beside it
        if len(records) > 1:
            base = base.with_name(f"{base.stem}-{number}{base.suffix}")
        base.parent.mkdir(parents=True, exist_ok=True)
        found.append(_alone(sights[0], base) if len(sights) == 1 else _both(sights, base, record))
    paths = [str(run.path) for run, _ in opened]
    console.document({**({"run": paths[0]} if len(paths) == 1 else {"runs": paths}), "inputs": found})


def _runs(first: str, inputs: list[str]) -> tuple[list[str], list[str]]:
    """Arguments that are run folders, and the inputs behind them."""
    count = 0
    while count < len(inputs) and len(inputs[count]) < 4096 and (Path(inputs[count]) / "run.json").is_file():
        count += 1
    if count > 1:
        raise RecipeError(
            f"{count + 1} runs are given; two can be inspected side by side",
            then=f"attn inspect {first} {inputs[0]} 'A sentence.'",
        )
    return [first, *inputs[:count]], inputs[count:]


def _records(inputs: list[str], commands: list[str]) -> list[Record]:
    if all(command in _LABELLED for command in commands):
        from attncli.commands.apply_labels import read_records

        return list(read_records(inputs, "text"))
    return [(place, {"text": text}) for place, text in read_inputs(inputs)]


def _with_context(records: list[Record], opened: list[Any], context: str) -> list[Record]:
    from attncli.commands.apply_labels import read_context
    from attncli.recipe.finetune import AnswerRecipe

    if not any(isinstance(loaded.recipe, AnswerRecipe) for _, loaded in opened):
        what = "--context is of question answering; this run answers none"
        raise RecipeError(what, then="attn inspect --help")
    text = read_context(context)
    return [(place, {"context": text, **record}) for place, record in records]


def _beside(opened: list[Any]) -> str:
    return f"beside-{opened[1][0].path.name}.html"


def _alone(sight: Sight, picture: Path) -> dict[str, Any]:
    """Write the pictures and the page of one run, and show the rest."""
    from attncli.reports.inspection import inspection_html

    page = picture.with_suffix(".html")
    files = [page]
    if sight.draw is not None:
        sight.draw(picture)
        files.insert(0, picture)
    for name, draw in sight.extra.items():
        more = picture.with_name(f"{picture.stem}-{name}{picture.suffix}")
        draw(more)
        files.insert(-1, more)
    page.write_text(inspection_html(sight.title, [sight.seen]), encoding="utf-8")
    if not console.json_mode():
        sight.show()
        _show_heads(sight)
        for file in files:
            console.result(str(file))
    pictures = {"picture": str(picture)} if sight.draw is not None else {}
    return {**sight.told, **pictures, "page": str(page)}


def _show_heads(sight: Sight) -> None:
    from attncli.reports.inspection import head_columns, head_row

    seen = sight.seen
    if not seen.heads:
        return
    columns = head_columns(seen.heads)
    rows = [head_row(head, seen.layers, columns) for head in seen.heads]
    console.table(columns, rows, title=sight.title, right=columns[1:-1])
    for line in seen.worth:
        console.result(line)


def _both(sights: list[Sight], base: Path, record: Record) -> dict[str, Any]:
    """Write the page of two runs, and show what differs."""
    from attncli.reports.differences import differences
    from attncli.reports.inspection import inspection_html

    page = base.with_suffix(".html")
    first, second = (sight.seen for sight in sights)
    tables = differences(first, second)
    title = record[1].get("text") or sights[0].title
    page.write_text(inspection_html(title, [first, second], tables), encoding="utf-8")
    if not console.json_mode():
        for table in tables:
            right = [
                name
                for at, name in enumerate(table.columns)
                if all(isinstance(row[at], int | float | None) for row in table.rows)
            ]
            console.table(table.columns, table.rows, title=table.title, right=right)
            if table.note:
                console.result(table.note)
            console.result()
        console.result(str(page))
    return {
        "text": title,
        "runs": [sight.told for sight in sights],
        "differences": [
            {"title": table.title, "columns": list(table.columns), "rows": table.rows, "note": table.note}
            for table in tables
        ],
        "page": str(page),
    }
