"""Measure accuracy under a shift of the data, on a dataset that names its base."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import RobustnessMeasurement
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement
from openwit.training.evaluation.measurements.opening import open_labelled, open_probe_sets, prompts_of
from openwit.training.evaluation.robustness.line import Accuracy, robustness
from openwit.training.evaluation.robustness.measure import ShiftedSets, measure_shift, shifted_sets
from openwit.training.evaluation.robustness.results import read_mapping, read_models
from openwit.training.evaluation.statistics.intervals import wilson

_SUBJECT = "model"


@dataclass(frozen=True)
class Opened:
    """Both sets, templates, and earlier results on them."""

    sets: ShiftedSets
    templates: tuple[str, ...]
    baselines: list[Accuracy]


def open_data(data: DatasetSettings, settings: RobustnessMeasurement, report: Callable[[str], None]) -> Opened:
    """Open both sets and match their classes.

    Raises:
        DataError: see `shifted_sets` and `read_models`.
    """
    base = data.base
    assert isinstance(base, DatasetSettings), "the name of the base was looked up"
    training = None
    if settings.probed:
        pair = open_probe_sets(base, settings.limit, settings.limit)
        test, training = pair.test, pair.train
    else:
        test = open_labelled(base, base.split).limited(settings.limit)
    shifted = open_labelled(data, data.split).limited(settings.limit)
    for note in (*test.notes, *shifted.notes):
        report(note)
    mapping = None if data.mapping is None else read_mapping(data.mapping)
    sets = shifted_sets(test, shifted, train=training, mapping=mapping)
    baselines = [each for path in settings.baselines for each in read_models(path, sets)]
    return Opened(sets, prompts_of(base, settings.prompts)[0].templates, baselines)


def measure(context: MeasureContext, opened: Opened, _settings: RobustnessMeasurement) -> Measurement:
    """Return accuracies on both sets, and effective and relative robustness; see `measure_shift`."""
    with context.prepared():
        shift = measure_shift(
            context.model,
            opened.sets,
            name=_unused(opened.baselines),
            templates=opened.templates,
            batch_size=context.batch_size,
            folder=context.features,
        )
    line, every = robustness([*opened.baselines, *shift.accuracies])
    own = every[len(opened.baselines) :]
    figures: dict[str, Figure] = {}
    for each in own:
        accuracy = each.accuracy
        which = "probed_" if accuracy.before is not None or not context.model.embeds else ""
        for name, value, images in (
            ("shifted", accuracy.shifted, accuracy.shifted_images),
            ("base", accuracy.base, accuracy.base_images),
        ):
            figures[f"{which}{name}_accuracy"] = _share(value, images, len(shift.read[name].unreadable))
        if each.effective is not None:
            figures[f"{which}effective_robustness"] = Figure(each.effective)
        if each.relative is not None:
            figures[f"{which}relative_robustness"] = Figure(each.relative)
    details = {
        "line": None if line is None else asdict(line),
        "models": [asdict(each) for each in every],
        "base": opened.sets.base.title,
        "shifted": opened.sets.shifted.title,
        "unmatched": opened.sets.subset.unmatched,
        "read": {which: asdict(each) for which, each in shift.read.items()},
        "notes": shift.notes,
    }
    unreadable = [key for each in shift.read.values() for key in each.unreadable]
    left_out = {reason: len(keys) for reason, keys in opened.sets.shifted.left_out.items()}
    return Measurement(figures, own[0].accuracy.shifted_images, unreadable, left_out, details)


def _unused(baselines: list[Accuracy]) -> str:
    """Return a name that no baseline has."""
    names = {each.model for each in baselines}
    return next(name for name in (_SUBJECT, *(f"{_SUBJECT} {n}" for n in range(len(names) + 1))) if name not in names)


def _share(value: float, images: int, unreadable: int) -> Figure:
    interval = wilson(round(value * images), images)
    return Figure(value, interval.low, interval.high, 0.95, "Wilson's score", images=images, unreadable=unreadable)
