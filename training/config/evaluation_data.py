"""Settings of where evaluation data are: for suites, commands and evaluators during training."""

from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Metric

DataKind = Literal["labelled", "captioned"]


class LabelledPlace(Settings):
    """Where labelled images are, and those that probes are trained on."""

    data: Path | None = Field(None, description="the images: of zero-shot's or retrieval's layouts")
    known: str | None = Field(None, description="instead of data: name of a known dataset, below root")
    root: Path = Field(Path("."), description="folder of known datasets")
    split: str | None = Field(None, description="split of the test images; null: the held-out one")
    train: Path | None = Field(None, description="training images of probes; null: data")
    train_split: str | None = Field(None, description="split of the training images; null: train, if train is null")
    val: Path | None = Field(None, description="images that choose a probe's penalty; null: train")
    val_split: str | None = Field(None, description="split that chooses a probe's penalty; null: a part of train")
    classes: Path | None = Field(None, description="names of numbered classes, one per line; null: the data's own")
    image_column: str | None = Field(None, description="column of images in Parquet")
    label_column: str | None = Field(None, description="column of labels in Parquet")

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> "LabelledPlace":
        if (self.data is None) == (self.known is None):
            raise ValueError("give either data, or known with root")
        if self.known is not None and (self.image_column or self.label_column or self.train or self.val):
            raise ValueError(
                "image_column, label_column, train and val are for data: a known dataset's layout is known"
            )
        return self


class DatasetSettings(LabelledPlace):
    """A dataset of a suite."""

    name: str = Field(min_length=1, max_length=200, description="what results call it")
    kind: DataKind = Field("labelled", description="images with classes, or images with captions")
    images: Path | None = Field(None, description="folder of the images that a JSON of captions names")
    caption_column: str | None = Field(None, description="column of captions")
    prompts: list[str] = Field([], description="templates for zero-shot; []: those beside the data, else paper")
    metric: Metric | None = Field(None, description="main metric; null: the known dataset's, else accuracy")
    base: "str | DatasetSettings | None" = Field(
        None, description="for robustness: name of the suite's dataset that this one is a shifted version of"
    )
    mapping: Path | None = Field(None, description="for robustness: JSON of classes and their classes in base")
    report: Path | None = Field(None, description="for overlap: report of `wit decontaminate ... --against` it")

    @pydantic.model_validator(mode="after")
    def _of_its_kind(self) -> "DatasetSettings":
        if self.known is not None and self.kind != "labelled":
            raise ValueError("known datasets are labelled: give data for captions")
        probes = ("train", "train_split", "val", "val_split")
        labelled = (*probes, "classes", "label_column", "prompts", "metric", "base", "mapping", "report")
        foreign = labelled if self.kind == "captioned" else ("images", "caption_column")
        given = [key for key in foreign if getattr(self, key) not in (None, [])]
        if given:
            raise ValueError(f"{' and '.join(given)} cannot be given for {self.kind} images")
        if self.mapping is not None and self.base is None:
            raise ValueError("mapping is for a dataset with base")
        return self
