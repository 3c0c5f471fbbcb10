"""Settings of measurements and the registry of them: the one list for suites, commands and `eval.evaluators`.

A measurement is an entry of `MEASUREMENTS` and the module that it names, which opens the data and measures; see
`openwit.training.evaluation.measurements.registry`. This module loads no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Layer, Metric
from openwit.training.config.duration import Interval
from openwit.training.config.evaluation_data import DataKind, LabelledPlace
from openwit.training.config.limits import MOST_SAMPLES

EVERY = "interval between two evaluations; null: that of eval.every"


class MeasurementSettings(Settings):
    """What all measurements have."""

    places: ClassVar[tuple[str, ...]] = ()
    """Keys of files: results depend on what these hold, not on where they are."""

    name: str = Field(description="of the measurement")
    datasets: list[str] | None = Field(None, description="names of datasets; null: all of the right kind")
    label: str | None = Field(None, min_length=1, max_length=200, description="name in results; null: name")


_METRIC = "on validation and test images; null: the dataset's"
_LAYER = "features before the projection, or after it"
_PROBE = "logistic regression on image features, penalty swept"
_FEW_SHOT = "probes of a few images of each class"
_IMAGES = "recall at 1, 5 and 10 of images of the same class"


class ProbeHow(Settings):
    """How a linear probe is measured."""

    metric: Metric | None = Field(None, description=_METRIC)
    layer: Layer = Field(Layer.PENULTIMATE, description=_LAYER)
    seed: int = Field(0, ge=0, le=MOST_SAMPLES, description="of the images held out")
    train_limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class FewShotHow(Settings):
    """How few-shot probes are measured."""

    shots: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        [1, 2, 4, 8, 16], min_length=1, max_length=100, description="images per class"
    )
    seeds: int = Field(3, ge=1, le=100, description="draws of each number")
    metric: Metric | None = Field(None, description=_METRIC)
    layer: Layer = Field(Layer.PENULTIMATE, description=_LAYER)
    train_limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class ImageToImageHow(Settings):
    """How image-to-image retrieval is measured."""

    group_column: str | None = Field(None, description="column of groups; null: label_column, or group of a table")
    limit: int | None = Field(None, ge=2, le=MOST_SAMPLES, description="images drawn; null: all")


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


class ProbeMeasurement(MeasurementSettings, ProbeHow):
    """Linear probe."""

    name: Literal["probe"] = Field("probe", description=_PROBE)


class FewShotMeasurement(MeasurementSettings, FewShotHow):
    """Few-shot probes."""

    name: Literal["few_shot"] = Field("few_shot", description=_FEW_SHOT)


class ImageToImageMeasurement(MeasurementSettings, ImageToImageHow):
    """Image-to-image retrieval."""

    name: Literal["image_to_image"] = Field("image_to_image", description=_IMAGES)


class RobustnessMeasurement(MeasurementSettings):
    """Accuracy under a shift of the data, of a dataset with `base`."""

    places: ClassVar[tuple[str, ...]] = ("baselines",)

    name: Literal["robustness"] = Field("robustness", description="accuracy on a shifted set and on its base")
    prompts: list[str] = Field([], max_length=1, description="templates; []: those of base, else paper")
    probed: bool = Field(False, description="also with a head probed on the training images of base")
    baselines: list[Path] = Field([], description="results of robustness whose models the line is fitted to")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="images of each set drawn; null: all")


class OverlapMeasurement(MeasurementSettings):
    """Accuracy on images that the training data show and on clean ones, of a dataset with `report`."""

    name: Literal["overlap"] = Field("overlap", description="what overlap with the training data adds to accuracy")
    prompts: list[str] = Field([], max_length=1, description="templates; []: the dataset's")
    limit: int | None = Field(None, ge=1, le=MOST_SAMPLES, description="images, a random sample; null: all")


class RetrievalSettings(Settings):
    """Image-text retrieval on a held-out split."""

    name: Literal["retrieval"] = Field("retrieval", description="recall at 1, 5 and 10 in both directions")
    every: Interval | None = Field(None, description=EVERY)
    dataset: Path | None = Field(None, description="dataset folder of the held-out split; null: the training data's")
    split: str = Field("val", description="held-out split")
    limit: int | None = Field(
        1000, ge=2, le=MOST_SAMPLES, description="images to evaluate on, the first ones; null: all"
    )


class ZeroShotSettings(Settings):
    """Zero-shot classification."""

    name: Literal["zero_shot"] = Field("zero_shot", description="accuracy on labelled images, classes as texts")
    every: Interval | None = Field(None, description=EVERY)
    data: Path = Field(
        description="Parquet file of images and labels, folder with one folder per class, or WebDataset tars with .cls"
    )
    split: str | None = Field(None, description="split of the data; null: the held-out one, if there are several")
    classes: Path | None = Field(None, description="names of numbered classes, one per line; null: the data's own")
    prompts: str = Field(
        "paper",
        description="paper, cifar10, name, a domain such as food, or a file of templates ({label}), also FILE#NAME",
    )
    limit: int | None = Field(
        1000, ge=1, le=MOST_SAMPLES, description="images to classify, a random sample; null: all"
    )


class ProbeSettings(LabelledPlace, ProbeHow):
    """Linear probe during training."""

    name: Literal["probe"] = Field("probe", description=_PROBE)
    every: Interval | None = Field(None, description=EVERY)
    train_limit: int | None = Field(5000, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(1000, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class FewShotSettings(LabelledPlace, FewShotHow):
    """Few-shot probes during training."""

    name: Literal["few_shot"] = Field("few_shot", description=_FEW_SHOT)
    every: Interval | None = Field(None, description=EVERY)
    train_limit: int | None = Field(5000, ge=2, le=MOST_SAMPLES, description="training images drawn; null: all")
    limit: int | None = Field(1000, ge=1, le=MOST_SAMPLES, description="test images drawn; null: all")


class ImageToImageSettings(LabelledPlace, ImageToImageHow):
    """Image-to-image retrieval during training."""

    name: Literal["image_to_image"] = Field("image_to_image", description=_IMAGES)
    every: Interval | None = Field(None, description=EVERY)
    limit: int | None = Field(1000, ge=2, le=MOST_SAMPLES, description="images drawn; null: all")


@dataclass(frozen=True)
class Entry:
    """A measurement.

    Attributes:
        settings: how it is measured; what results are kept by, but for `datasets`, `label` and where files are.
        code: module with `open_data` and `measure`, see `openwit.training.evaluation.measurements.registry.Code`.
        kind: of the data that it needs.
        main: the main one of its numbers, in words.
        needs: keys that its datasets must have.
        embeds: whether it compares embeddings, which a model of a predictive objective does not have.
        evaluator: settings in `eval.evaluators`: how it is measured and where the data are; None: not during training.
        evaluator_code: `module:Class` of an evaluator of its own; None: the one that any measurement can have.
    """

    settings: type[MeasurementSettings]
    code: str
    kind: DataKind
    main: str
    needs: tuple[str, ...] = ()
    embeds: bool = False
    evaluator: type[Settings] | None = None
    evaluator_code: str | None = None


_CODE = "openwit.training.evaluation.measurements"
_EVALUATORS = "openwit.training.evaluation.evaluators"
MEASUREMENTS: dict[str, Entry] = {
    "zero_shot": Entry(
        ZeroShotMeasurement,
        f"{_CODE}.zero_shot",
        "labelled",
        "the metric of the dataset",
        evaluator=ZeroShotSettings,
        evaluator_code=f"{_EVALUATORS}:ZeroShot",
    ),
    "retrieval": Entry(
        RetrievalMeasurement,
        f"{_CODE}.retrieval",
        "captioned",
        "recall at 1 of images by texts",
        embeds=True,
        evaluator=RetrievalSettings,
        evaluator_code=f"{_EVALUATORS}:Retrieval",
    ),
    "probe": Entry(
        ProbeMeasurement, f"{_CODE}.probe", "labelled", "the metric of the dataset", evaluator=ProbeSettings
    ),
    "few_shot": Entry(
        FewShotMeasurement,
        f"{_CODE}.few_shot",
        "labelled",
        "the metric of the dataset at the most images per class",
        evaluator=FewShotSettings,
    ),
    "image_to_image": Entry(
        ImageToImageMeasurement,
        f"{_CODE}.image_to_image",
        "labelled",
        "recall at 1",
        embeds=True,
        evaluator=ImageToImageSettings,
    ),
    "robustness": Entry(
        RobustnessMeasurement, f"{_CODE}.robustness", "labelled", "accuracy on the shifted set", needs=("base",)
    ),
    "overlap": Entry(
        OverlapMeasurement, f"{_CODE}.overlap", "labelled", "accuracy of all minus that of clean", needs=("report",)
    ),
}
"""All measurements."""

EVALUATOR_SETTINGS: dict[str, type[Settings]] = {
    name: MEASUREMENTS[name].evaluator  # type: ignore[misc]
    for name in ("retrieval", *MEASUREMENTS)
    if MEASUREMENTS[name].evaluator is not None
}
"""Settings of the measurements that can be made during training, by name."""

if TYPE_CHECKING:
    BuiltInMeasurement = MeasurementSettings
    BuiltInEvaluator = Any
else:
    BuiltInMeasurement = Union[tuple(each.settings for each in MEASUREMENTS.values())]  # noqa: UP007
    BuiltInEvaluator = Union[tuple(EVALUATOR_SETTINGS.values())]  # noqa: UP007
