"""Compute the learning rate over a run: linear warm-up, then a cosine or another shape."""

import math

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ScheduleSettings
from openwit.training.config.duration import Duration, Horizon, Position


class Schedule:
    """Schedule of the paper, over steps, samples, epochs or the clock.

    Args:
        settings: duration and warm-up.
        horizon: the run's length.
        peak: learning rate at the end of the warm-up.

    Raises:
        RecipeError: the warm-up is longer than the run.
    """

    def __init__(self, settings: ScheduleSettings, horizon: Horizon, peak: float) -> None:
        self._horizon = horizon
        self._peak = peak
        self._settings = settings
        self._warmup = _share(settings.warmup, settings, horizon)
        self._head = _share(settings.head_warmup, settings, horizon)
        self._cooldown = _share(settings.cooldown, settings, horizon)
        whole = self._head + self._warmup
        if settings.shape == "constant_with_cooldown":
            whole += self._cooldown
        if whole > 1 + 1e-9:
            parts = f"schedule.warmup {settings.warmup}"
            if self._head:
                parts = f"schedule.head_warmup {settings.head_warmup} and {parts}"
            if settings.shape == "constant_with_cooldown":
                parts += f" and schedule.cooldown {settings.cooldown}"
            raise RecipeError(
                f"{parts} is longer than the run ({settings.duration}), whose learning rate would never reach "
                "optim.lr: give less, or a percentage"
            )

    def rate(self, before: Position, after: Position) -> float:
        """Return the learning rate of a step.

        Args:
            before: position at which the step begins; determines the cosine.
            after: position after the step (with a clock: the expected one); determines the
                warm-up, so that the rate of the first step is not zero.
        """
        reached = self._horizon.done(after) - self._head
        if reached <= 0 and self._head:
            return 0.0
        if reached < self._warmup:
            return self._peak * reached / self._warmup
        return self._peak * self._fallen(self._horizon.done(before))

    def head_rate(self, before: Position, after: Position) -> float | None:
        """Return the learning rate of the head; None if it has none of its own."""
        if not self._head:
            return None
        reached = self._horizon.done(after)
        if reached < self._head:
            return self._peak * reached / self._head
        return self._peak * self._fallen(self._horizon.done(before))

    def _fallen(self, done: float) -> float:
        """Return the share of the peak after the warm-up."""
        shape, floor = self._settings.shape, self._settings.floor
        begin = self._head + self._warmup
        if shape == "constant_with_cooldown":
            begin = 1 - self._cooldown
        if shape == "constant" or done <= begin:
            return 1.0
        gone = (done - begin) / (1 - begin)
        left = 0.5 * (1 + math.cos(math.pi * gone)) if shape == "cosine" else 1 - math.sqrt(gone)
        return floor + (1 - floor) * left


def _share(part: Duration, settings: ScheduleSettings, horizon: Horizon) -> float:
    """Return a duration as a share of the run."""
    if part.unit == "percent":
        return part.value / 100
    whole = Horizon.of(settings.duration, horizon.epoch_samples, horizon.batch_size)
    if whole.total_samples is None:
        return part.value / settings.duration.value
    scale = {"steps": horizon.batch_size, "samples": 1, "epochs": horizon.epoch_samples}[part.unit]
    return part.value * scale / whole.total_samples
