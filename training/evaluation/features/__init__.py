"""Compute the features of images that probes, few-shot heads and searches use, once for each model and set."""

from openwit.training.config.choices import Layer
from openwit.training.evaluation.features.compute import Features, compute_features
from openwit.training.evaluation.features.encoders import Encoder, ModelEncoder, RawPixels, random_encoder

__all__ = [
    "Encoder",
    "Features",
    "Layer",
    "ModelEncoder",
    "RawPixels",
    "compute_features",
    "random_encoder",
]
