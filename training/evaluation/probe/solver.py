"""Fit logistic regression by L-BFGS whose first guess of the curvature is the loss's own, one for all classes.

With that guess, in place of a multiple of the identity, a fit takes tens of iterations where scikit-learn's takes
hundreds. Along a line the logits are linear, so a line search needs no product with the features, an iteration two.
Products are in float32 until rounding hides what is left to gain or the fit is done; the gradient is then verified in
float64, and the fit goes on in float64 if need be.

A fit is done at a gradient that is small in proportion to the objective: where a small penalty lets the images be
separated, loss and gradient fall together, by orders of magnitude, long before the weights are right.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.probe.problem import Point, Problem

ITERATIONS = 1000
TOLERANCE = 1e-5
"""Largest entry of the gradient at the end, as a share of the objective, or of 1 where that is more."""

_MEMORY = 20
_BLOCK = 8192
_MOST_FEATURE = 1e12  # whose square, summed over images, float32 holds


@dataclass(frozen=True)
class Head:
    """A linear head on features.

    Attributes:
        weights: (K, D) float64.
        bias: (K,) float64.
        penalty: of the squared weights, 1 / C of scikit-learn.
        iterations: of L-BFGS.
        gradient: largest entry of the gradient of the mean objective at the end, in float64.
        converged: whether that is within the tolerance, times the objective where it is below 1.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float
    iterations: int
    gradient: float
    converged: bool

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, D) features to (N, K) logits."""
        weights, bias = self.weights.T.astype(np.float32), self.bias.astype(np.float32)
        found = np.empty((len(rows), len(bias)), np.float32)
        for start in range(0, len(rows), _BLOCK):
            found[start : start + _BLOCK] = rows[start : start + _BLOCK] @ weights + bias
        return found


class Solver:
    """Fits heads of several penalties to the same features; each starts from another's solution.

    Args:
        rows: (N, D) features; a copy is kept, centred.
        targets: (N,) classes, or (N, K) of 1, 0 and -1 for several labels to an image, see `Problem`.
        classes: K, at least 2, or any number of columns.
        device: where to compute.

    Raises:
        DataError: there are no images, the numbers do not fit, or features are not finite.
    """

    def __init__(
        self,
        rows: NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.int8],
        classes: int,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(rows, targets, classes)
        self._basis: NDArray[np.float64] | None = None
        self._mean: NDArray[np.float64] | None = None
        if len(rows) < rows.shape[1]:
            self._basis, self._mean = _basis(rows)
            rows = ((rows - self._mean) @ self._basis).astype(np.float32)
        self._problem = Problem(rows, targets, classes, torch.device(device))

    def fit(
        self,
        penalty: float,
        *,
        start: Head | None = None,
        iterations: int = ITERATIONS,
        tolerance: float = TOLERANCE,
    ) -> Head:
        """Return the head that minimises the mean loss + penalty / (2 N) |weights|².

        Args:
            penalty: of the squared weights, above 0.
            start: a solution for another penalty; None: zeros.
            iterations: of L-BFGS, at most.
            tolerance: of the largest entry of the gradient, as a share of the objective or of 1, the smaller.
        """
        problem = self._problem
        parameters = torch.zeros(problem.classes, problem.width + 1, dtype=torch.float64, device=problem.device)
        if start is not None:
            weights, bias = start.weights, start.bias
            if self._basis is not None and self._mean is not None:
                weights, bias = weights @ self._basis, bias + weights @ self._mean
            parameters[:, :-1] = torch.from_numpy(weights)
            parameters[:, -1] = torch.from_numpy(bias + weights @ problem.mean)
        descent = _Descent(problem, parameters, penalty / problem.count)
        problem.dtype = torch.float32
        problem.restart()
        descent.run(iterations, tolerance)
        problem.dtype = torch.float64
        problem.restart()
        # From the gradient in float64 on; where that is within the tolerance nothing is left to do.
        descent.run(iterations, tolerance)
        weights = descent.parameters[:, :-1].cpu().numpy()
        bias = descent.parameters[:, -1].cpu().numpy() - weights @ problem.mean
        if self._basis is not None and self._mean is not None:
            weights = weights @ self._basis.T
            bias = bias - weights @ self._mean
        return Head(weights, bias, penalty, descent.iterations, descent.largest, descent.done(tolerance))


def fit_head(
    rows: NDArray[np.float32],
    targets: NDArray[np.int64] | NDArray[np.int8],
    classes: int,
    penalty: float,
    *,
    device: torch.device | str = "cpu",
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Head:
    """Fit one head; see `Solver`."""
    return Solver(rows, targets, classes, device).fit(penalty, iterations=iterations, tolerance=tolerance)


def _basis(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (D, N) directions in which fewer images than features differ, and the mean, from which they do.

    The best weights lie in these directions, so nothing is lost by solving there, and a few images take no time.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    directions: NDArray[np.float64] = np.linalg.qr((rows - mean).T)[0]
    return directions, mean


def _check(rows: NDArray[np.float32], targets: NDArray[np.int64] | NDArray[np.int8], classes: int) -> None:
    if not len(rows) or len(rows) != len(targets):
        raise DataError(f"{len(rows):,} images with features and {len(targets):,} labels: nothing can be fitted")
    if targets.ndim == 1 and classes < 2:
        raise DataError(f"a probe needs two classes or more, not {classes}")
    low, high = (0, classes - 1) if targets.ndim == 1 else (-1, 1)
    if targets.min() < low or targets.max() > high:
        raise DataError(f"labels must be {low} to {high}; there are {targets.min()} to {targets.max()}")
    if targets.ndim == 2 and targets.shape[1] != classes:
        raise DataError(f"labels have {targets.shape[1]} columns for {classes} classes")
    if not np.isfinite(rows).all():
        raise DataError("features are not finite")
    largest = float(np.abs(rows).max(initial=0.0))
    if largest > _MOST_FEATURE:
        raise DataError(f"features are as large as {largest:.0e}; scale them to {_MOST_FEATURE:.0e} at most")


class _Descent:
    """L-BFGS from given parameters."""

    def __init__(self, problem: Problem, parameters: Tensor, shrink: float) -> None:
        self._problem, self._shrink = problem, shrink
        self.parameters = parameters
        self.iterations = 0
        self.largest = self.objective = float("inf")
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._spread = 0.0
        self._factor = parameters

    @property
    def _rounding(self) -> float:
        """Share of the objective that rounding hides."""
        return float(torch.finfo(self._problem.dtype).eps)

    @property
    def _least(self) -> float:
        """Share of the objective that is not worth a step: float64 gradients are right where values no longer are."""
        return self._rounding if self._problem.dtype == torch.float32 else self._rounding**1.75

    def done(self, tolerance: float) -> bool:
        """Return whether the gradient is within the tolerance of the objective."""
        return self.largest <= tolerance * min(1.0, self.objective)

    def run(self, iterations: int, tolerance: float) -> None:
        """Descend until the gradient is small, the number of all iterations is reached, or rounding stops it."""
        problem = self._problem
        problem.place(self.parameters)
        point = problem.at(0.0)
        gradient = self._gradient(point)
        while not self.done(tolerance) and self.iterations < iterations:
            direction = self._direction(gradient)
            slope = float((gradient * direction).sum())
            if -slope <= self._least * self.objective:
                return
            problem.aim(direction)
            found = self._search(direction, point.value, slope)
            if found is None:
                return
            length, point = found
            problem.step(length)
            step = length * direction
            self.parameters = self.parameters + step
            after = self._gradient(point)
            change = after - gradient
            curvature = float((step * change).sum())
            if curvature > 1e-10 * float(step.norm() * change.norm()):
                self._pairs = [*self._pairs[-_MEMORY + 1 :], (step, change)]
            gradient = after
            self.iterations += 1

    def _gradient(self, point: Point) -> Tensor:
        gradient = self._problem.gradient()
        gradient[:, :-1] += self._shrink * self.parameters[:, :-1]
        self.largest = float(gradient.abs().max())
        self.objective = point.value + self._shrink / 2 * float(self.parameters[:, :-1].square().sum())
        if not 0.5 <= point.spread / (self._spread or 1e-30) <= 2:
            self._spread = point.spread
            self._factor = self._factored()
        return gradient

    def _factored(self) -> Tensor:
        """Return the Cholesky factor of the guess, with as much added to its diagonal as rounding makes necessary."""
        curvature = self._problem.curvature()
        diagonal = curvature.diagonal()
        added = 1e-7 * float(diagonal.mean()) + 1e-30
        diagonal[:-1].add_(self._shrink)
        while True:
            diagonal.add_(added)
            factor: Tensor
            factor, failed = torch.linalg.cholesky_ex(curvature)
            if not failed:
                return factor
            added *= 10

    def _direction(self, gradient: Tensor) -> Tensor:
        """Return minus the gradient times L-BFGS's inverse, the two loops of which are two triangular systems here."""
        if not self._pairs:
            return -self._guessed(gradient)
        steps = torch.stack([step.flatten() for step, _ in self._pairs])
        changes = torch.stack([change.flatten() for _, change in self._pairs])
        upper = (steps @ changes.T).triu()
        first = torch.linalg.solve_triangular(upper, (steps @ gradient.flatten())[:, None], upper=True)
        found: Tensor = self._guessed((gradient.flatten() - changes.T @ first[:, 0]).view_as(gradient))
        change = changes[-1].view_as(gradient)
        found *= float(upper[-1, -1]) / float((change * self._guessed(change)).sum())
        rest = upper.diagonal() * first[:, 0] - changes @ found.flatten()
        second: Tensor = torch.linalg.solve_triangular(upper.T, rest[:, None], upper=False)
        found = found + (steps.T @ second[:, 0]).view_as(found)
        return -found

    def _guessed(self, gradient: Tensor) -> Tensor:
        """Apply the inverse of the guess to (K, D + 1)."""
        return torch.cholesky_solve(gradient.T, self._factor).T

    def _search(self, direction: Tensor, loss: float, slope: float) -> tuple[float, Point] | None:
        """Return a length whose slope is well below the first, and the objective there; None if rounding forbids."""
        moved, held = direction[:, :-1], self.parameters[:, :-1]
        across, along = float((held * moved).sum()), float((moved * moved).sum())

        def at(length: float) -> tuple[float, float, Point]:
            point = self._problem.at(length)
            shrunk = self._shrink * (length * across + length * length * along / 2)
            return point.value + shrunk, point.slope + self._shrink * (across + length * along), point

        if slope >= 0:
            return None
        low, high, length = 0.0, float("inf"), 1.0
        for _ in range(40):
            here, there, point = at(length)
            if not here <= loss + 1e-4 * length * slope + self._rounding * abs(loss):
                high = length
            elif there < 0.9 * slope:
                low = length
            else:
                return length, point
            length = 2 * low if high == float("inf") else (low + high) / 2
        return None
