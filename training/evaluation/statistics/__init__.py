"""Compute metrics, confidence intervals and tests, with numpy alone; nothing here knows of models or files."""

from openwit.training.config.choices import Metric
from openwit.training.evaluation.statistics.binomial import at_least, bonferroni, clopper_pearson
from openwit.training.evaluation.statistics.estimates import Estimate, estimate_ranks, estimate_scores
from openwit.training.evaluation.statistics.intervals import (
    Interval,
    bootstrap_class_mean,
    bootstrap_mean,
    bootstrap_within,
    chance_recall,
    wilson,
)
from openwit.training.evaluation.statistics.metrics import (
    accuracy,
    average_precision,
    mean_average_precision,
    mean_per_class,
    mean_top1_top5,
    ranks_of,
    roc_auc,
)

__all__ = [
    "Estimate",
    "Interval",
    "Metric",
    "accuracy",
    "at_least",
    "average_precision",
    "bonferroni",
    "bootstrap_class_mean",
    "bootstrap_mean",
    "bootstrap_within",
    "chance_recall",
    "clopper_pearson",
    "estimate_ranks",
    "estimate_scores",
    "mean_average_precision",
    "mean_per_class",
    "mean_top1_top5",
    "ranks_of",
    "roc_auc",
    "wilson",
]
