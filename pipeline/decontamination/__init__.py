"""Decontamination: hash evaluation images, and find them among the dataset's images."""
