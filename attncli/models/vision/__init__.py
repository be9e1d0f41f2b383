"""Models that see pictures and clips."""
