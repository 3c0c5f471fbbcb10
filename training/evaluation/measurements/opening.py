"""Open the data of measurements: labelled images, sets of probes, images with captions, images in groups, prompts."""

from collections.abc import Callable, Sequence

from openwit.schemas.common.errors import DataError
from openwit.training.config.choices import Metric
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.evaluation.captioned.open import CaptionedData, reworded
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.grouped import GroupedImages, grouped_by_class, open_grouped
from openwit.training.evaluation.probe.sets import ProbeSets, open_sets, sets_of
from openwit.training.evaluation.prompt_sets import Prompts, choose_prompts
from openwit.training.evaluation.registry.find import locate_one
from openwit.training.evaluation.registry.table import find_known
from openwit.training.evaluation.zero_shot_result import check_metric

Report = Callable[[str], None]
"""Receives sentences on what was found and left out."""


def open_labelled(data: DatasetSettings, split: str | None = None) -> ClassificationSet:
    """Open the labelled images of a split; None: of a held-out one."""
    if data.known is None:
        return open_classification(labelled_data(data, split=split))
    known = find_known(data.known)
    located = locate_one(data.root, known)
    found = located.open(split, data.classes)
    return found.noting(f"{known.title}: {located.path} ({located.layout})")


def labelled_data(data: DatasetSettings, *, split: str | None = None) -> LabelledData:
    """Return where labelled images are that are no known dataset."""
    assert data.data is not None
    return LabelledData(
        data.data, split=split, classes=data.classes, image_column=data.image_column, label_column=data.label_column
    )


def prompts_of(data: DatasetSettings, wanted: Sequence[str] = ()) -> list[Prompts]:
    """Return sets of templates: those asked for, else the dataset's."""
    chosen = wanted or data.prompts
    if data.known is None:
        return choose_prompts(chosen, labelled_data(data))
    known = find_known(data.known)
    path = locate_one(data.root, known).path
    return choose_prompts(chosen, LabelledData(path, keys=known.names), known.prompts)


def metric_of(data: DatasetSettings, wanted: Metric | None, *, several: bool = False) -> Metric | None:
    """Return the metric that is asked for, else the dataset's; None: none of both.

    Args:
        data: the dataset.
        wanted: what is asked for.
        several: whether images may have several classes, where the known dataset's metric may not exist.
    """
    chosen = wanted or data.metric
    if chosen is None and data.known is not None:
        metric = find_known(data.known).metric
        return metric if metric.of_scores or not several else None
    return chosen


def open_probe_sets(data: DatasetSettings, train_limit: int | None = None, limit: int | None = None) -> ProbeSets:
    """Open the training, validation and test images of a probe.

    Args:
        data: where they are.
        train_limit, limit: images drawn from the training and the test set; None: all.

    Raises:
        DataError: see `open_sets`.
    """
    train_split = data.train_split or ("train" if data.train is None else None)
    if data.known is not None:
        valid = None if data.val_split is None else open_labelled(data, data.val_split)
        training, test = open_labelled(data, train_split), open_labelled(data, data.split)
        return sets_of(training, test, valid, train_limit=train_limit, limit=limit)
    place = data if data.train is None else data.model_copy(update={"data": data.train})
    of_valid = place if data.val is None else data.model_copy(update={"data": data.val})
    has_valid = data.val is not None or data.val_split is not None
    unnamed = [("no split 'train': leave the split out", "no split 'train', and no other training images are named")]
    with reworded(*(unnamed if data.train_split is None else [])):
        return open_sets(
            labelled_data(place, split=train_split),
            labelled_data(data, split=data.split),
            labelled_data(of_valid, split=data.val_split) if has_valid else None,
            train_limit=train_limit,
            limit=limit,
        )


def probe_metric(data: DatasetSettings, wanted: Metric | None, sets: ProbeSets) -> Metric:
    """Return the metric of a probe: the one asked for, the dataset's, or the usual one of such labels.

    Raises:
        DataError: it does not exist for these images.
    """
    several = sets.test.truth is not None
    metric = metric_of(data, wanted, several=several) or (Metric.MAP_11 if several else Metric.ACCURACY)
    if metric is Metric.ROC_AUC and not several and len(sets.classes) != 2:
        raise DataError(f"metric {metric} is for two classes, not {len(sets.classes)}")
    check_metric(sets.test, metric)
    return metric


def captioned_data(data: DatasetSettings) -> CaptionedData:
    """Return where images with captions are."""
    assert data.data is not None
    return CaptionedData(
        data.data,
        split=data.split,
        images=data.images,
        image_column=data.image_column,
        caption_column=data.caption_column,
    )


def open_groups(data: DatasetSettings, group_column: str | None, limit: int | None, report: Report) -> GroupedImages:
    """Open images whose groups are their classes, or a column."""
    if data.known is not None:
        return grouped_by_class(open_labelled(data, data.split).limited(limit), report)
    wanted = captioned_data(data)
    return open_grouped(
        wanted, group_column=group_column or data.label_column, limit=limit, report=report, classes=data.classes
    )
