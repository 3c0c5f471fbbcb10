"""How pure readers report what they left out: a callable that takes a reason, so that no test needs Beam."""

from collections import Counter
from typing import Protocol


class Count(Protocol):
    """Takes the reason of a closed list, how many rows it stands for, and what was seen where (for a log)."""

    def __call__(self, reason: str, n: int = 1, detail: str = "") -> None: ...


class ReasonCounter:
    """A `Count` that keeps sums, and the first details of each reason.

    Attributes:
        counts: rows by reason.
        details: by reason, the first `keep_details` details that were not empty.
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
    """A `Count` that forgets."""
