"""Search over next tokens: greedy, sampling, beam. Needs only ``step(tokens, cache)``."""
