"""The command line: a table from command to module, and the entry that runs it.

A command's module is imported when it is called, so that help, version and a rejected recipe are quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import attncli
from attncli import console
from attncli.commands import failures

app = typer.Typer(
    name="attn", rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
recipes_app = typer.Typer(rich_markup_mode=None, help="List, show, copy and check recipes.")
runs_app = typer.Typer(rich_markup_mode=None, help="List and compare runs.")


def _function(module: str, name: str = "main") -> Callable[..., Any]:
    return getattr(importlib.import_module(f"attncli.commands.{module}"), name)


def _train_or_apply(command: str, *args: Any, **options: Any) -> None:
    _function("train_or_apply")(command, *args, **options)


def _complete_first(incomplete: str) -> list[str]:
    """Recipe names, and files and folders, that ``incomplete`` can become."""
    from attncli.recipe import catalogue

    entries = catalogue.shipped()
    names = [entry.full if "/" in incomplete else entry.name for entry in entries]
    parent, start = os.path.split(incomplete)
    found = sorted(Path(parent or ".").glob(f"{start}*")) if Path(parent or ".").is_dir() else []
    folders = [f"{path}/" for path in found if path.is_dir()]
    paths = folders + [str(path) for path in found if path.suffix == ".yaml"]
    return [text for text in names + paths if text.startswith(incomplete)]


def _complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    """``key=`` of every setting that ``incomplete`` can become, for this command where it has recipes."""
    from attncli.recipe.schemas import SCHEMAS, recipe_classes, settings

    commands = [context.info_name] if context.info_name in SCHEMAS else list(SCHEMAS)
    kinds = [kind for command in commands for kind in recipe_classes(command).values()]
    keys = dict.fromkeys(f"{key}=" for kind in kinds for key, _ in settings(kind) if key != "extends")
    return [key for key in keys if key.startswith(incomplete)]


def _version(value: bool) -> None:
    if value:
        print(f"attn {attncli.__version__}")
        raise typer.Exit


Json = Annotated[bool, typer.Option("--json", help="Standard output is one JSON document.")]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="EXPR", help="Fail (exit code 6) unless it holds, as in 'loss<=2.5'. Repeatable."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=_complete_first)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Settings, as train.steps=500.", autocompletion=_complete_setting
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help="The data; short for data.source, or data.path."),
]
_First = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE|RUN", help="A recipe's name or file, or a run folder.", autocompletion=_complete_first
    ),
]
_Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE|INPUT",
        help="Settings for a recipe; texts, files or - for a run.",
        autocompletion=_complete_setting,
    ),
]
_RunOut = Annotated[Path | None, typer.Option(metavar="DIR", help="The run folder; default runs/NAME-N.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Build all, train nothing, say what it takes.")]
Out = Annotated[Path | None, typer.Option(metavar="PATH", help="Where to write.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, evaluate and apply attention models.

    Begin with: attn pretrain bert
    """
    _help_without_command(context)


@recipes_app.callback(invoke_without_command=True)
@runs_app.callback(invoke_without_command=True)
def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def pretrain(
    first: _First = None,
    args: _Arguments = None,
    data: Data = None,
    out: _RunOut = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run: fillings shown, or tokens sampled from.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", min=0, max=1, help="Run: sample from this much probability.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", min=0, help="Run: below 1 likelier, above 1 bolder.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Run: tokens to add.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Run: seed of the sampling.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Run: always the likeliest token.")] = False,
) -> None:
    """Train a language model, or apply a finished one.

    With a recipe: train from raw text. With a run folder: fill [MASK]s, or continue a text.

    attn pretrain bert --data FOLDER train.steps=2000

    attn pretrain runs/bert-1 'The [MASK] of a function.'
    """
    _train_or_apply(
        "pretrain",
        first,
        args or [],
        data=data,
        out=out,
        dry_run=dry_run,
        require=require or [],
        top_k=top_k,
        top_p=top_p,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        greedy=greedy,
    )


@app.command()
def translate(
    first: _First = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE|INPUT",
            help="Settings for a recipe; texts, files or - (the default) for a run.",
            autocompletion=_complete_setting,
        ),
    ] = None,
    data: Data = None,
    out: _RunOut = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    nbest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run: the N best, a line each behind its rank.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Run: with the score, behind a tab.")] = False,
    align: Annotated[
        bool, typer.Option("--align", help="Run: with word alignment (0-0 1-2), behind a tab.")
    ] = False,
    beam: Annotated[int | None, typer.Option(metavar="N", min=1, help="Run: hypotheses kept.")] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", min=0, help="Run: sample; below 1 likelier, above 1 bolder.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run: sample from the N likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", min=0, max=1, help="Run: sample from this much probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Run: seed of the sampling.")] = None,
) -> None:
    """Train a translation model, or translate with a finished one.

    With a recipe: train from parallel text. With a run folder: translate texts or files, a line for a line.

    attn translate transformer --data FOLDER data.source=en data.target=de

    attn translate runs/transformer-1 < input.txt > output.txt
    """
    _train_or_apply(
        "translate",
        first,
        args or [],
        data=data,
        out=out,
        dry_run=dry_run,
        require=require or [],
        nbest=nbest,
        scores=scores,
        align=align,
        beam=beam,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )


@app.command()
def finetune(
    first: _First = None,
    args: _Arguments = None,
    base: Annotated[
        str | None,
        typer.Option("--from", metavar="M", help="Pre-trained encoder: a run, or a Hugging Face folder."),
    ] = None,
    data: Data = None,
    out: _RunOut = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    context: Annotated[
        str | None,
        typer.Option(metavar="TEXT|FILE", help="Run of qa: where the answers to the questions are."),
    ] = None,
    nbest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run: so many labels or answers, the best first.")
    ] = None,
) -> None:
    """Fine-tune a pre-trained model.

    With a recipe: learn to classify texts or images, to tag, to answer. With a run folder: label texts or
    files.

    attn finetune classify --from runs/bert-1 --data FOLDER

    attn finetune runs/qa-1 'Who wrote it?' --context text.txt
    """
    _train_or_apply(
        "finetune",
        first,
        args or [],
        base=base,
        data=data,
        out=out,
        dry_run=dry_run,
        require=require or [],
        context=context,
        nbest=nbest,
    )


@app.command()
def classify(
    first: _First = None,
    args: _Arguments = None,
    data: Data = None,
    out: _RunOut = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    nbest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run: so many labels, the best first.")
    ] = None,
) -> None:
    """Train a classifier, or label with a finished run.

    With a recipe: learn from labelled data. With a run folder, of attn finetune too: label texts, images,
    video clips or folders of them.

    attn classify han --data FOLDER

    attn classify runs/han-1 'A wonderful film.'

    attn classify vit --data FOLDER

    attn classify runs/vit-1 IMAGE
    """
    _train_or_apply(
        "classify",
        first,
        args or [],
        data=data,
        out=out,
        dry_run=dry_run,
        require=require or [],
        nbest=nbest,
    )


@app.command()
def detect(
    first: _First = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE|PICTURE",
            help="Settings for a recipe; pictures, folders or - for a run.",
            autocompletion=_complete_setting,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder; of a run, where pictures go.")
    ] = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, max=1, help="Run: detections with this score and more."),
    ] = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Run: draw no boxes.")] = False,
) -> None:
    """Train a detector, or detect with a finished run.

    With a recipe: learn from pictures with boxes. With a run folder: pictures with boxes drawn, and COCO's
    results.

    attn detect faster_rcnn --data FOLDER

    attn detect runs/faster_rcnn-1 street.jpg
    """
    _train_or_apply(
        "detect",
        first,
        args or [],
        data=data,
        out=out,
        dry_run=dry_run,
        require=require or [],
        threshold=threshold,
        no_pictures=no_pictures,
    )


@app.command()
def segment(
    first: _First = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE|IMAGE",
            help="Settings for a recipe; pictures or folders of them for a run.",
            autocompletion=_complete_setting,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run folder; of a run, where masks go: default RUN/masks."),
    ] = None,
    dry_run: _DryRun = False,
    require: Require = None,
    json: Json = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Run: average over each picture and its mirror image.")
    ] = False,
) -> None:
    """Train a segmenter, or segment with a finished run.

    With a recipe: learn from pictures with masks. With a run folder: write a mask and an overlay of each
    picture.

    attn segment unet --data FOLDER

    attn segment runs/unet-1 street.jpg photos/
    """
    _train_or_apply(
        "segment", first, args or [], data=data, out=out, dry_run=dry_run, require=require or [], flip=flip
    )


@app.command()
def evaluate(
    run: Run,
    split: Annotated[
        str | None, typer.Option("--split", metavar="SPLIT", help="Another part of the run's data.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Other data.")] = None,
    require: Require = None,
    json: Json = False,
) -> None:
    """Measure a finished run."""
    _function("evaluate")(run, split=split, data=data, require=require or [])


@app.command()
def resume(run: Run, settings: Settings = None, require: Require = None, json: Json = False) -> None:
    """Go on with an interrupted run.

    A finished run is extended by more steps: train.steps=N.
    """
    _function("resume")(run, settings or [], require=require or [])


@app.command()
def inspect(
    run: Run,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Texts, files, folders of images, or -. A run before them stands beside RUN.",
        ),
    ],
    out: Out = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="SPLIT", help="Measure what heads are worth on this part of the run's data."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Measure it on other data; default is the input."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(metavar="TEXT|FILE", help="Run of qa: where the answers to the questions are."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what heads are worth: a pass of the model a head.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw the attention maps of a run for an input.

    A picture, and a page for the browser that shows every head: where it looks, its entropy and span, and
    how much the model changes without it. With a second run both stand side by side.

    attn inspect runs/bert-1 'A function is an object.'

    attn inspect runs/bert-1 runs/bert-2 'A function is an object.'
    """
    _function("inspect")(run, inputs, out=out, split=split, data=data, context=context, quick=quick)


@app.command()
def export(
    run: Run,
    format: Annotated[
        str, typer.Option(metavar="hf|ctranslate2|onnx", help="Which library loads it.")
    ] = "hf",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder; default RUN/hf, RUN/ctranslate2.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run as a folder for another library.

    hf: transformers loads it, whatever the run. ctranslate2: for translation runs.
    """
    _function("export")(run, format=format, out=out)


@app.command()
def bench(
    what: Annotated[
        str, typer.Argument(metavar="attention|quality|train|translate|decode", help="What is measured.")
    ],
    settings: Settings = None,
    out: Out = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="attention, quality: draw it (.png, .svg, .pdf).")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="attention: an earlier --out FILE.json; exit code 6 where slower."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured.")] = False,
    json: Json = False,
) -> None:
    """Time training, search or attention here.

    Other toolkits are timed beside it where they are installed.
    """
    _function("bench")(what, settings or [], out=out, picture=picture, earlier=compare, dry_run=dry_run)


@app.command()
def explain(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MECHANISM...]", help="Or positions; none lists all."),
    ] = None,
    json: Json = False,
) -> None:
    """Say what an attention mechanism computes.

    Its formula, its cost, what it supports, its paper, and when to use it.
    """
    _function("explain")(names or [])


@app.command()
def doctor(json: Json = False) -> None:
    """Say what this machine has and what is missing.

    Device, precision, memory, versions, and measured rates of matrix products.
    """
    _function("doctor", "doctor")()


@recipes_app.command("list")
def _recipes_list(
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", help="Of one command only.")] = None,
    json: Json = False,
) -> None:
    """List the recipes that come with attn."""
    _function("recipes", "list_recipes")(command)


_RecipeName = Annotated[str, typer.Argument(metavar="NAME", help="A recipe.", autocompletion=_complete_first)]


@recipes_app.command("show")
def _recipes_show(
    name: _RecipeName,
    settings: Settings = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Values only, no explanations.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON schema of its command, for editors.")
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting of a recipe.

    What it means, what it takes, its value, and where that is set.
    """
    _function("recipes", "show")(name, settings or [], schema=schema, resolved=resolved)


@recipes_app.command("copy")
def _recipes_copy(
    name: _RecipeName,
    to: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A .yaml file or a folder; default here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Copy a recipe to a file of your own."""
    _function("recipes", "copy")(name, to, force=force)


@recipes_app.command("check")
def _recipes_check(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders or names.")],
    command: Annotated[
        str | None, typer.Option("--command", metavar="COMMAND", help="The command that they are for.")
    ] = None,
    json: Json = False,
) -> None:
    """Check recipes; all problems at once."""
    _function("recipes", "check")(paths, command)


@runs_app.command("list")
def _runs_list(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List runs with their state and result."""
    _function("runs", "list_runs")(folder)


@runs_app.command("compare")
def _runs_compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")], json: Json = False
) -> None:
    """Compare runs: metrics, and settings that differ."""
    _function("runs", "compare")(runs)


app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")


def main(arguments: list[str] | None = None) -> None:
    """The program: run a command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code. What goes wrong is said, and becomes one."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the chatter of PyTorch's profiler
    # GNU's OpenMP spins a millisecond at every barrier: beside another program, threads wait for ones that
    # do not run, and a step takes many times as long
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.start(json="--json" in options)
    try:
        code = _dispatch(arguments)
        console.finish()
        sys.stdout.flush()
        return code
    except SystemExit:
        raise  # shell completion ends so
    except BaseException as error:
        return failures.exit_code(error)


def _dispatch(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    if "_ATTN_COMPLETE" in os.environ:
        command(arguments, prog_name="attn")
    try:
        with command.make_context("attn", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0
