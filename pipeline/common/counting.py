"""Let pure readers count what they drop with a callable that takes a reason, so that tests need no Beam."""

from collections import Counter
from typing import Protocol


class Count(Protocol):
    """Called with a reason from a closed list, the number of rows, and a detail (location and finding) for a log."""

    def __call__(self, reason: str, n: int = 1, detail: str = "") -> None: ...


class ReasonCounter:
    """A `Count` that keeps totals and the first details of each reason.

    Attributes:
        counts: rows per reason.
        details: per reason, the first `keep_details` details that were not empty.
    """

    def __init__(self, keep_details: int = 10) -> None:
        self.counts: Counter[str] = Counter()
        self.details: dict[str, list[str]] = {}
        self._keep_details = keep_details

    def __call__(self, reason: str, n: int = 1, detail: str = "") -> None:
        self.counts[reason] += n
        if detail:
            kept = self.details.setdefault(reason, [])
            if len(kept) < self._keep_details:
                kept.append(detail)


def ignore(reason: str, n: int = 1, detail: str = "") -> None:
    """Count nothing."""
