"""Checkpoint files, and loading models from them."""
