"""Readers, tokenisers, batch order and collation, and the built-in sets."""
