"""Measure a linear probe of the image features."""

from collections.abc import Callable

from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import ProbeHow
from openwit.training.engine.runtime import pick_device
from openwit.training.evaluation.measurements.context import MeasureContext, Measurement, counts_of, figure_of
from openwit.training.evaluation.measurements.opening import open_probe_sets, probe_metric
from openwit.training.evaluation.probe.measure import probe_features, probe_record
from openwit.training.evaluation.probe.sets import ProbeSets


def open_data(data: DatasetSettings, settings: ProbeHow, _report: Callable[[str], None]) -> ProbeSets:
    """Open the training, validation and test images."""
    sets = open_probe_sets(data, settings.train_limit, settings.limit)
    probe_metric(data, settings.metric, sets)
    return sets


def measure(context: MeasureContext, sets: ProbeSets, settings: ProbeHow) -> Measurement:
    """Fit and measure; see `probe_features`."""
    metric = probe_metric(context.data, settings.metric, sets)
    with context.prepared():
        encoded = context.encoded(sets, settings.layer)

        def fitted() -> Measurement:
            found = probe_features(encoded, sets, metric=metric, seed=settings.seed, device=pick_device("auto"))
            record = probe_record([found], sets, metric, settings.seed)
            return Measurement({str(metric): figure_of(found.test)}, *counts_of(encoded, sets), record)

        return context.on_main(fitted)
