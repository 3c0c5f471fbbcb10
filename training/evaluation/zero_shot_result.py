"""Summarise zero-shot answers: metrics with intervals, classes, confusions, and the gain of a set of templates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.config.choices import Metric
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.statistics.estimates import (
    LEVEL,
    OVER_IMAGES,
    Estimate,
    estimate_ranks,
    estimate_scores,
)
from openwit.training.evaluation.statistics.intervals import bootstrap_class_mean, bootstrap_mean, wilson
from openwit.training.evaluation.statistics.metrics import VOC_POINTS, average_precision
from openwit.training.evaluation.zero_shot import Answers

TOP = 5
CONFUSIONS = 20


@dataclass(frozen=True)
class Share:
    """A share in [0, 1]: the value, its 95% interval, and the chance level."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class ClassResult:
    """One class.

    Attributes:
        name: of the class.
        images: number of its images.
        right: number of those predicted correctly.
        accuracy: right / images, with Wilson's interval; None if it has no images.
        taken_for: the wrong class that was predicted most often, if any, and how often.
    """

    name: str
    images: int
    right: int
    accuracy: Share | None
    taken_for: tuple[str, int] | None


@dataclass(frozen=True)
class Confusion:
    """Number of images of a class that were predicted as another."""

    true: str
    predicted: str
    images: int


@dataclass(frozen=True)
class ZeroShotResult:
    """Accuracies on a set.

    Attributes:
        images: number of images classified.
        top1: share of images whose class ranks first.
        top5: share of images whose class is among the first five; None if there are at most five.
        mean_per_class: mean of the accuracies of all classes that have images.
        classes: every class, in the order of the set.
        confusions: most frequent first, `CONFUSIONS` at most.
        unreadable: keys of images that were skipped.
        metric: the main one.
        headline: its value.
    """

    images: int
    top1: Share
    top5: Share | None
    mean_per_class: Share
    classes: list[ClassResult]
    confusions: list[Confusion]
    unreadable: list[str]
    metric: Metric
    headline: Estimate

    def metrics(self) -> dict[str, float]:
        """Return the values to log during training."""
        shares: dict[str, Share | Estimate | None] = {
            "top1": self.top1,
            "top5": self.top5,
            "mean_per_class": self.mean_per_class,
        }
        if self.metric not in (Metric.ACCURACY, Metric.MEAN_PER_CLASS):
            shares[str(self.metric)] = self.headline
        return {f"zero_shot_{name}": share.value for name, share in shares.items() if share is not None}

    def sentence(self) -> str:
        """Return the values in words."""
        top5 = "" if self.top5 is None else f"  top-5 {100 * self.top5.value:.1f}%"
        main = ""
        if self.metric not in (Metric.ACCURACY, Metric.MEAN_PER_CLASS):
            main = f"  {self.metric} {100 * self.headline.value:.1f}%"
        return (
            f"top-1 {100 * self.top1.value:.1f}%{top5}  mean per class {100 * self.mean_per_class.value:.1f}%{main}  "
            f"(chance {100 * self.top1.chance:.2f}%)"
        )


def summarise(answers: Answers, classes: Sequence[str], metric: Metric = Metric.ACCURACY) -> "ZeroShotResult":
    """Return the metrics of the answers, with Wilson's intervals and, for the mean over classes, a bootstrap's.

    Args:
        answers: of a set whose images have one class each.
        classes: names.
        metric: the main one; those of scores take each class against the rest, ROC AUC the second of two classes.

    Raises:
        DataError: the metric does not exist for these images.
    """
    count, ways = len(answers.labels), len(classes)
    counts = np.bincount(answers.labels, minlength=ways)
    right = np.bincount(answers.labels[answers.ranks == 0], minlength=ways)
    there = counts > 0
    interval = bootstrap_class_mean(right[there], counts[there])
    mean = float((right[there] / counts[there]).mean())
    wrong = answers.ranks > 0
    pairs = Counter(zip(answers.labels[wrong].tolist(), answers.predicted[wrong].tolist(), strict=True))
    confusions = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    most: dict[int, tuple[str, int]] = {}
    for (true, taken), number in confusions:
        most.setdefault(true, (classes[taken], number))
    return ZeroShotResult(
        count,
        _share(int((answers.ranks < 1).sum()), count, 1 / ways),
        _share(int((answers.ranks < TOP).sum()), count, TOP / ways) if ways > TOP else None,
        Share(mean, interval.low, interval.high, 1 / ways),
        [
            ClassResult(
                name,
                int(counts[number]),
                int(right[number]),
                _share(int(right[number]), int(counts[number]), 1 / ways) if counts[number] else None,
                most.get(number),
            )
            for number, name in enumerate(classes)
        ],
        [Confusion(classes[true], classes[taken], number) for (true, taken), number in confusions[:CONFUSIONS]],
        answers.unreadable,
        metric,
        _headline(answers, metric, ways),
    )


def _headline(answers: Answers, metric: Metric, ways: int) -> Estimate:
    if not metric.of_scores:
        return estimate_ranks(metric, answers.ranks, answers.labels, ways)
    assert answers.scores is not None
    if metric is Metric.ROC_AUC and ways != 2:
        raise DataError(
            f"metric roc_auc is that of two classes, or of several labels an image, and the set has {ways}"
        )
    if metric is Metric.ROC_AUC:
        scores: NDArray[np.float32] = answers.scores[:, 1] - answers.scores[:, 0]
        return _estimated(metric, scores, answers.labels)
    return _estimated(metric, answers.scores, np.eye(ways, dtype=np.int8)[answers.labels])


def _estimated(metric: Metric, scores: NDArray[np.float32], truth: NDArray[np.int8] | NDArray[np.int64]) -> Estimate:
    try:
        return estimate_scores(metric, scores, truth)
    except ValueError as error:
        raise DataError(f"metric {metric} cannot be computed: {error}") from error


def _share(right: int, count: int, chance: float) -> Share:
    interval = wilson(right, count)
    return Share(right / count, interval.low, interval.high, chance)


@dataclass(frozen=True)
class LabelResult:
    """One class of a set whose images may have several.

    Attributes:
        name: of the class.
        images: number of images with it.
        judged: number of images of which it is known.
        average_precision: of the ranking by its score; None if no image has it.
        average_precision_11: the same at 11 points.
    """

    name: str
    images: int
    judged: int
    average_precision: float | None
    average_precision_11: float | None


@dataclass(frozen=True)
class SeveralResult:
    """Metrics of a set whose images may have several classes: each class is found or not, apart from the others.

    Attributes:
        images: number of images scored.
        metric: the main one.
        headline: its value.
        map_11_point, map: means of the classes' average precisions; `map` is CLIP_benchmark's.
        classes: every class, in the order of the set.
        unreadable: keys of images that were skipped.
    """

    images: int
    metric: Metric
    headline: Estimate
    map_11_point: Estimate
    map: Estimate
    classes: list[LabelResult]
    unreadable: list[str]

    def metrics(self) -> dict[str, float]:
        """Return the values to log during training."""
        named = {self.metric: self.headline, Metric.MAP_11: self.map_11_point, Metric.MAP: self.map}
        return {f"zero_shot_{metric}": found.value for metric, found in named.items()}

    def sentence(self) -> str:
        """Return the values in words."""
        return f"mAP {100 * self.map.value:.1f}%  11-point mAP {100 * self.map_11_point.value:.1f}%"


Result = ZeroShotResult | SeveralResult


def summarise_set(answers: Answers, data: ClassificationSet, metric: Metric | None = None) -> Result:
    """Return the metrics of the answers.

    Args:
        answers: of the set.
        data: the set.
        metric: the main one; None: accuracy, or 11-point mean average precision where images may have several classes.

    Raises:
        DataError: the metric does not exist for these images.
    """
    check_metric(data, metric)
    if answers.truth is None:
        return summarise(answers, data.classes, metric or Metric.ACCURACY)
    return _summarise_several(answers, data.classes, metric or Metric.MAP_11)


def check_metric(data: ClassificationSet, metric: Metric | None) -> None:
    """Check that a metric exists for a set.

    Raises:
        DataError: it does not.
    """
    if metric is None:
        return
    if data.truth is not None and not metric.of_scores:
        possible = ", ".join(each for each in Metric if each.of_scores)
        raise DataError(
            f"the images of {data.title} may have several classes: metric {metric} must be one of {possible}"
        )
    if data.truth is None and metric is Metric.ROC_AUC and len(data.classes) != 2:
        raise DataError(
            f"metric roc_auc is that of two classes, or of several an image, and {data.title} has {len(data.classes)}"
        )


def _summarise_several(answers: Answers, classes: Sequence[str], metric: Metric) -> SeveralResult:
    scores, truth = answers.scores, answers.truth
    assert scores is not None
    assert truth is not None
    estimates = {each: _estimated(each, scores, truth) for each in dict.fromkeys([metric, Metric.MAP_11, Metric.MAP])}
    found = []
    for number, name in enumerate(classes):
        has = int((truth[:, number] == 1).sum())
        values = [
            float(average_precision(scores[:, number], truth[:, number], points=points)[0]) if has else None
            for points in (None, VOC_POINTS)
        ]
        found.append(LabelResult(name, has, int((truth[:, number] >= 0).sum()), *values))
    return SeveralResult(
        len(scores),
        metric,
        estimates[metric],
        estimates[Metric.MAP_11],
        estimates[Metric.MAP],
        found,
        answers.unreadable,
    )


def gain(one: Answers, other: Answers) -> Estimate | None:
    """Return how much higher the accuracy of `one` is, on the same images; None if images may have several classes.

    The interval is that of the paired difference, which is narrower than those of the two accuracies suggest.
    """
    if one.truth is not None:
        return None
    difference = (one.ranks == 0).astype(float) - (other.ranks == 0)
    found = bootstrap_mean(difference, np.ones(len(difference)))
    return Estimate(float(difference.mean()), found.low, found.high, LEVEL, f"paired {OVER_IMAGES}")
