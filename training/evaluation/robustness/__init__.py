"""Measure robustness to natural shifts of the data (paper section 3.3; Taori et al. 2020, Miller et al. 2021)."""

from openwit.training.evaluation.robustness.line import Accuracy, Robustness, robustness
from openwit.training.evaluation.robustness.subset import Subset, match_classes

__all__ = ["Accuracy", "Robustness", "Subset", "match_classes", "robustness"]
