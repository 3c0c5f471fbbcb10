"""Compute the learning rate over a run: linear warm-up, then a cosine to zero that ends with the run."""

import math

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ScheduleSettings
from openwit.training.config.duration import Horizon, Position


class CosineSchedule:
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
        whole = Horizon.of(settings.duration, horizon.epoch_samples, horizon.batch_size)
        warmup = settings.warmup
        if warmup.unit == "percent":
            share = warmup.value / 100
        elif whole.total_samples is not None:
            scale = {"steps": horizon.batch_size, "samples": 1, "epochs": horizon.epoch_samples}[warmup.unit]
            share = warmup.value * scale / whole.total_samples
        else:
            share = warmup.value / settings.duration.value
        if share > 1:
            raise RecipeError(
                f"schedule.warmup {warmup} is longer than the run ({settings.duration}), whose learning rate would "
                "never reach optim.lr: give less, or a percentage"
            )
        self._warmup = share

    def rate(self, before: Position, after: Position) -> float:
        """Return the learning rate of a step.

        Args:
            before: position at which the step begins; determines the cosine.
            after: position after the step (with a clock: the expected one); determines the
                warm-up, so that the rate of the first step is not zero.
        """
        reached = self._horizon.done(after)
        if reached < self._warmup:
            return self._peak * reached / self._warmup
        done = self._horizon.done(before)
        if done <= self._warmup:
            return self._peak
        return self._peak * 0.5 * (1 + math.cos(math.pi * (done - self._warmup) / (1 - self._warmup)))
