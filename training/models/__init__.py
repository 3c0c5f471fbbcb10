"""Architectures, each readable in one file."""
