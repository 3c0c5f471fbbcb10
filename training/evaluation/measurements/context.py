"""Hold what measurements work with and what they return."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Layer, Metric
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.engine.runtime import cpu_prepared
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.decoding import Readable
from openwit.training.evaluation.features import Features, ModelEncoder, compute_features
from openwit.training.evaluation.features.running import RunningEncoder, share_features
from openwit.training.evaluation.measurements.opening import metric_of, open_labelled, prompts_of
from openwit.training.evaluation.probe.measure import Encoded, encoded_by
from openwit.training.evaluation.probe.sets import ProbeSets
from openwit.training.evaluation.prompt_sets import Prompts
from openwit.training.evaluation.shares import ALONE, Shares

Progress = Callable[[int, int], None]
_SHARES = "Wilson's score; of means over classes a bootstrap within classes"


@dataclass(frozen=True)
class Figure:
    """A metric.

    Attributes:
        value: of the metric.
        low, high: bounds of its interval; None without one.
        level: confidence of the interval.
        interval: its kind, in words.
        chance: value of a model that guesses; None if it is not known.
        images: number of images measured, if they are not those of the measurement.
        unreadable: number of images that could not be read, likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    interval: str | None = None
    chance: float | None = None
    images: int | None = None
    unreadable: int | None = None


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
        model: in evaluation mode; during training the model that is trained, in its own mode.
        data: where the images are.
        batch_size: images or texts embedded at once.
        features: folder that keeps features; None: they are not kept.
        progress: receives (done, total).
        running: encodes with the model that is trained; None: the model is loaded from a file.
        shares: of the processes of a run: all measure together, and get the same result.
    """

    model: LoadedModel
    data: DatasetSettings
    batch_size: int = 256
    features: Path | None = None
    progress: Progress = lambda _, __: None
    running: Callable[[Layer], RunningEncoder] | None = None
    shares: Shares = ALONE

    def labelled(self, split: str | None = None, *, held_out: bool = True) -> ClassificationSet:
        """Open the labelled images of a split; by default of the test images."""
        return open_labelled(self.data, self.data.split if held_out else split)

    def prompts(self, wanted: list[str]) -> list[Prompts]:
        """Return sets of templates: those asked for, else the dataset's."""
        return prompts_of(self.data, wanted)

    def metric(self, wanted: Metric | None, *, several: bool = False) -> Metric | None:
        """Return the metric that is asked for, else the dataset's."""
        return metric_of(self.data, wanted, several=several)

    def prepared(self) -> AbstractContextManager[Any]:
        """Return a context for fast computation on the CPU; a run has prepared it already."""
        return nullcontext() if self.running is not None else cpu_prepared(self.model.threads)

    def features_of(self, data: Readable[Any], layer: Layer) -> Features:
        """Return features of images by the model, of all processes."""
        if self.running is not None:
            encoder = self.running(layer)
            return share_features(
                encoder, data, batch_size=self.batch_size, shares=self.shares, progress=self.progress
            )
        return compute_features(
            ModelEncoder(self.model, layer),
            data,
            batch_size=self.batch_size,
            folder=self.features,
            progress=self.progress,
        )

    def encoded(self, sets: ProbeSets, layer: Layer) -> Encoded:
        """Return features of the sets of a probe, of all processes."""
        return encoded_by(lambda data, _: self.features_of(data, layer), sets)

    def on_main(self, work: Callable[[], Measurement]) -> Measurement:
        """Do work by the first process, while the others wait; all return its result.

        Raises:
            OpenWITError: of the work, in all processes.
        """
        group = self.shares.group
        if group is None:
            return work()
        found = group.on_all_ranks(lambda: work() if group.main else None)
        of_first = group.all_gather_objects(found)[0]
        assert of_first is not None
        return of_first


def figure_of(each: Any) -> Figure:
    """Return an `Estimate` or a `Share` as a figure."""
    level, kind = getattr(each, "level", 0.95), getattr(each, "interval", _SHARES)
    return Figure(each.value, each.low, each.high, level, kind, each.chance)


def counts_of(encoded: Encoded, sets: ProbeSets) -> tuple[int, list[str], dict[str, int]]:
    """Return the images measured of a probe, the unreadable ones, and the number of others by reason."""
    unreadable = [key for each in (encoded.test, encoded.train, encoded.valid) if each for key in each.unreadable]
    return len(encoded.test), unreadable, {reason: len(keys) for reason, keys in sets.test.left_out.items()}
