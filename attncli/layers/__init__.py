"""Blocks that models are built from: embeddings, norms, feed-forward nets, transformer blocks."""

from attncli.layers.activations import ACTIVATIONS
from attncli.layers.block import Block
from attncli.layers.embeddings import TokenEmbeddings
from attncli.layers.feed_forward import FeedForward
from attncli.layers.initialise import initialise, initialise_xavier
from attncli.layers.norms import NORMS, build_norm
from attncli.layers.pooling import build_pooling
from attncli.layers.stack import LayerStack

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "Block",
    "FeedForward",
    "LayerStack",
    "TokenEmbeddings",
    "build_norm",
    "build_pooling",
    "initialise",
    "initialise_xavier",
]
