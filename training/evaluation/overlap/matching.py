"""Match the images of an evaluation set with those of a report: by checksum; names tell equal ones apart."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.overlap.report import Reported

NOT_THERE = "not in the report"
CHANGED = "other bytes than in the report"
LEAST_SHARE = 0.5
"""Share of the evaluation images that must be in a report for it to be theirs."""


@dataclass(frozen=True)
class Matched:
    """An evaluation set beside its report.

    Attributes:
        rows: (N,) index into the report of each image, -1 for one that is not there.
        overlap: (N,) whether a training image shows the same.
        sha256: of the checksums of all images, in order.
        unmatched: keys of the images that are not in the report, by reason.
        unused: evaluation images of the report that are not in the set, such as those of another split.
    """

    rows: NDArray[np.int64]
    overlap: NDArray[np.bool_]
    sha256: str
    unmatched: dict[str, list[str]]
    unused: int


def match(
    data: ClassificationSet,
    report: Sequence[Reported],
    where: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Matched:
    """Find each image of a set in a report.

    The checksum decides: images of equal bytes show the same, so that they are all overlap or all clean. Among several
    of equal bytes the one of the same name is taken, else the first that is left.

    Args:
        data: the set; each image is read once.
        report: of `read_report`.
        where: the report's file, for messages.
        progress: receives (done, total).

    Raises:
        DataError: fewer than `LEAST_SHARE` of the images are in the report, which is that of another set.
    """
    by_sum: dict[str, list[int]] = {}
    named: set[str] = set()
    for number, each in enumerate(report):
        by_sum.setdefault(each.sha256, []).append(number)
        named.update(each.names())
    rows = np.full(len(data), -1, dtype=np.int64)
    unmatched: dict[str, list[str]] = {}
    total, used = hashlib.sha256(), set[int]()
    for index in range(len(data)):
        key, checksum = data.key(index), hashlib.sha256(data.sample(index).image).hexdigest()
        total.update(checksum.encode())
        candidates = by_sum.get(checksum, [])
        if candidates:
            left = [row for row in candidates if row not in used] if len(candidates) > 1 else candidates
            left = left or candidates
            row = next((row for row in left if len(left) > 1 and key in report[row].names()), left[0])
            rows[index] = row
            used.add(row)
        else:
            unmatched.setdefault(CHANGED if key in named else NOT_THERE, []).append(key)
        if progress is not None:
            progress(index + 1, len(data))
    found = int((rows >= 0).sum())
    if found < LEAST_SHARE * len(data):
        raise DataError(
            f"{where} reports another evaluation set than {data.title}: by checksum it holds {found:,} of its "
            f"{counted(len(data), 'image')}; make the report with `wit decontaminate … --against` this set"
        )
    overlap = np.array([row >= 0 and bool(report[row].pairs) for row in rows.tolist()], dtype=np.bool_)
    return Matched(rows, overlap, total.hexdigest(), unmatched, len(report) - len(used))
