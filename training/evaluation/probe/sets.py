"""Open the training, validation and test images of a probe, and number their classes alike."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.probe.fit import Targets


@dataclass(frozen=True)
class ProbeSets:
    """Labelled images of a probe, with the classes of the training images.

    Attributes:
        train, test: images.
        valid: images that choose the penalty; None: a part of `train`.
    """

    train: ClassificationSet
    test: ClassificationSet
    valid: ClassificationSet | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.train.classes


def open_sets(
    train: LabelledData,
    test: LabelledData,
    valid: LabelledData | None = None,
    *,
    train_limit: int | None = None,
    limit: int | None = None,
) -> ProbeSets:
    """Open the sets of a probe.

    Args:
        train, test, valid: where they are.
        train_limit, limit: images drawn from the training and the test set; None: all.

    Raises:
        DataError: two of them are the same images, or the test set has classes that the training set lacks.
    """
    wanted = [each for each in (train, test, valid) if each is not None]
    sets = [open_classification(each) for each in wanted]
    places = [(Path(each.data).resolve(), found.split) for each, found in zip(wanted, sets, strict=True)]
    for number, place in enumerate(places):
        if place in places[:number]:
            split = f", split {place[1]!r}" if place[1] is not None else ""
            raise DataError(
                f"{place[0]}{split} is to be both trained and measured on: name another split for one of them "
                "(--train-split, --split, --val-split)"
            )
    return sets_of(sets[0], sets[1], sets[2] if valid is not None else None, train_limit=train_limit, limit=limit)


def sets_of(
    train: ClassificationSet,
    test: ClassificationSet,
    valid: ClassificationSet | None = None,
    *,
    train_limit: int | None = None,
    limit: int | None = None,
) -> ProbeSets:
    """Return sets that are open as those of a probe; see `open_sets`."""
    first = train.limited(train_limit)
    others = None if valid is None else _numbered_as(first, valid)
    return ProbeSets(first, _numbered_as(first, test).limited(limit), others)


def _numbered_as(train: ClassificationSet, other: ClassificationSet) -> ClassificationSet:
    """Return a set with the numbers of the training set's classes, matched by name."""
    if (other.truth is None) != (train.truth is None):
        raise DataError(f"images of one of {train.title} and {other.title} have several labels, of the other one")
    if other.classes == train.classes:
        return other
    if other.truth is not None:
        raise DataError(f"{other.title} has other classes than {train.title}, which is trained on")
    numbers = {name: number for number, name in enumerate(train.classes)}
    used = [other.classes[number] for number in np.unique(other.labels)]
    unknown = [name for name in used if name not in numbers]
    if unknown or len(numbers) < len(train.classes):
        shown = ", ".join(repr(name[:40]) for name in unknown[:5]) or "names that several classes share"
        raise DataError(
            f"{other.title} has {len(other.classes)} classes and {train.title}, which is trained on, has "
            f"{len(train.classes)}; they do not match: {shown}"
        )
    table = np.array([numbers.get(name, -1) for name in other.classes])
    return replace(other, classes=train.classes, labels=table[other.labels])


def labels_at(data: ClassificationSet, indices: NDArray[np.int64]) -> Targets:
    """Return the classes of the images that could be read, or their truths if they may have several."""
    return data.labels[indices] if data.truth is None else data.truth[indices]
