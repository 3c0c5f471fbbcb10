"""Fetch the public inputs that a recipe names: crawls, Wikipedia's dumps and page views, WordNet."""
