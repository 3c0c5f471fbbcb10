"""Measure what overlap with the training data adds to accuracy, on a dataset with the builder's report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import OverlapMeasurement
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement
from openwit.training.evaluation.measurements.opening import open_labelled, prompts_of
from openwit.training.evaluation.overlap.analysis import LEVEL
from openwit.training.evaluation.overlap.answers import UNREADABLE, check_single, classified
from openwit.training.evaluation.overlap.matching import match
from openwit.training.evaluation.overlap.measure import EvaluationSet
from openwit.training.evaluation.overlap.measure import measure as compare
from openwit.training.evaluation.overlap.report import read_report
from openwit.training.evaluation.prompt_sets import Prompts
from openwit.training.evaluation.statistics.intervals import wilson


@dataclass(frozen=True)
class Opened:
    """A set matched with its report, and templates."""

    evaluation: EvaluationSet
    prompts: Prompts


def open_data(
    data: DatasetSettings,
    settings: OverlapMeasurement,
    _report: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
    *,
    single: bool = True,
) -> Opened:
    """Open the images and match them with the report.

    Args:
        data: with `report`.
        settings: of the measurement.
        progress: receives (done, total) images matched.
        single: whether images of several classes are refused.

    Raises:
        DataError: the report is of another set; see `match`.
    """
    where = data.report
    assert where is not None, "the plan takes datasets with a report only"
    reported = read_report(where)
    prompts = prompts_of(data, settings.prompts)[0]
    found = open_labelled(data, data.split).limited(settings.limit)
    if single:
        check_single(found)
    matched = match(found, reported, str(where), progress=progress)
    if settings.limit is not None:
        matched = replace(matched, unused=0)  # what was not drawn is in the set all the same
    return Opened(EvaluationSet(found, where, reported, matched), prompts)


def measure(context: MeasureContext, opened: Opened, _settings: OverlapMeasurement) -> Measurement:
    """Compare accuracy on all, clean and overlap images; see `compare`. The p-value is of this set alone."""
    each = opened.evaluation
    answers = classified(
        context.model,
        each.data,
        opened.prompts.templates,
        batch_size=context.batch_size,
        progress=context.progress,
    )
    (found,) = compare("model", [each], [answers], {"prompts": asdict(opened.prompts)})
    result = found.result
    figures: dict[str, Figure] = {}
    if result.difference is not None:
        figures["difference"] = Figure(result.difference)
    for name, subset in (("all", result.all), ("clean", result.clean)):
        if subset.accuracy is not None:
            interval = wilson(subset.right, subset.images)
            figures[f"{name}_accuracy"] = Figure(subset.accuracy, interval.low, interval.high, 0.95, "Wilson's score")
    if result.overlap.accuracy is not None:
        figures["overlap_accuracy"] = Figure(
            result.overlap.accuracy, result.overlap_low, result.overlap_high, LEVEL, "Clopper-Pearson"
        )
    figures["overlap_share"] = Figure(result.share)
    if result.p_value is not None:
        figures["p_value"] = Figure(result.p_value)
    left_out = {reason: len(keys) for reason, keys in {**each.data.left_out, **each.matched.unmatched}.items()}
    return Measurement(figures, result.all.images, answers.left_out.get(UNREADABLE, []), left_out, found.record())
