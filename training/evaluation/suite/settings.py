"""Settings of a suite: models, datasets and measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from openwit.schemas.common.command import path_or_url
from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Weights
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.limits import LARGEST_BATCH
from openwit.training.config.measurements import MEASUREMENTS
from openwit.training.evaluation.measurements.settings import NamedMeasurement


class SuiteModel(Settings):
    """A model of a suite."""

    path: Path = Field(description="run folder or its URL, checkpoint, or weights of OpenAI's, open_clip's or HF's")
    name: str | None = Field(None, min_length=1, max_length=200, description="what results call it; null: the path")
    weights: Weights = Field(Weights.MODEL, description="trained weights, or their moving average")
    quick_gelu: bool | None = Field(None, description="activation of weights of other programs")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value

    @pydantic.field_validator("path", mode="after")
    @classmethod
    def _or_url(cls, value: Path) -> Path:
        return path_or_url(str(value)) if "://" in str(value) else value

    @property
    def title(self) -> str:
        """Return what results call it."""
        return self.name or str(self.path)


class SuiteSettings(Settings):
    """A suite: every model is measured on every dataset of a measurement's kind."""

    name: str = Field("suite", min_length=1, max_length=200, description="title of the page")
    models: list[SuiteModel] = Field([], description="models; those of the command line come after them")
    datasets: list[DatasetSettings] = Field(min_length=1, description="images with classes or captions")
    measurements: list[NamedMeasurement] = Field(
        min_length=1, description=f"{', '.join(MEASUREMENTS)}, or the dotted name of your own function"
    )
    batch_size: int = Field(256, ge=1, le=LARGEST_BATCH, description="images or texts embedded at once")

    def with_models(self, paths: Sequence[Path]) -> "SuiteSettings":
        """Return the suite with more models."""
        return self.model_copy(update={"models": [*self.models, *(SuiteModel(path=path) for path in paths)]})
