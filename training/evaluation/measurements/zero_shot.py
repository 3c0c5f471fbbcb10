"""Measure zero-shot classification: the names of the classes are the classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openwit.training.config.choices import Metric
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import ZeroShotMeasurement
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.measurements.context import MeasureContext, Measurement, figure_of
from openwit.training.evaluation.measurements.opening import metric_of, open_labelled, prompts_of
from openwit.training.evaluation.prompt_sets import Prompts, with_single
from openwit.training.evaluation.training_images import check_not_trained_on
from openwit.training.evaluation.zero_shot_report import evaluate_prompts, zero_shot_record
from openwit.training.evaluation.zero_shot_result import ZeroShotResult, check_metric


@dataclass(frozen=True)
class Opened:
    """Images, sets of templates of which the first is the main one, and the main metric; None: the usual one."""

    data: ClassificationSet
    prompts: list[Prompts]
    metric: Metric | None


def open_data(data: DatasetSettings, settings: ZeroShotMeasurement, _report: Callable[[str], None]) -> Opened:
    """Open the images and the templates."""
    prompts = prompts_of(data, settings.prompts)
    found = open_labelled(data, data.split).limited(settings.limit)
    metric = metric_of(data, settings.metric, several=found.truth is not None)
    check_metric(found, metric)
    return Opened(found, prompts, metric)


def measure(context: MeasureContext, opened: Opened, settings: ZeroShotMeasurement) -> Measurement:
    """Classify; see `evaluate_prompts`."""
    model, data = context.model, opened.data
    if not settings.allow_train and (compared := check_not_trained_on(model, data, data.title)):
        data = data.noting(compared)
    found = evaluate_prompts(
        model,
        data,
        with_single(opened.prompts) if model.embeds else opened.prompts,
        metric=opened.metric,
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
        {name: figure_of(each) for name, each in ordered.items() if each is not None},
        result.images,
        result.unreadable,
        {reason: len(keys) for reason, keys in data.left_out.items()},
        zero_shot_record(model, data, found=found, limit=settings.limit),
    )
