"""The names of what translation models are measured by. No torch, so that ``--require`` is checked first."""

from __future__ import annotations

import re

from attncli.metrics.translation import METRICS
from attncli.recipe.translate import TranslateRecipe

VALIDATION_METRICS = ("bleu", "bleu_lowercase", "chrf")
"""Measured on the validation part while training; TER takes too long for that."""


def metric_names(recipe: TranslateRecipe) -> list[str]:
    """Metrics that an evaluation of ``recipe`` reports: of the validation part, then of the test sets.

    A test set's are ``<test set>.<metric>``. Where the data says which there are, or where they are named by
    path, ``*.<metric>`` stands for any.
    """
    tests = recipe.data.tests
    known = tests and all(re.fullmatch(r"[\w-]+", name) for name in tests)
    return ["loss", "perplexity", *VALIDATION_METRICS, *names_of_tests(tests if known else ["*"])]


def names_of_tests(tests: list[str]) -> list[str]:
    """Names of the metrics of test sets: ``test_2016_flickr.bleu``."""
    return [f"{name}.{metric}" for name in tests for metric in METRICS]
