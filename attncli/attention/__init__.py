"""The attention core. Knows no recipe, no task and no modality."""
