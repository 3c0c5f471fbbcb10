"""Open images with groups, for image-to-image retrieval: classes, or a column of a table of paths."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.data.captioned_files import captioned_table
from openwit.training.evaluation.captioned.open import CaptionedData, reworded
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LABEL_NAMES, LabelledData, open_parquet
from openwit.training.evaluation.decoding import Readable

_GROUP_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class GroupedImages:
    """Images with the number of the group of each.

    Attributes:
        title: of the set.
        images: by index.
        groups: (I,) numbers.
        left_out: keys of rows that have no group, by reason.
    """

    title: str
    images: Readable[Any]
    groups: NDArray[np.int64]
    left_out: dict[str, list[str]] = field(default_factory=dict)


def open_grouped(
    wanted: CaptionedData,
    *,
    group_column: str | None,
    limit: int | None,
    report: Callable[[str], None],
    classes: Path | None = None,
) -> GroupedImages:
    """Open images whose groups are their classes, as for zero-shot, or a column of a table of paths.

    Args:
        wanted: where they are.
        group_column: None: `label`, `class` and the like of Parquet, else `group`; `group` of a table of paths.
        limit: number of images drawn from the whole set, of what has classes.
        report: receives sentences on what was found and left out.
        classes: file of the names of numbered classes.

    Raises:
        DataError: there are no images with a group.
    """
    if wanted.data.suffix.lower() in _GROUP_TABLES:
        column = group_column or "group"
        with reworded(("data.caption_column", "--group-column")):
            table = captioned_table(wanted.data, image=wanted.image_column, caption=column, report=report)
        first = [table.texts(index)[0] for index in range(len(table))]
        groups = np.unique(np.array(first, dtype=str), return_inverse=True)[1].astype(np.int64)
        return _refuse_one_group(GroupedImages(table.name, table, groups))
    if group_column is None and wanted.data.suffix.lower() == ".parquet" and wanted.data.is_file():
        names = open_parquet(wanted.data).schema_arrow.names
        group_column = next((name for name in (*LABEL_NAMES, "group") if name in names), "group")
    labelled = LabelledData(
        wanted.data,
        split=wanted.split,
        classes=classes,
        image_column=wanted.image_column,
        label_column=group_column,
    )
    with reworded(("--label-column", "--group-column")):
        return grouped_by_class(open_classification(labelled).limited(limit), report)


def grouped_by_class(found: ClassificationSet, report: Callable[[str], None]) -> GroupedImages:
    """Return labelled images whose groups are their classes.

    Raises:
        DataError: an image may have several classes, or all have the same.
    """
    if found.truth is not None:
        raise DataError(f"the images of {found.title} may have several classes, so they are not in groups")
    for note in found.notes:
        report(note)
    return _refuse_one_group(GroupedImages(found.title, found, found.labels, found.left_out))


def _refuse_one_group(images: GroupedImages) -> GroupedImages:
    """Refuse images of one group, each of which any other one answers.

    Raises:
        DataError: they are.
    """
    if len(images.groups) and (images.groups == images.groups[0]).all():
        raise DataError(f"all images of {images.title} are of one group, so that any other image is right")
    return images
