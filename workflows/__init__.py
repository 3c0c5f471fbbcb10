"""Recipes and example workflows for users to copy."""
