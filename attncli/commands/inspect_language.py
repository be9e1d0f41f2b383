"""``attn inspect`` of a language model: every head of every layer, and the rollout."""

from __future__ import annotations

from typing import Any

from attncli.commands.seeing import (
    Looking,
    Record,
    See,
    Sight,
    Worths,
    heads_told,
    pruning_told,
    short,
    with_worth,
)
from attncli.commands.trained import load_task
from attncli.errors import DataError, Problem
from attncli.training.run import RunFolder


def see_with(run: RunFolder, loaded: Any, looking: Looking) -> See:
    """Looks at texts with a language model."""
    import torch

    from attncli.attention import record as recording
    from attncli.reports.attention_map import draw_maps
    from attncli.reports.heads import head_figures
    from attncli.reports.inspection import Seen
    from attncli.tasks.language_use import predictor, tokens_of
    from attncli.tasks.pruning import heads_of

    task, _ = load_task(run, loaded, data=looking.part is not None)
    worths = Worths(task, run, looking)

    def see(record: Record) -> Sight:
        place, text = record[0], record[1]["text"]
        try:
            tokens, names = tokens_of(task, text)
        except ValueError as error:
            raise DataError(Problem(f"{short(text)!r}: {error}", place or None)) from None
        with torch.inference_mode(), recording(task.model) as recorded:
            task.model(tokens)
        maps = [(name, weights[0].float().cpu().numpy()) for name, weights in recorded.weights]
        layers = own_layers(maps, names)
        pruning = worths(heads_of(recorded.weights), predictor(task, tokens))
        heads = with_worth(head_figures(layers[: len(maps)]), pruning)
        figures: dict[str, float] = {"tokens": len(names)}
        if pruning is not None:
            figures["heads that can be pruned"] = len(pruning.prunable)
            if pruning.loss is not None:
                name = "loss, nats a token" if looking.part is None else f"loss on {looking.part}"
                figures[name] = pruning.loss
        seen = Seen(
            str(run.path),
            layers=layers,
            heads=heads,
            worth=worths.told(pruning, layers),
            figures=figures,
        )
        told = {"text": text, "tokens": names, "heads": heads_told(heads), **pruning_told(pruning, layers)}
        if pruning is not None:
            told["loss"] = pruning.loss
        return Sight(text, seen, told, lambda path: draw_maps(maps, names, path, title=short(text)))

    return see


def own_layers(maps: list[tuple[str, Any]], names: list[str]) -> list[Any]:
    """Layers of self attention [H, T, T] over tokens ``names``, and the rollout through all of them."""
    from attncli.reports.heads import Layer, rollout

    layers = [Layer(f"layer {number}", weights, names, names) for number, (_, weights) in enumerate(maps, 1)]
    note = "Heads averaged, the residual stream counted as half, layers multiplied (Abnar and Zuidema 2020)."
    whole = rollout([weights for _, weights in maps])
    return [*layers, Layer("rollout", whole[None], names, names, note)]
