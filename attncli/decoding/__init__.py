"""Search over next tokens: greedy, sampling, beam. Needs only ``step(tokens, cache)``."""

from attncli.decoding.generate import Step, generate
from attncli.decoding.sampling import Sampling

__all__ = ["Sampling", "Step", "generate"]
