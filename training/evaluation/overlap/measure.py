"""Measure overlap on several evaluation sets and models: match, classify, compare, correct."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.overlap.analysis import LEVEL, OverlapResult, compare, corrected
from openwit.training.evaluation.overlap.answers import PerImage
from openwit.training.evaluation.overlap.matching import Matched
from openwit.training.evaluation.overlap.report import Reported


@dataclass(frozen=True)
class EvaluationSet:
    """A set beside its report.

    Attributes:
        data: labelled images.
        where: the report's file.
        report: of `read_report`.
        matched: of `match`.
    """

    data: ClassificationSet
    where: Path
    report: Sequence[Reported]
    matched: Matched


@dataclass(frozen=True)
class Measured:
    """One subject (a model, or files of results) on one set.

    Attributes:
        subject: its name.
        evaluation: the set.
        answers: per image.
        result: the comparison.
        about: JSON data on the subject, such as the weights' checksum.
    """

    subject: str
    evaluation: EvaluationSet
    answers: PerImage
    result: OverlapResult
    about: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        data, matched = self.evaluation.data, self.evaluation.matched
        return {
            "subject": self.subject,
            **self.about,
            "data": data.name,
            "split": data.split,
            "data_sha256": matched.sha256,
            "report": str(self.evaluation.where),
            **asdict(self.result),
            "unmatched": matched.unmatched,
            "left_out": {**data.left_out, **self.answers.left_out},
            "report_images_of_no_use": matched.unused,
        }


def measure(
    subject: str, sets: Sequence[EvaluationSet], answers: Sequence[PerImage], about: Mapping[str, Any]
) -> list[Measured]:
    """Compare the subsets of each set, with p-values corrected for the number of sets.

    Raises:
        DataError: no image of a set is both in the report and judged.
    """
    results = []
    for each, found in zip(sets, answers, strict=True):
        chosen = (each.matched.rows >= 0) & found.judged
        if not chosen.any():
            raise DataError(f"no image of {each.data.title} is both in {each.where} and judged")
        results.append(compare(found.right[chosen], each.matched.overlap[chosen]))
    return [
        Measured(subject, each, found, result, about)
        for each, found, result in zip(sets, answers, corrected(results), strict=True)
    ]


def record_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return all results as JSON data."""
    return {
        "test": "one-tailed binomial: accuracy on overlap higher than that on clean",
        "interval": f"Clopper-Pearson, {100 * LEVEL:.1f}%, of the accuracy on overlap",
        "correction": "Bonferroni over the evaluation sets of a subject",
        "results": [each.record() for each in measured],
    }


def pairs_of(each: EvaluationSet) -> list[tuple[int, int]]:
    """Return (image, number of its pair in the report) of all pairs of a set, the farthest first."""
    found = [
        (int(index), number)
        for index in np.flatnonzero(each.matched.overlap)
        for number in range(len(each.report[int(each.matched.rows[index])].pairs))
    ]
    distance = {
        (index, number): each.report[int(each.matched.rows[index])].pairs[number].distance for index, number in found
    }
    return sorted(found, key=lambda pair: (-distance[pair], pair))
