"""Numeric operations that PyTorch has, done faster on a CPU: dropout, memory allocation."""
