"""Models that see: images, clips, and what is in them."""
