"""Health checks: stop on non-finite metrics; warn once per start about symptoms of a run that does not learn."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from openwit.training.config.duration import Position

# Steps that a GPU may lag behind the host before the host reads their metrics; by then they are computed.
GPU_LAG = 2

# The loss of a model that guesses is ln(batch); above this share of it, the loss has not moved.
NOT_MOVED = 0.98
# No warning about the loss before this share of the run and this number of records.
MOVED_BY, RECORDS = 0.1, 5
CLAMPED, CLAMPED_STEPS = 0.999, 1_000
STARVING = 0.2
# Launching then takes twice as long as the launching thread itself runs.
HELD_UP = 0.5
# The first batches are always waited for, and the first steps compile, so they are not counted.
# After that, this much time is measured before a warning.
SETTLING_STEPS, SETTLED_SECONDS = 20, 30.0


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of a step, possibly still being copied from the device.

    Attributes:
        position: of the run after the step.
        lr: learning rate of the step.
        keys: samples of this process.
        names: of the values.
        values: (len(names),) float32; from a GPU in page-locked memory, valid once `arrived` has happened.
        arrived: None if they are valid already.
    """

    position: Position
    lr: float
    keys: list[str]
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event | None = None

    @classmethod
    def of(cls, position: Position, *, lr: float, keys: list[str], metrics: dict[str, Tensor]) -> "StepMetrics":
        """Start copying the metrics of a step to the host, without waiting."""
        values = torch.stack([value.detach().float() for value in metrics.values()])
        if not values.is_cuda:
            return cls(position, lr, keys, tuple(metrics), values)
        host = torch.empty(values.shape, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return cls(position, lr, keys, tuple(metrics), host, arrived)

    def read(self) -> dict[str, float]:
        """Return the metrics by name; waits for the copy."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


class PendingMetrics:
    """Metrics of the last steps, in order. The host reads those that a GPU has surely computed, and never waits.

    Which steps are read when depends only on the number of steps, so that all ranks find a problem in the same step.

    Args:
        device: where the steps are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._lag = GPU_LAG if device.type == "cuda" else 0
        self._waiting: deque[StepMetrics] = deque()

    def add(self, metrics: StepMetrics) -> list[StepMetrics]:
        """Add a step's metrics; return those to read now."""
        self._waiting.append(metrics)
        return [self._waiting.popleft() for _ in range(len(self._waiting) - self._lag)]

    def drain(self) -> list[StepMetrics]:
        """Return all remaining metrics; reading them waits for the device."""
        left = list(self._waiting)
        self._waiting.clear()
        return left


def non_finite(metrics: dict[str, float], *, scaled: bool) -> str | None:
    """Return which metric ends the run, in words; None if none does.

    Args:
        metrics: `loss` and `grad_norm`, and with fp16 the `loss_scale` of the step.
        scaled: whether the loss was scaled. Then overflowing gradients are expected: the step is skipped and the
            scale halves. They end the run only if the scale cannot be lowered further.
    """
    if not math.isfinite(metrics["loss"]):
        return f"the loss is {metrics['loss']}"
    if math.isfinite(metrics["grad_norm"]) or (scaled and metrics["loss_scale"] > 1):
        return None
    return f"the gradient's norm is {metrics['grad_norm']} (loss {metrics['loss']:.4g})"


@dataclass(frozen=True)
class HealthWarning:
    """A warning: its cause (one of a fixed set) and a sentence."""

    cause: str
    sentence: str


class Warnings:
    """Checks the records of a run; each cause is reported once per start.

    Args:
        guess_loss: loss of a model that guesses; None if it is not known.
        max_logit_scale: bound of the logit scale; None if it has none.
        start: step that this start began from.
        threads: of the loader in this process.
    """

    def __init__(
        self, guess_loss: float | None, max_logit_scale: float | None, *, start: int = 0, threads: int = 0
    ) -> None:
        self._guess_loss = guess_loss
        self._max_logit_scale = max_logit_scale
        self._reported: set[str] = set()
        self._losses: deque[float] = deque(maxlen=RECORDS)
        self._clamped_since: int | None = None
        self._settled = start + SETTLING_STEPS
        self._before = start
        self._threads = threads
        self._waiting = self._seconds = self._held_up = 0.0

    def record(self, step: int, *, done: float, metrics: dict[str, float]) -> list[HealthWarning]:
        """Return new warnings about a record.

        Args:
            step: of the record.
            done: share of the run that is completed.
            metrics: `loss`, `logit_scale`, `loader_wait`, `launch_wait`, `device_gap` and `seconds` since the last
                record, if present.
        """
        found = [self._still(step, done, metrics), self._stuck(step, metrics), *self._starving(step, metrics)]
        fresh = [warning for warning in found if warning is not None and warning.cause not in self._reported]
        self._reported.update(warning.cause for warning in fresh)
        return fresh

    def _still(self, step: int, done: float, metrics: dict[str, float]) -> HealthWarning | None:
        self._losses.append(metrics["loss"])
        if self._guess_loss is None or done < MOVED_BY or len(self._losses) < RECORDS:
            return None
        mean = sum(self._losses) / len(self._losses)
        if mean < NOT_MOVED * self._guess_loss:
            return None
        return HealthWarning(
            "loss_not_moving",
            f"after {100 * done:.0f}% of the run (step {step}) the loss is {mean:.3f}, that of guessing "
            f"({self._guess_loss:.3f}): try another optim.lr, or check that texts fit their images",
        )

    def _stuck(self, step: int, metrics: dict[str, float]) -> HealthWarning | None:
        if self._max_logit_scale is None or metrics.get("logit_scale", 0.0) < CLAMPED * self._max_logit_scale:
            self._clamped_since = None
            return None
        if self._clamped_since is None:
            self._clamped_since = step
        if step - self._clamped_since < CLAMPED_STEPS:
            return None
        return HealthWarning(
            "logit_scale_clamped",
            f"the logit scale has been at its bound of {self._max_logit_scale:g} since step {self._clamped_since}: "
            "more varied data or a smaller optim.lr would keep it below",
        )

    def _starving(self, step: int, metrics: dict[str, float]) -> list[HealthWarning]:
        # A record covers the steps since the last one, so all of those must be past the first steps.
        before, self._before = self._before, step
        if before < self._settled:
            return []
        self._seconds += metrics.get("seconds", 0.0)
        self._waiting += metrics.get("seconds", 0.0) * metrics.get("loader_wait", 0.0)
        if "device_gap" in metrics:  # a CPU's operations take so long that waits between them matter little
            self._held_up += metrics.get("seconds", 0.0) * metrics.get("launch_wait", 0.0)
        if self._seconds < SETTLED_SECONDS:
            return []
        found = []
        if self._waiting >= STARVING * self._seconds:
            sentence = (
                f"{100 * self._waiting / self._seconds:.0f}% of the time is spent waiting for the loader: raise "
                "data.workers, or store images closer to the model's size"
            )
            found.append(HealthWarning("loader_starving", sentence))
        if self._held_up >= HELD_UP * self._seconds:
            remedy = (
                "set data.workers_in: processes, or lower data.workers"
                if self._threads
                else "leave more cores to it: lower data.workers or threads, or stop what else runs on this machine"
            )
            sentence = (
                f"for {100 * self._held_up / self._seconds:.0f}% of the time in which the training thread launches "
                f"work it does not get to run: {remedy}"
            )
            found.append(HealthWarning("launching_held_up", sentence))
        return found
