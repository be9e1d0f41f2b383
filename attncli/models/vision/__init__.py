"""Models that see: images, clips, masks."""
