"""The measurements by name: a function of a model and a dataset that returns metrics with intervals and counts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.plugins import load_callable, one_line
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Metric
from openwit.training.engine.runtime import cpu_prepared, pick_device
from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.features import ModelEncoder
from openwit.training.evaluation.few_shot import few_shot
from openwit.training.evaluation.measurements.settings import (
    AnyMeasurement,
    CustomMeasurement,
    DataKind,
    DatasetSettings,
    FewShotMeasurement,
    ProbeMeasurement,
    RetrievalMeasurement,
    ZeroShotMeasurement,
)
from openwit.training.evaluation.probe.measure import Encoded, encode_sets, probe_features, probe_record
from openwit.training.evaluation.probe.sets import ProbeSets, labels_at, open_sets, sets_of
from openwit.training.evaluation.prompt_sets import Prompts, choose_prompts, with_single
from openwit.training.evaluation.registry.find import locate_one
from openwit.training.evaluation.registry.table import find_known
from openwit.training.evaluation.retrieval import DIRECTIONS
from openwit.training.evaluation.retrieval_report import evaluate_retrieval
from openwit.training.evaluation.training_images import check_not_trained_on
from openwit.training.evaluation.zero_shot_report import evaluate_prompts, zero_shot_record
from openwit.training.evaluation.zero_shot_result import ZeroShotResult, check_metric

Progress = Callable[[int, int], None]
_SHARES = "Wilson's score; of means over classes a bootstrap within classes"
_STUDENT = "over seeds, Student's t"


@dataclass(frozen=True)
class Figure:
    """A metric.

    Attributes:
        value: of the metric.
        low, high: bounds of its interval; None without one.
        level: confidence of the interval.
        interval: its kind, in words.
        chance: value of a model that guesses; None if it is not known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    interval: str | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Measurement:
    """The result of a measurement.

    Attributes:
        metrics: by name, the main one first.
        images: number of images measured.
        unreadable: names of images that could not be read, and are not measured.
        left_out: number of rows that are no labelled images, by reason.
        details: further JSON data.
    """

    metrics: Mapping[str, Figure]
    images: int
    unreadable: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureContext:
    """What a measurement works with.

    Attributes:
        model: in evaluation mode.
        data: where the images are.
        batch_size: images or texts embedded at once.
        features: folder that keeps features; None: they are not kept.
        progress: receives (done, total).
    """

    model: LoadedModel
    data: DatasetSettings
    batch_size: int = 256
    features: Path | None = None
    progress: Progress = lambda _, __: None

    def labelled(self, split: str | None = None, *, held_out: bool = True) -> ClassificationSet:
        """Open the labelled images of a split; by default of the test images."""
        chosen = self.data.split if held_out else split
        if self.data.known is not None:
            known = find_known(self.data.known)
            return locate_one(self.data.root, known).open(chosen, self.data.classes)
        return open_classification(labelled_data(self.data, split=chosen))

    def prompts(self, wanted: list[str]) -> list[Prompts]:
        """Return sets of templates: those asked for, else the dataset's."""
        chosen = wanted or self.data.prompts
        if self.data.known is not None:
            known = find_known(self.data.known)
            path = locate_one(self.data.root, known).path
            return choose_prompts(chosen, LabelledData(path, keys=known.names), known.prompts)
        return choose_prompts(chosen, labelled_data(self.data))

    def metric(self, wanted: Metric | None, *, several: bool = False) -> Metric | None:
        """Return the metric that is asked for, else the dataset's."""
        chosen = wanted or self.data.metric
        if chosen is None and self.data.known is not None:
            metric = find_known(self.data.known).metric
            return metric if metric.of_scores or not several else None
        return chosen


class Measure(Protocol):
    """Measures a model on a dataset."""

    def __call__(self, context: MeasureContext, settings: Any) -> Measurement:
        """Return metrics, counts and details."""
        ...


def labelled_data(data: DatasetSettings, *, split: str | None = None) -> LabelledData:
    """Return where labelled images are."""
    assert data.data is not None
    return LabelledData(
        data.data, split=split, classes=data.classes, image_column=data.image_column, label_column=data.label_column
    )


def zero_shot(context: MeasureContext, settings: ZeroShotMeasurement) -> Measurement:
    """Classify by the names of the classes; see `evaluate_prompts`."""
    model, data = context.model, context.labelled().limited(settings.limit)
    metric = context.metric(settings.metric, several=data.truth is not None)
    check_metric(data, metric)
    if not settings.allow_train and (compared := check_not_trained_on(model, data)):
        data = data.noting(compared)
    prompts = context.prompts(settings.prompts)
    found = evaluate_prompts(
        model,
        data,
        with_single(prompts) if model.embeds else prompts,
        metric=metric,
        batch_size=context.batch_size,
        progress=context.progress,
    )
    result = found[0].result
    figures: dict[str, Any] = {str(result.metric): result.headline}
    if isinstance(result, ZeroShotResult):
        figures |= {"accuracy": result.top1, "top5": result.top5, "mean_per_class": result.mean_per_class} | figures
    else:
        figures |= {"map_11_point": result.map_11_point, "map": result.map} | figures
    ordered = {str(result.metric): result.headline, **figures}
    return Measurement(
        {name: _figure(each) for name, each in ordered.items() if each is not None},
        result.images,
        result.unreadable,
        {reason: len(keys) for reason, keys in data.left_out.items()},
        zero_shot_record(model, data, found=found, limit=settings.limit),
    )


def retrieval(context: MeasureContext, settings: RetrievalMeasurement) -> Measurement:
    """Recall at 1, 5 and 10 in both directions; see `evaluate_retrieval`."""
    assert context.data.data is not None
    wanted = CaptionedData(
        context.data.data,
        split=context.data.split,
        images=context.data.images,
        image_column=context.data.image_column,
        caption_column=context.data.caption_column,
    )
    found = evaluate_retrieval(
        context.model,
        open_captioned(wanted),
        batch_size=context.batch_size,
        limit=settings.limit,
        allow_train=settings.allow_train,
        prefix=settings.prefix,
        progress=context.progress,
    )
    kind = "percentile bootstrap over images, 2000 resamples, gallery fixed"
    figures = {
        f"{direction}_recall_at_{each.k}": Figure(each.value, each.low, each.high, 0.95, kind, each.chance)
        for direction in DIRECTIONS
        for each in found.result.recalls[direction]["strict"]
    }
    return Measurement(figures, found.result.images, found.embedded.unreadable, {}, found.record())


def probe(context: MeasureContext, settings: ProbeMeasurement) -> Measurement:
    """Probe the image features linearly; see `probe_features`."""
    sets = _probe_sets(context, settings.train_limit, settings.limit)
    metric = context.metric(settings.metric, several=sets.test.truth is not None)
    metric = metric or (Metric.ACCURACY if sets.test.truth is None else Metric.MAP_11)
    with cpu_prepared(context.model.threads):
        encoded = _encoded(context, sets, ModelEncoder(context.model, settings.layer))
        found = probe_features(encoded, sets, metric=metric, seed=settings.seed, device=pick_device("auto"))
    record = probe_record([found], sets, metric, settings.seed)
    return Measurement({str(metric): _figure(found.test)}, *_counts(encoded, sets), record)


def few_shots(context: MeasureContext, settings: FewShotMeasurement) -> Measurement:
    """Probe with a few images of each class; see `few_shot`."""
    sets = _probe_sets(context, settings.train_limit, settings.limit)
    if sets.train.truth is not None or sets.test.truth is not None:
        raise DataError("images with several labels cannot be drawn by class: use the measurement probe for them")
    metric = context.metric(settings.metric) or Metric.ACCURACY
    with cpu_prepared(context.model.threads):
        encoded = _encoded(context, sets, ModelEncoder(context.model, settings.layer))
        found = few_shot(
            (encoded.train.rows, sets.train.labels[encoded.train.indices]),
            (encoded.test.rows, labels_at(sets.test, encoded.test.indices)),
            len(sets.classes),
            shots=sorted(set(settings.shots)),
            seeds=settings.seeds,
            metric=metric,
            device=pick_device("auto"),
            progress=context.progress,
        )
    chance = None if metric.of_scores else 1 / len(sets.classes)
    figures = {
        f"{metric}_at_{each.shots}": Figure(each.mean, each.low, each.high, 0.95, _STUDENT, chance)
        for each in reversed(found.shots)
    }
    return Measurement(figures, *_counts(encoded, sets), {"curve": [asdict(each) for each in found.shots]})


def _probe_sets(context: MeasureContext, train_limit: int | None, limit: int | None) -> ProbeSets:
    data = context.data
    if data.known is not None:
        training = context.labelled(data.train_split or "train", held_out=False)
        valid = None if data.val_split is None else context.labelled(data.val_split, held_out=False)
        return sets_of(training, context.labelled(), valid, train_limit=train_limit, limit=limit)
    train_split = data.train_split or ("train" if data.train is None else None)
    place = data if data.train is None else data.model_copy(update={"data": data.train})
    valid_data = None if data.val_split is None else labelled_data(place, split=data.val_split)
    return open_sets(
        labelled_data(place, split=train_split),
        labelled_data(data, split=data.split),
        valid_data,
        train_limit=train_limit,
        limit=limit,
    )


def _encoded(context: MeasureContext, sets: ProbeSets, encoder: ModelEncoder) -> Encoded:
    return encode_sets(
        encoder,
        sets,
        batch_size=context.batch_size,
        folder=context.features,
        report=lambda _, done, total: context.progress(done, total),
    )


def _counts(encoded: Encoded, sets: ProbeSets) -> tuple[int, list[str], dict[str, int]]:
    unreadable = [key for each in (encoded.test, encoded.train, encoded.valid) if each for key in each.unreadable]
    return len(encoded.test), unreadable, {reason: len(keys) for reason, keys in sets.test.left_out.items()}


def _figure(each: Any) -> Figure:
    """Return an `Estimate` or a `Share` as a figure."""
    level, kind = (
        getattr(each, "level", 0.95),
        getattr(each, "interval", _SHARES),
    )
    return Figure(each.value, each.low, each.high, level, kind, each.chance)


@dataclass(frozen=True)
class Registered:
    """A measurement of the registry.

    Attributes:
        measure: the function.
        kind: of the data that it needs; None: any.
    """

    measure: Measure
    kind: DataKind | None


MEASUREMENTS: dict[str, Registered] = {
    "zero_shot": Registered(zero_shot, "labelled"),
    "retrieval": Registered(retrieval, "captioned"),
    "probe": Registered(probe, "labelled"),
    "few_shot": Registered(few_shots, "labelled"),
}


def find_measurement(settings: AnyMeasurement, *, key: str = "") -> Registered:
    """Return the measurement that settings name: a built-in one, or your own function by dotted name.

    Your own is called as `function(context, **settings)` and returns a `Measurement`; its attribute `kind`, "labelled"
    or "captioned", says which datasets it is for.

    Raises:
        RecipeError: it cannot be loaded, or does not take these settings.
    """
    if not isinstance(settings, CustomMeasurement):
        return MEASUREMENTS[settings.name]
    function = load_callable(settings, key=key, positional=1)
    kind = getattr(function, "kind", None)
    if kind not in (None, "labelled", "captioned"):
        raise RecipeError(f"{key}: the attribute kind of {settings.name!r} must be 'labelled' or 'captioned'")

    def measure(context: MeasureContext, settings: CustomMeasurement) -> Measurement:
        try:
            found = function(context, **settings.settings)
        except (DataError, RecipeError):
            raise
        except Exception as error:
            raise RecipeError(f"{settings.name} failed: {one_line(error)}") from error
        if not isinstance(found, Measurement):
            raise RecipeError(f"{settings.name!r} returned a {type(found).__name__}, not a Measurement")
        return found

    return Registered(measure, kind)
