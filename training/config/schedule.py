"""The `schedule` section: duration and learning rate."""

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Duration


class ScheduleSettings(Settings):
    """Duration and learning rate: linear warm-up, then a cosine to zero."""

    duration: Duration = Field(description="e.g. 32 epochs, 20000 steps, 1e9 samples, or 20 min of wall clock")
    warmup: Duration = Field(Duration(value=5, unit="percent"), description="e.g. 2000 steps, or 5% of the run")

    @pydantic.model_validator(mode="after")
    def _compatible(self) -> "ScheduleSettings":
        if self.duration.unit == "percent":
            raise ValueError("duration cannot be a percentage: give steps, samples, epochs or minutes")
        if self.duration.value <= 0:
            raise ValueError("duration must be more than nothing")
        if self.warmup.unit == "percent" and self.warmup.value > 100:
            raise ValueError(f"warmup {self.warmup} is longer than the run: give 100% or less")
        timed = self.duration.unit == "minutes"
        if self.warmup.unit != "percent" and (self.warmup.unit == "minutes") != timed:
            raise ValueError(
                f"warmup {self.warmup} cannot be compared with duration {self.duration}: give a percentage"
            )
        return self
