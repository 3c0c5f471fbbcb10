"""A training run: loop, checkpoints, logs, progress, resumption."""
