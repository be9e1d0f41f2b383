"""``attn pretrain RUN INPUT...``: fill masks, or continue a prompt as it is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task, read_inputs, want_inputs
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.decoding import Sampling
    from attncli.training import RunFolder


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    greedy: bool = False,
) -> None:
    """Apply a run to texts, files of a text a line, or ``-`` for standard input."""
    causal = loaded.recipe.train.objective.kind == "clm"
    want_inputs(
        inputs, f"attn {command} {run.path} " + ("'Once upon a time'" if causal else "'The [MASK] is here.'")
    )
    if not causal:
        chosen = {
            "top-p": top_p,
            "temperature": temperature,
            "max-tokens": max_tokens,
            "seed": seed,
            "greedy": greedy,
        }
        wrong = [name for name, value in chosen.items() if value is not None and value is not False]
        if wrong:
            raise RecipeError(
                *(f"--{name} is for models that continue text; this one fills masks" for name in wrong)
            )
        task, _ = load_task(run, loaded, data=False)
        _fill(task, inputs, top_k or 5)
        return
    if greedy and (temperature, top_k, top_p) != (None, None, None):
        raise RecipeError(
            "--greedy takes the likeliest token: --temperature, --top-k and --top-p have no effect with it"
        )
    from attncli.decoding import Sampling

    try:
        sampling = Sampling(
            0.0 if greedy else 0.8 if temperature is None else temperature,
            top_k or 0,
            1.0 if top_p is None else top_p,
        )
    except ValueError as error:
        raise RecipeError(str(error)) from None
    task, _ = load_task(run, loaded, data=False)
    _continue(task, inputs, sampling, max_tokens or 200, seed)


def _fill(task: Any, inputs: list[str], count: int) -> None:
    from attncli.tasks.language_use import fill_masks, mask_of

    answers = []
    for place, text in read_inputs(inputs):
        try:
            masks = fill_masks(task, text, count)
        except ValueError as error:
            then = f"write {mask_of(task)} where a word is to be found"
            raise DataError(Problem(f"{text!r}: {error}", place or None), then=then) from None
        answers.append({"text": text, "masks": [[vars(filling) for filling in mask] for mask in masks]})
        if not console.json_mode():
            rows = [
                (number if rank == 0 else "", filling.token, f"{100 * filling.probability:.1f} %")
                for number, mask in enumerate(masks, 1)
                for rank, filling in enumerate(mask)
            ]
            console.table(["mask", "token", "probability"], rows, title=text, right=["probability"])
    console.document({"answers": answers})


def _continue(task: Any, inputs: list[str], sampling: Sampling, limit: int, seed: int | None) -> None:
    from attncli.tasks.language_use import continue_text

    answers = []
    for place, prompt in read_inputs(inputs):
        console.result(prompt, end="")
        made = []
        try:
            for piece in continue_text(task, prompt, limit=limit, sampling=sampling, seed=seed):
                made.append(piece)
                console.result(piece, end="")
        except ValueError as error:
            raise DataError(Problem(f"{prompt!r}: {error}", place or None)) from None
        console.result()
        answers.append({"prompt": prompt, "continuation": "".join(made)})
    console.document({"answers": answers})
