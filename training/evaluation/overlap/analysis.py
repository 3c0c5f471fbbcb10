"""Compare accuracy on all, clean and overlapping images: binomial test, Clopper and Pearson's interval, Bonferroni."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openwit.training.evaluation.statistics.binomial import at_least, bonferroni, clopper_pearson

LEVEL = 0.995
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Subset:
    """Images of a set and how many were right; the accuracy is None without images."""

    images: int
    right: int
    accuracy: float | None


@dataclass(frozen=True)
class OverlapResult:
    """What overlap does to accuracy on one evaluation set.

    Attributes:
        all: every image that is in the report and was judged.
        clean: those that no training image shows.
        overlap: those that a training image shows.
        share: overlap / all.
        difference: accuracy of all minus that of clean: what overlap adds to the accuracy; None if none is clean.
        overlap_low, overlap_high: Clopper and Pearson's 99.5 % interval of the accuracy on overlap; None without any.
        p_value: of the one-tailed binomial test that the accuracy on overlap is higher than that on clean; None if
            there is nothing to test.
        p_corrected: the same times the number of sets (Bonferroni), at most 1.
        tests: the number of sets.
        significant: whether `p_corrected` is below 0.05.
    """

    all: Subset
    clean: Subset
    overlap: Subset
    share: float
    difference: float | None
    overlap_low: float | None
    overlap_high: float | None
    p_value: float | None
    p_corrected: float | None = None
    tests: int = 1
    significant: bool = False


def compare(right: NDArray[np.bool_], overlap: NDArray[np.bool_]) -> OverlapResult:
    """Compare the subsets of one set, before the correction for several sets.

    Args:
        right: (N,) whether each image was classified correctly.
        overlap: (N,) whether a training image shows the same.

    Raises:
        ValueError: there are no images.
    """
    if not len(right) or right.shape != overlap.shape:
        raise ValueError(f"{right.shape} answers for {overlap.shape} images")
    every, clean, shared = (_subset(right[chosen]) for chosen in (slice(None), ~overlap, overlap))
    interval = clopper_pearson(shared.right, shared.images, LEVEL) if shared.images else None
    tested = shared.images and clean.accuracy is not None
    return OverlapResult(
        every,
        clean,
        shared,
        shared.images / every.images,
        None if every.accuracy is None or clean.accuracy is None else every.accuracy - clean.accuracy,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        at_least(shared.right, shared.images, clean.accuracy) if tested and clean.accuracy is not None else None,
    )


def corrected(results: Sequence[OverlapResult]) -> list[OverlapResult]:
    """Return the results of several sets of one model with p-values corrected for their number.

    Every set counts as a test, also one without overlap: it was looked at.
    """
    values = bonferroni([1.0 if each.p_value is None else each.p_value for each in results])
    return [
        replace(
            each,
            p_corrected=None if each.p_value is None else value,
            tests=len(results),
            significant=each.p_value is not None and value < SIGNIFICANT,
        )
        for each, value in zip(results, values, strict=True)
    ]


def _subset(right: NDArray[np.bool_]) -> Subset:
    count = int(right.sum())
    return Subset(len(right), count, count / len(right) if len(right) else None)
