"""Evaluate trained models on data they have not seen."""
