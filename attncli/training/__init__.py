"""The Task contract and the one training loop, with checkpoints, optimisers and schedules."""
