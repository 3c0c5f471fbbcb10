"""Evaluation images, and the dataset images that are copies of them."""
