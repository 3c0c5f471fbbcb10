"""Fit probes to 1, 2, 4, 8 and 16 images of each class, drawn several times.

The paper does not say how it chooses the penalty with so few images. Here it is chosen by the same search on other
training images: as many of each class, at most `MOST_VALIDATING`, and these are not trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.probe.fit import Rows, Targets, estimate, fit_probe
from openwit.training.evaluation.statistics import Metric
from openwit.training.evaluation.statistics.fits import student_interval

SHOTS = (1, 2, 4, 8, 16)
SEEDS = 3
MOST_VALIDATING = 4


@dataclass(frozen=True)
class Shots:
    """Probes of k images per class.

    Attributes:
        shots: k.
        values: metric on the test images, of each seed.
        penalties: chosen, of each seed.
        mean: of the values.
        low, high: of the mean's interval over seeds by Student's t, within 0 to 1; None with one seed.
        short: numbers of the classes that have fewer than k images, and how many they have.
    """

    shots: int
    values: list[float]
    penalties: list[float]
    mean: float
    low: float | None
    high: float | None
    short: dict[int, int]


@dataclass(frozen=True)
class FewShot:
    """Probes of several numbers of images per class."""

    shots: list[Shots]


def draw_shots(
    labels: NDArray[np.int64], classes: int, shots: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, int]]:
    """Draw images of each class to train on, and others to choose the penalty on.

    A class that has no more than `shots` images gives all but one of them, so that one is left to validate, and its
    only image, if it has one alone. Smaller draws of a seed are parts of larger ones.

    Args:
        labels: (N,) of all training images.
        classes: number of classes.
        shots: images of each class.
        seed: of the draw.

    Returns:
        Positions to train on, to validate on, and the classes with fewer than `shots` to train on with their number.

    Raises:
        DataError: no image is left to validate on.
    """
    train: list[NDArray[np.int64]] = []
    valid: list[NDArray[np.int64]] = []
    short: dict[int, int] = {}
    for label in range(classes):
        members = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        count = min(shots, max(1, len(members) - 1), len(members))
        if count < shots:
            short[label] = count
        train.append(members[:count])
        # From the other end, so that they are the same for every number of shots where there are enough.
        valid.append(members[max(count, len(members) - min(shots, MOST_VALIDATING)) :])
    training, validating = np.concatenate(train), np.concatenate(valid)
    if not len(validating):
        raise DataError("no class has two training images, so none can validate a few-shot probe")
    return training, validating, short


def few_shot(
    train: tuple[Rows, NDArray[np.int64]],
    test: tuple[Rows, Targets],
    classes: int,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: int = SEEDS,
    metric: Metric = Metric.ACCURACY,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> FewShot:
    """Fit and measure probes of each number of images and each seed.

    Args:
        train, test: features and labels.
        classes: number of classes.
        shots: numbers of images per class.
        seeds: draws of each.
        metric: on validation and test images.
        device: where to compute.
        progress: receives (done, total) of the probes.

    Raises:
        DataError: no image is left to validate on, or the metric does not exist.
    """
    rows, labels = train
    found: list[Shots] = []
    for number, count in enumerate(shots):
        values, penalties = [], []
        short: dict[int, int] = {}
        for seed in range(seeds):
            training, validating, short = draw_shots(labels, classes, count, seed)
            probe = fit_probe(
                rows[training],
                labels[training],
                classes,
                valid=(rows[validating], labels[validating]),
                metric=metric,
                refit=False,
                device=device,
            )
            values.append(estimate(metric, probe.head.scores(test[0]), test[1]).value)
            penalties.append(probe.head.penalty)
            if progress is not None:
                progress(number * seeds + seed + 1, len(shots) * seeds)
        interval = student_interval(values)
        low, high = (None, None) if interval is None else (max(0.0, interval.low), min(1.0, interval.high))
        found.append(Shots(count, values, penalties, float(np.mean(values)), low, high, short))
    return FewShot(found)
