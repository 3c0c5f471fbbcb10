"""Evaluate the objective of logistic regression along a line, and its gradient, by blocks of images.

The objective is scikit-learn's: mean loss + penalty / (2 N) · |weights|², the intercepts without a penalty, so that
the penalty is 1 / C. Features are centred first, which changes the intercepts only and makes the problem rounder.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_MOST_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Point:
    """The objective at a place on a line: its value, its slope, and the mean of (p - y)².

    The last is p (1 - p) on average, the curvature, where the probabilities p are right.
    """

    value: float
    slope: float
    spread: float


class Problem:
    """Loss of a linear head with given features, and the logits at the current parameters.

    Args:
        rows: (N, D) features.
        targets: (N,) int64 classes, of which one is right; or (N, K) of 1, 0 and -1, each column a problem of its own
            (several labels to an image), -1 being left out.
        classes: K.
        device: where to compute.
    """

    def __init__(
        self,
        rows: NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.int8],
        classes: int,
        device: torch.device,
    ) -> None:
        mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._rows = torch.from_numpy(rows - mean).to(device)
        self.mean = mean.astype(np.float64)
        self._one = targets.ndim == 1
        self._targets = torch.from_numpy(np.ascontiguousarray(targets).astype(np.int64)).to(device)
        self.count, self.width = rows.shape
        self.classes = classes
        self.device = device
        self.dtype = torch.float32
        size = max(1, _MOST_NUMBERS // max(self.width, classes))
        self._blocks = [slice(start, min(start + size, self.count)) for start in range(0, self.count, size)]
        self._logits = self._made()
        self._moves = self._made()
        self._residuals = self._made()

    def _made(self) -> Tensor:
        return torch.zeros(self.count, self.classes, dtype=self.dtype, device=self.device)

    def restart(self) -> None:
        """Forget all logits, and go on in `dtype`."""
        self._logits, self._moves, self._residuals = self._made(), self._made(), self._made()

    def curvature(self) -> Tensor:
        """Return (D + 1, D + 1) float64, the mean over classes of the loss's curvature at the last `at`.

        Of an image and a class it is p (1 - p), times the products of the features and 1; between classes it is
        left out. That of an image that the head separates well is next to nothing.
        """
        total = torch.zeros(self.width + 1, self.width + 1, dtype=torch.float64, device=self.device)
        for block in self._blocks:
            off = self._residuals[block].abs()
            shares = (off * (1 - off)).mean(dim=1, keepdim=True).sqrt_().float()
            rows = torch.cat([self._rows[block] * shares, shares], dim=1)
            total += (rows.T @ rows).double()
        return total.div_(self.count)

    def place(self, parameters: Tensor) -> None:
        """Compute the logits of (K, D + 1) parameters."""
        self._apply(parameters, self._logits)

    def aim(self, direction: Tensor) -> None:
        """Compute by how much a (K, D + 1) direction moves the logits."""
        self._apply(direction, self._moves)

    def step(self, length: float) -> None:
        """Move along the direction."""
        self._logits.add_(self._moves, alpha=length)

    def at(self, length: float) -> Point:
        """Return the mean loss, its slope along the direction, and (p - y)², after a step of this length."""
        value = slope = spread = 0.0
        for block in self._blocks:
            logits = torch.add(self._logits[block], self._moves[block], alpha=length)
            targets, residuals = self._targets[block], self._residuals[block]
            if self._one:
                logs = logits.log_softmax(dim=1)
                value -= float(logs.gather(1, targets[:, None]).sum(dtype=torch.float64))
                torch.exp(logs, out=residuals)
                residuals.scatter_add_(1, targets[:, None], torch.full_like(logits[:, :1], -1))
            else:
                judged = (targets >= 0).to(logits.dtype)
                truth = targets.clamp(min=0).to(logits.dtype)
                value += float(((F.softplus(logits) - logits * truth) * judged).sum(dtype=torch.float64))
                torch.sigmoid(logits, out=residuals)
                residuals.sub_(truth).mul_(judged)
            slope += float((residuals * self._moves[block]).sum(dtype=torch.float64))
            spread += float(residuals.square().sum(dtype=torch.float64))
        return Point(value / self.count, slope / self.count, max(spread / (self.count * self.classes), 1e-12))

    def gradient(self) -> Tensor:
        """Return (K, D + 1) float64, the gradient of the mean loss at the last `at`."""
        total = torch.zeros(self.classes, self.width + 1, dtype=torch.float64, device=self.device)
        for block in self._blocks:
            residuals = self._residuals[block]
            total[:, :-1] += (residuals.T @ self._rows[block].to(self.dtype)).double()
            total[:, -1] += residuals.sum(dim=0, dtype=torch.float64)
        return total.div_(self.count)

    def _apply(self, parameters: Tensor, out: Tensor) -> None:
        weights, bias = parameters[:, :-1].T.to(self.dtype), parameters[:, -1].to(self.dtype)
        for block in self._blocks:
            torch.addmm(bias, self._rows[block].to(self.dtype), weights, out=out[block])
