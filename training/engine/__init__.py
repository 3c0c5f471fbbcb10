"""One training step: forward, backward, optimiser, several processes."""
