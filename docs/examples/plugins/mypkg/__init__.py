"""Filters and a reader outside OpenWIT; see recipe.yaml."""
