"""Search over next tokens: greedy, sampling, beam. Needs only ``step(tokens, cache)``."""

from attncli.decoding.beam import beam_search
from attncli.decoding.generate import Step, generate
from attncli.decoding.sample import sample_translations
from attncli.decoding.sampling import Sampling
from attncli.decoding.search import Hypothesis, SearchSettings
from attncli.decoding.shortlist import Shortlist
from attncli.decoding.steps import Steps

__all__ = [
    "Hypothesis",
    "Sampling",
    "SearchSettings",
    "Shortlist",
    "Step",
    "Steps",
    "beam_search",
    "generate",
    "sample_translations",
]
