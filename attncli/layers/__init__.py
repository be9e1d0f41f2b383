"""Blocks that models are built from: embeddings, norms, feed-forward nets, transformer blocks."""
