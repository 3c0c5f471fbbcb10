"""Measure image-text retrieval."""

from collections.abc import Callable

from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import RetrievalMeasurement
from openwit.training.data.sharded import Dataset
from openwit.training.evaluation.captioned.open import open_captioned
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement
from openwit.training.evaluation.measurements.opening import captioned_data
from openwit.training.evaluation.retrieval import DIRECTIONS
from openwit.training.evaluation.retrieval_report import evaluate_retrieval

_INTERVAL = "percentile bootstrap over images, 2000 resamples, gallery fixed"


def open_data(data: DatasetSettings, _settings: RetrievalMeasurement, report: Callable[[str], None]) -> Dataset:
    """Open the images and their captions."""
    return open_captioned(captioned_data(data), report)


def measure(context: MeasureContext, opened: Dataset, settings: RetrievalMeasurement) -> Measurement:
    """Return recall at 1, 5 and 10 in both directions; see `evaluate_retrieval`."""
    found = evaluate_retrieval(
        context.model,
        opened,
        batch_size=context.batch_size,
        limit=settings.limit,
        allow_train=settings.allow_train,
        prefix=settings.prefix,
        progress=context.progress,
    )
    figures = {
        f"{direction}_recall_at_{each.k}": Figure(each.value, each.low, each.high, 0.95, _INTERVAL, each.chance)
        for direction in DIRECTIONS
        for each in found.result.recalls[direction]["strict"]
    }
    return Measurement(figures, found.result.images, found.embedded.unreadable, {}, found.record())
