"""The `schedule` section: duration and learning rate."""

from typing import Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Duration


class ScheduleSettings(Settings):
    """Duration and learning rate: linear warm-up, then a cosine to zero, or another shape."""

    duration: Duration = Field(description="e.g. 32 epochs, 20000 steps, 1e9 samples, or 20 min of wall clock")
    warmup: Duration = Field(Duration(value=5, unit="percent"), description="e.g. 2000 steps, or 5% of the run")

    shape: Literal["cosine", "constant", "constant_with_cooldown"] = Field(
        "cosine", description="after the warm-up; the cooldown falls as one minus the square root (arXiv 2405.18392)"
    )
    floor: float = Field(0.0, ge=0, le=1, description="where cosine and cooldown end, as a share of optim.lr")
    cooldown: Duration = Field(
        Duration(value=20, unit="percent"), description="length of the cooldown at the end of the run"
    )
    head_warmup: Duration = Field(
        Duration(value=0, unit="percent"),
        description="first only the head (projections, temperature) learns, at a rate that rises linearly; then all "
        "else begins with warmup",
    )

    @pydantic.model_validator(mode="after")
    def _compatible(self) -> "ScheduleSettings":
        if self.duration.unit == "percent":
            raise ValueError("duration cannot be a percentage: give steps, samples, epochs or minutes")
        if self.duration.value <= 0:
            raise ValueError("duration must be more than nothing")
        timed = self.duration.unit == "minutes"
        for key in ("warmup", "cooldown", "head_warmup"):
            part: Duration = getattr(self, key)
            if part.unit == "percent" and part.value > 100:
                raise ValueError(f"{key} {part} is longer than the run: give 100% or less")
            if part.unit != "percent" and (part.unit == "minutes") != timed:
                raise ValueError(f"{key} {part} cannot be compared with duration {self.duration}: give a percentage")
        return self
