"""Compare learning curves: means over seeds, intervals, the factor between samples at equal accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openwit.training.evaluation.statistics.intervals import Interval, wilson
from openwit.training.evaluation.statistics.student import Difference, difference, mean_interval


@dataclass(frozen=True)
class Curve:
    """A metric of an objective over samples seen.

    Attributes:
        objective: its name.
        samples: of the points, ascending.
        values: one row per seed, one column per point.
    """

    objective: str
    samples: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> list[float]:
        """Return the mean over seeds of each point."""
        return [float(np.mean(column)) for column in zip(*self.values, strict=True)]

    @property
    def final(self) -> list[float]:
        """Return the last value of each seed."""
        return [row[-1] for row in self.values]

    def above(self, chance: float, images: int) -> bool:
        """Return whether the last mean is above chance, by its interval over seeds and Wilson's over images.

        Seeds alone would not do: models that all give the same answer to every image have no spread.

        Args:
            chance: its level.
            images: number that were judged, the same ones with each seed.
        """
        spread = self.interval(-1)
        share = min(1.0, self.means[-1])
        return wilson(round(share * images), images).low > chance and (spread is None or spread.low > chance)

    def interval(self, point: int) -> Interval | None:
        """Return the 95 % interval over seeds of a point; None with a single seed."""
        return mean_interval([row[point] for row in self.values])


@dataclass(frozen=True)
class SpeedUp:
    """How many times fewer samples one objective needs for the final accuracy of another.

    Attributes:
        slow, fast: the objectives.
        accuracy: final mean of the slow one.
        factor: samples of the slow one / samples at which the fast one's mean curve reaches that accuracy; None if it
            does not, or if the slow one is not above chance.
        by_seed: the same for the two runs of each seed, where it exists.
        difference: final accuracy of the fast one minus that of the slow one; None with a single seed.
        above_chance: whether the slow one's accuracy is above chance; see `Curve.above`.
        fast_above_chance: whether the fast one's is.
    """

    slow: str
    fast: str
    accuracy: float
    factor: float | None
    by_seed: tuple[float, ...]
    difference: Difference | None
    above_chance: bool
    fast_above_chance: bool

    @property
    def separated(self) -> bool:
        """Whether the difference is shown: not by chance of the seeds, nor between two models that guess."""
        return self.difference is not None and self.difference.shown and self.fast_above_chance


def curves_of(points: Sequence[Mapping[str, Any]], metric: str) -> list[Curve]:
    """Return a curve per objective that has the metric, in the order of the points.

    A run that was stopped has a checkpoint more than the others: points that not every seed has are left out.

    Raises:
        ValueError: the runs of an objective have no point in common.
    """
    found: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for point in points:
        if metric in point["metrics"]:
            runs = found.setdefault(point["objective"], {})
            runs.setdefault(point["seed"], []).append((point["samples"], point["metrics"][metric]))
    curves = []
    for objective, runs in found.items():
        rows = [dict(row) for _, row in sorted(runs.items())]
        samples = tuple(sorted(set(rows[0]).intersection(*rows[1:])))
        if not samples:
            raise ValueError(f"the runs of {objective} have no points in common")
        curves.append(Curve(objective, samples, tuple(tuple(row[at] for at in samples) for row in rows)))
    return curves


def reached(samples: Sequence[int], values: Sequence[float], accuracy: float, chance: float) -> float | None:
    """Return the samples at which a curve first reaches an accuracy, linearly between points, from chance at none."""
    before, height = 0.0, chance
    for at, value in zip(samples, values, strict=True):
        if value >= accuracy:
            share = 1.0 if value <= height else max(0.0, (accuracy - height) / (value - height))
            return before + share * (at - before)
        before, height = float(at), value
    return None


def speed_up(slow: Curve, fast: Curve, chance: float, images: int) -> SpeedUp:
    """Compare two objectives at the final accuracy of the slower one."""
    accuracy = slow.means[-1]
    above = slow.above(chance, images)
    factor = _factor(slow.samples[-1], reached(fast.samples, fast.means, accuracy, chance)) if above else None
    seeds = [
        _factor(slow.samples[-1], reached(fast.samples, row, own[-1], chance))
        for own, row in zip(slow.values, fast.values, strict=False)
        if own[-1] > chance
    ]
    several = min(len(slow.values), len(fast.values)) > 1
    return SpeedUp(
        slow.objective,
        fast.objective,
        accuracy,
        factor,
        tuple(each for each in seeds if each is not None) if above else (),
        difference(slow.final, fast.final) if several else None,
        above,
        fast.above(chance, images),
    )


def speed_ups(curves: Sequence[Curve], chance: float, images: int) -> list[SpeedUp]:
    """Compare each pair of objectives, the one of lower final accuracy being the slow one."""
    ordered = sorted(curves, key=lambda curve: (curve.means[-1], curve.objective))
    return [
        speed_up(slow, fast, chance, images) for number, slow in enumerate(ordered) for fast in ordered[number + 1 :]
    ]


def _factor(samples: float, needed: float | None) -> float | None:
    return None if not needed else samples / needed
