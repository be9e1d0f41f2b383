"""The names of what language models are measured by. No torch, so that ``--require`` is checked first."""

from __future__ import annotations

from attncli.recipe.pretrain import PretrainRecipe

PAIR_METRIC = {"next": "next_sentence_accuracy", "order": "sentence_order_accuracy"}
"""``train.objective.sentences`` to its metric."""


def metric_names(recipe: PretrainRecipe) -> list[str]:
    """Metrics that an evaluation of ``recipe`` reports, in the order of its table."""
    if recipe.train.objective.kind == "clm":
        return ["loss", "perplexity", "accuracy", "bits_per_byte", "unigram_loss"]
    names = ["loss", "masked_loss", "masked_accuracy", "perplexity", "unigram_loss"]
    pair = PAIR_METRIC.get(recipe.train.objective.sentences)
    return [*names, "pair_loss", pair] if pair else names
