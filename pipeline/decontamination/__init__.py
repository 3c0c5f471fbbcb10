"""Decontamination: evaluation images, and finding them among the dataset's images."""
