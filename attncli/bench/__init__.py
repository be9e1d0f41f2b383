"""Benchmark cases, timing and their report."""
