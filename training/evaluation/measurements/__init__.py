"""Measure a model on data by the name of the measurement: one registry for the suite and for training."""
