"""Recipes and deployments a user copies."""
