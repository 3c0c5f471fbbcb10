"""Durations in the unit a user thinks in: steps, samples, epochs, minutes of wall clock, or percent of the run."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pydantic
import pydantic.json_schema
from pydantic_core import CoreSchema

from openwit.schemas.common.settings import Settings

Unit = Literal["steps", "samples", "epochs", "minutes", "percent"]

LONGEST = 1e15
"""Largest number of a duration, in any unit."""

_PATTERN = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]+|%)\s*")
_UNITS: dict[str, tuple[Unit, float]] = {
    "step": ("steps", 1),
    "steps": ("steps", 1),
    "sample": ("samples", 1),
    "samples": ("samples", 1),
    "epoch": ("epochs", 1),
    "epochs": ("epochs", 1),
    "s": ("minutes", 1 / 60),
    "sec": ("minutes", 1 / 60),
    "second": ("minutes", 1 / 60),
    "seconds": ("minutes", 1 / 60),
    "min": ("minutes", 1),
    "minute": ("minutes", 1),
    "minutes": ("minutes", 1),
    "h": ("minutes", 60),
    "hour": ("minutes", 60),
    "hours": ("minutes", 60),
    "%": ("percent", 1),
    "percent": ("percent", 1),
}


class Duration(Settings):
    """A length of training, written `2000 steps`, `12.8e9 samples`, `32 epochs`, `20 min` or `5%`."""

    written_as: ClassVar[str] = "duration: number and unit (steps, samples, epochs, s, min, h or %)"

    value: float = pydantic.Field(ge=0, le=LONGEST, allow_inf_nan=False, description="number of units")
    unit: Unit = pydantic.Field(description="unit of the number")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: Any) -> Any:
        if isinstance(raw, dict | Duration):
            return raw
        match = _PATTERN.fullmatch(raw) if isinstance(raw, str) else None
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError("a duration is a number and a unit: steps, samples, epochs, s, min, h or %")
        return {"value": float(match[1].replace("_", "")) * unit[1], "unit": unit[0]}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: pydantic.GetJsonSchemaHandler
    ) -> pydantic.json_schema.JsonSchemaValue:
        """Return the JSON Schema of the written form."""
        return {"type": "string", "pattern": f"^{_PATTERN.pattern}$", "title": cls.written_as}

    @pydantic.model_serializer
    def _serialise(self) -> str:
        return str(self)

    def __str__(self) -> str:
        unit = {"percent": "%", "minutes": "min"}.get(self.unit, self.unit)
        return f"{self.value:.12g} {unit}"


def _not_empty(interval: Duration) -> Duration:
    if interval.value <= 0:
        raise ValueError("an interval must be longer than zero")
    return interval


Interval = Annotated[Duration, pydantic.AfterValidator(_not_empty)]
"""A duration between two of something."""


@dataclass(frozen=True)
class Position:
    """Progress of a run. `elapsed` is in seconds of training, over all starts of the run."""

    step: int = 0
    samples: int = 0
    elapsed: float = 0.0


@dataclass(frozen=True)
class Horizon:
    """Length of a run: a number of samples, or a number of seconds; one of the two is None.

    Args:
        epoch_samples: samples in one epoch.
        batch_size: samples in one step.
        total_samples: end of the run, for durations in steps, samples or epochs.
        total_seconds: end of the run, for durations in minutes.
    """

    epoch_samples: int
    batch_size: int
    total_samples: int | None
    total_seconds: float | None

    @classmethod
    def of(cls, duration: Duration, epoch_samples: int, batch_size: int) -> "Horizon":
        """Return the horizon of a run of this duration. The settings reject `percent` before this is called."""
        if duration.unit == "minutes":
            return cls(epoch_samples, batch_size, None, duration.value * 60)
        scale = {"steps": batch_size, "samples": 1, "epochs": epoch_samples}[duration.unit]
        return cls(epoch_samples, batch_size, math.ceil(duration.value * scale), None)

    @property
    def total_steps(self) -> int | None:
        """Number of steps, the last of which may be smaller; None if the clock ends the run."""
        return None if self.total_samples is None else -(-self.total_samples // self.batch_size)

    def done(self, position: Position) -> float:
        """Return the share of the run that is completed at `position`, in [0, 1]."""
        if self.total_samples is not None:
            return min(1.0, position.samples / max(1, self.total_samples))
        assert self.total_seconds is not None
        return min(1.0, position.elapsed / self.total_seconds) if self.total_seconds > 0 else 1.0

    def measure(self, position: Position, unit: Unit) -> float:
        """Return the position in a unit."""
        match unit:
            case "steps":
                return position.step
            case "samples":
                return position.samples
            case "epochs":
                return position.samples / self.epoch_samples
            case "minutes":
                return position.elapsed / 60
            case "percent":
                return 100 * self.done(position)


class Trigger:
    """Comes due each time the run passes another multiple of a duration.

    Args:
        every: the distance between two events; None or zero means never.
        horizon: the run's length.
        start: current position of the run; multiples up to here count as handled.
    """

    def __init__(self, every: Duration | None, horizon: Horizon, start: Position) -> None:
        self._every = every if every is not None and every.value > 0 else None
        self._horizon = horizon
        self._served = self._count(start)

    def due(self, position: Position) -> bool:
        """Return True once for each multiple passed (several passed at once count as one)."""
        count = self._count(position)
        if count <= self._served:
            return False
        self._served = count
        return True

    def _count(self, position: Position) -> int:
        if self._every is None:
            return 0
        # The tolerance keeps 3 x 0.1 epochs on the step that a person would expect.
        return math.floor(self._horizon.measure(position, self._every.unit) / self._every.value + 1e-9)
