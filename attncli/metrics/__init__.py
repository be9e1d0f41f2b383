"""Metric accumulators over plain values. They know no model and no file."""
