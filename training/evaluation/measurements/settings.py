"""Settings of measurements: where the data are, and how they are measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Layer, Metric
from openwit.training.config.limits import MOST_SAMPLES
from openwit.training.config.plugins import is_dotted

DataKind = Literal["labelled", "captioned"]


class DatasetSettings(Settings):
    """A dataset of a suite."""

    name: str = Field(min_length=1, max_length=200, description="what results call it")
    kind: DataKind = Field("labelled", description="images with classes, or images with captions")
    data: Path | None = Field(None, description="the images: of zero-shot's or retrieval's layouts")
    known: str | None = Field(None, description="instead of data: name of a known dataset, below root")
    root: Path = Field(Path("."), description="folder of known datasets")
    split: str | None = Field(None, description="split of the test images; null: the held-out one")
    train: Path | None = Field(None, description="training images of probes; null: data")
    train_split: str | None = Field(None, description="split of the training images; null: train, if train is null")
    val_split: str | None = Field(None, description="split that chooses a probe's penalty; null: a part of train")
    classes: Path | None = Field(None, description="names of numbered classes, one per line; null: the data's own")
    images: Path | None = Field(None, description="folder of the images that a JSON of captions names")
    image_column: str | None = Field(None, description="column of images in Parquet")
    label_column: str | None = Field(None, description="column of labels in Parquet")
    caption_column: str | None = Field(None, description="column of captions")
    prompts: list[str] = Field([], description="templates for zero-shot; []: those beside the data, else paper")
    metric: Metric | None = Field(None, description="main metric; null: the known dataset's, else accuracy")

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> "DatasetSettings":
        if (self.data is None) == (self.known is None):
            raise ValueError("give either data, or known with root")
        if self.known is not None and self.kind != "labelled":
            raise ValueError("known datasets are labelled: give data for captions")
        labelled = ("train", "train_split", "val_split", "classes", "label_column", "prompts", "metric")
        captioned = ("images", "caption_column")
        foreign = labelled if self.kind == "captioned" else captioned
        given = [key for key in foreign if getattr(self, key) not in (None, [])]
        if given:
            raise ValueError(f"{' and '.join(given)} cannot be given for {self.kind} images")
        if self.known is not None and (self.image_column or self.label_column or self.train):
            raise ValueError("image_column, label_column and train are for data: a known dataset's layout is known")
        return self


class MeasurementSettings(Settings):
    """What all measurements have."""

    name: str = Field(description="of the measurement")
    datasets: list[str] | None = Field(None, description="names of datasets; null: all of the right kind")
    label: str | None = Field(None, min_length=1, max_length=200, description="name in results; null: name")


class ZeroShotMeasurement(MeasurementSettings):
    """Zero-shot classification."""

    name: Literal["zero_shot"] = Field("zero_shot", description="accuracy on labelled images, classes as texts")
    prompts: list[str] = Field([], description="sets of templates, the first is the main one; []: the dataset's")
    metric: Metric | None = Field(None, description="main metric; null: the dataset's")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="images, a random sample; null: all")
    allow_train: bool = Field(False, description="also images that the model was trained on")


class RetrievalMeasurement(MeasurementSettings):
    """Image-text retrieval."""

    name: Literal["retrieval"] = Field("retrieval", description="recall at 1, 5 and 10 in both directions")
    prefix: str = Field("", description="put before every caption")
    limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="images, the first ones; null: all")
    allow_train: bool = Field(False, description="also the split that the model was trained on")


class ProbeMeasurement(MeasurementSettings):
    """Linear probe."""

    name: Literal["probe"] = Field("probe", description="logistic regression on image features, penalty swept")
    metric: Metric | None = Field(None, description="on validation and test images; null: the dataset's")
    layer: Layer = Field(Layer.PENULTIMATE, description="features before the projection, or after it")
    seed: int = Field(0, ge=0, le=MOST_SAMPLES, description="of the images held out")
    train_limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class FewShotMeasurement(MeasurementSettings):
    """Few-shot probes."""

    name: Literal["few_shot"] = Field("few_shot", description="probes of a few images of each class")
    shots: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        [1, 2, 4, 8, 16], min_length=1, max_length=100, description="images per class"
    )
    seeds: int = Field(3, ge=1, le=100, description="draws of each number")
    metric: Metric | None = Field(None, description="on validation and test images; null: the dataset's")
    layer: Layer = Field(Layer.PENULTIMATE, description="features before the projection, or after it")
    train_limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class CustomMeasurement(PluginSettings):
    """Your own measurement by dotted name; keys other than these are passed to it as keyword arguments."""

    datasets: list[str] | None = Field(None, description="names of datasets; null: all")
    label: str | None = Field(None, description="name in results; null: name")


AnyMeasurement = ZeroShotMeasurement | RetrievalMeasurement | ProbeMeasurement | FewShotMeasurement | CustomMeasurement

BUILT_IN: dict[str, type[AnyMeasurement]] = {
    "zero_shot": ZeroShotMeasurement,
    "retrieval": RetrievalMeasurement,
    "probe": ProbeMeasurement,
    "few_shot": FewShotMeasurement,
}


def _by_name(value: object) -> object:
    """Choose the settings class by `name`."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    name = value.get("name")
    if is_dotted(name):
        return CustomMeasurement.model_validate(value)
    if not isinstance(name, str) or name not in BUILT_IN:
        raise ValueError(f"name {name!r} must be one of {', '.join(BUILT_IN)}, or your function's dotted name")
    return BUILT_IN[name].model_validate(value)


NamedMeasurement = Annotated[
    AnyMeasurement, pydantic.BeforeValidator(_by_name, json_schema_input_type=AnyMeasurement | str)
]


def settings_of(each: AnyMeasurement) -> dict[str, Any]:
    """Return what decides the result of a measurement, as JSON data; neither its label nor the list of datasets."""
    return each.model_dump(mode="json", exclude={"datasets", "label"})
