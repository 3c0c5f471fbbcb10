"""Search the penalty of a linear probe as the paper does (appendix A.3): by halving around the peak of the metric."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

STEPS = 96
PER_DECADE = 8
GRID: tuple[float, ...] = tuple(math.pow(10, -6 + step / PER_DECADE) for step in range(STEPS + 1))
"""The 96 logarithmic steps of the penalty from 1e-6 to 1e6; scikit-learn's C is the inverse of each."""

FIRST = 16
"""Steps between the seven penalties to begin with: 1e-6, 1e-4, 0.01, 1, 100, 1e4, 1e6."""


@dataclass
class Sweep:
    """What a search has tried.

    Attributes:
        scores: metric on the validation images, by position in `GRID`, in the order tried.
    """

    scores: dict[int, float] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """Return the position of the best; of equal ones the largest penalty, which fits the images least closely."""
        return max(self.scores, key=lambda step: (self.scores[step], step))

    @property
    def penalty(self) -> float:
        """Return the best penalty."""
        return GRID[self.best]


def search_penalty(score: Callable[[int], float]) -> Sweep:
    """Try seven penalties, then halve the interval around the peak until it is 8 steps to the decade: 15 at most.

    Args:
        score: metric of a position in `GRID`, higher is better; called once for each that is tried, the largest
            penalties first, whose solutions are the quickest.
    """
    sweep = Sweep()
    for step in range(STEPS, -1, -FIRST):
        sweep.scores[step] = score(step)
    width = FIRST
    while width > 1:
        width //= 2
        peak = sweep.best
        for step in (peak + width, peak - width):
            if 0 <= step <= STEPS and step not in sweep.scores:
                sweep.scores[step] = score(step)
    return sweep
