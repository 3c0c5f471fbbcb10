"""Measure probes of a few images of each class."""

from collections.abc import Callable
from dataclasses import asdict

from openwit.schemas.common.errors import DataError
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import FewShotHow
from openwit.training.engine.runtime import pick_device
from openwit.training.evaluation.few_shot import few_shot
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement, counts_of
from openwit.training.evaluation.measurements.opening import open_probe_sets, probe_metric
from openwit.training.evaluation.probe.sets import ProbeSets, labels_at

_STUDENT = "over seeds, Student's t"


def open_data(data: DatasetSettings, settings: FewShotHow, _report: Callable[[str], None]) -> ProbeSets:
    """Open the training and test images.

    Raises:
        DataError: images have several labels.
    """
    # The penalty is chosen on images of the training set, which are drawn like those that are trained on.
    plain = data.model_copy(update={"val": None, "val_split": None})
    sets = open_probe_sets(plain, settings.train_limit, settings.limit)
    if sets.train.truth is not None or sets.test.truth is not None:
        raise DataError("images with several labels cannot be drawn by class: use the measurement probe for them")
    probe_metric(data, settings.metric, sets)
    return sets


def measure(context: MeasureContext, sets: ProbeSets, settings: FewShotHow) -> Measurement:
    """Draw, fit and measure; see `few_shot`."""
    metric = probe_metric(context.data, settings.metric, sets)
    with context.prepared():
        encoded = context.encoded(sets, settings.layer)

        def fitted() -> Measurement:
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
            curve = {"curve": [asdict(each) for each in found.shots]}
            return Measurement(figures, *counts_of(encoded, sets), curve)

        return context.on_main(fitted)
