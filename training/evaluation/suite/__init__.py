"""Measure models on datasets as a table: what is missing is computed, what is done is kept."""
