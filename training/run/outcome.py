"""Describe the end of a run: finished, stopped by a signal, or nothing was left to do."""

from dataclasses import dataclass, field
from typing import Literal

from openwit.training.config.duration import Position
from openwit.training.evaluation.evaluators import (
    Evaluation,
)
from openwit.training.evaluation.retrieval import RetrievalResult


@dataclass(frozen=True)
class Outcome:
    """End of a run.

    Attributes:
        status: `finished`, `already finished` (nothing was done), or `stopped` by a signal.
        position: steps, samples and seconds of training.
        signal: number of the signal; None otherwise.
        evaluations: the last result of each evaluator, by name; empty on processes other than the first.
    """

    status: Literal["finished", "already finished", "stopped"]
    position: Position
    signal: int | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def recall(self) -> RetrievalResult | None:
        """Result of the evaluator `retrieval`; None if there was none."""
        found = self.evaluations.get("retrieval")
        return None if found is None or not isinstance(found.details, RetrievalResult) else found.details
