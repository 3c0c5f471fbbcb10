"""Measure a model on a base set and a shifted one: zero-shot, and with a head probed on images of the base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Layer
from openwit.training.engine.runtime import make_autocast, pick_device
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.features import Features, ModelEncoder, compute_features
from openwit.training.evaluation.features.disjoint import check_disjoint
from openwit.training.evaluation.probe.fit import fit_probe
from openwit.training.evaluation.robustness.line import Accuracy
from openwit.training.evaluation.robustness.subset import Subset, match_classes
from openwit.training.evaluation.zero_shot import class_head


@dataclass(frozen=True)
class ShiftedSets:
    """Sets of a measurement.

    Attributes:
        base, shifted: test images of both.
        subset: classes that they share.
        train: training images of the base set for a probed head, with its classes; None: zero-shot alone.
    """

    base: ClassificationSet
    shifted: ClassificationSet
    subset: Subset
    train: ClassificationSet | None = None


@dataclass(frozen=True)
class SetRead:
    """What was read of a set.

    Attributes:
        images: number of those that could be read.
        sha256: of all keys and encoded images, in order.
        unreadable: keys of the images that were skipped.
    """

    images: int
    sha256: str
    unreadable: list[str]


@dataclass(frozen=True)
class Shift:
    """A model's measurement.

    Attributes:
        accuracies: zero-shot, and with a probed head.
        read: by name of the set: `base`, `shifted` and, for a probed head, `train`.
        notes: sentences on images that are trained on and measured on.
    """

    accuracies: list[Accuracy] = field(default_factory=list)
    read: dict[str, SetRead] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def shifted_sets(
    base: ClassificationSet,
    shifted: ClassificationSet,
    *,
    train: ClassificationSet | None = None,
    mapping: Mapping[str, Sequence[str]] | None = None,
) -> ShiftedSets:
    """Match the classes of the sets.

    Raises:
        DataError: images have several labels, or see `match_classes`.
    """
    if any(each is not None and each.truth is not None for each in (base, shifted, train)):
        raise DataError("robustness is measured on images of one class each, not of several labels")
    if base.keys == shifted.keys and all(base.sample(n).image == shifted.sample(n).image for n in range(len(base))):
        raise DataError(f"the shifted set {shifted.title} has the images of the base set {base.title}: give another")
    return ShiftedSets(base, shifted, match_classes(base.classes, shifted.classes, mapping), train)


def measure_shift(
    model: LoadedModel,
    sets: ShiftedSets,
    *,
    name: str,
    templates: tuple[str, ...],
    batch_size: int = 256,
    folder: Path | None = None,
    is_baseline: bool = False,
) -> Shift:
    """Return the accuracies of a model, zero-shot, and if there are training images, with a probed head.

    Only classes that both sets have can be predicted, on both, so that the accuracies are of one task.

    Args:
        model: of `load_model`.
        sets: base and shifted.
        name: of the model in results.
        templates: of the zero-shot texts.
        batch_size: images at once.
        folder: kept features, see `compute_features`.
        is_baseline: whether the line is fitted to it.

    Raises:
        RecipeError: the model has no text embeddings and there are no training images.
        DataError: no image can be read, or measured images are trained on, see `check_disjoint`.
    """
    shift = Shift()
    found = shift.accuracies

    def features(encoder: ModelEncoder, which: str, data: ClassificationSet) -> Features:
        made = compute_features(encoder, data, batch_size=batch_size, folder=folder)
        shift.read[which] = SetRead(len(made), made.sha256, made.unreadable)
        return made

    if model.embeds:
        encoder = ModelEncoder(model, Layer.PROJECTED)
        autocast = make_autocast(model.device, model.precision)
        embedder = Embedder(
            model.model, model.tokenizer, device=model.device, autocast=autocast, batch_size=batch_size
        )
        head = class_head(embedder.texts, sets.base.classes, templates).numpy()
        base, shifted = features(encoder, "base", sets.base), features(encoder, "shifted", sets.shifted)
        found.append(_accuracy(name, sets, (base, base.rows @ head.T), (shifted, shifted.rows @ head.T), is_baseline))
    elif sets.train is None:
        raise RecipeError(f"a model of {model.objective_name} has no zero-shot head: give training images for a probe")
    if sets.train is not None:
        encoder = ModelEncoder(model)
        train = features(encoder, "train", sets.train)
        base, shifted = features(encoder, "base", sets.base), features(encoder, "shifted", sets.shifted)
        for made, of in ((base, sets.base), (shifted, sets.shifted)):
            shift.notes.extend(filter(None, [check_disjoint(made, train, of, sets.train)]))
        labels = sets.train.labels[train.indices]
        fitted = fit_probe(train.rows, labels, len(sets.base.classes), device=pick_device("auto")).head
        scores = (base, fitted.scores(base.rows)), (shifted, fitted.scores(shifted.rows))
        before = found[0].model if found else None
        found.append(_accuracy(f"{name}, probed", sets, *scores, is_baseline and not found, before))
    return shift


Scored = tuple[Features, NDArray[np.float32]]


def _accuracy(
    name: str, sets: ShiftedSets, base: Scored, shifted: Scored, is_baseline: bool, before: str | None = None
) -> Accuracy:
    right = sets.subset.base_right(base[1], sets.base.labels[base[0].indices])
    under = sets.subset.shifted_right(shifted[1], sets.shifted.labels[shifted[0].indices])
    if not len(right) or not len(under):
        raise DataError("no readable image is of a class that both sets have")
    return Accuracy(name, float(right.mean()), float(under.mean()), len(right), len(under), before, is_baseline)
