"""A finished dataset: its files, its store, verifying it, removing from it."""
