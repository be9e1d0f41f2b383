"""Metric accumulators over plain values. They know no model and no file."""

from attncli.metrics import translation
from attncli.metrics.language import Totals, bits_per_byte, means, perplexity, unigram_loss

__all__ = ["Totals", "bits_per_byte", "means", "perplexity", "translation", "unigram_loss"]
