"""Pictures: read safely, kept decoded, varied, and made into batches. Torch only where batches are."""
