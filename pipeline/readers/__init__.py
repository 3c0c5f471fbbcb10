"""Readers of everything that the builder takes as input."""
