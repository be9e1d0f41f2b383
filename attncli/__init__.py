"""attn: train, evaluate and apply attention models from one command line."""

__version__ = "0.1.0"
