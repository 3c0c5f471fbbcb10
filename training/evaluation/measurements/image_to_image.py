"""Measure image-to-image retrieval."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.training.config.choices import Layer
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import ImageToImageHow
from openwit.training.evaluation.grouped import GroupedImages
from openwit.training.evaluation.image_retrieval import RULE, image_retrieval
from openwit.training.evaluation.measurements.context import Figure, MeasureContext, Measurement
from openwit.training.evaluation.measurements.opening import open_groups

_INTERVAL = "percentile bootstrap over groups, 2000 resamples, gallery fixed"


def open_data(data: DatasetSettings, settings: ImageToImageHow, report: Callable[[str], None]) -> GroupedImages:
    """Open the images and their groups.

    Raises:
        DataError: there are none, or no group has two images.
    """
    found = open_groups(data, settings.group_column, settings.limit, report)
    if len(np.unique(found.groups)) == len(found.groups):
        raise DataError(f"no group of {found.title} has two images, so that no image has another to be found")
    return found


def measure(context: MeasureContext, opened: GroupedImages, _settings: ImageToImageHow) -> Measurement:
    """Return recall at 1, 5 and 10; see `image_retrieval`.

    Raises:
        RecipeError: the model has no embeddings.
    """
    model = context.model
    if not model.embeds:
        raise RecipeError(f"the model was trained for {model.objective_name}, which has no embeddings for retrieval")
    with context.prepared():
        features = context.features_of(opened.images, Layer.PROJECTED)

        def measured() -> Measurement:
            rows = torch.from_numpy(np.array(features.rows))
            found = image_retrieval(rows, opened.groups[features.indices])
            figures = {
                f"recall_at_{each.k}": Figure(each.value, each.low, each.high, 0.95, _INTERVAL, each.chance)
                for each in found.recalls
            }
            left_out = {reason: len(keys) for reason, keys in opened.left_out.items()}
            return Measurement(figures, found.images, features.unreadable, left_out, {**asdict(found), "rule": RULE})

        return context.on_main(measured)
