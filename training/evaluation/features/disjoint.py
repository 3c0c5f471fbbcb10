"""Check that images that are measured on are not among those that are trained on."""

from typing import Protocol

import numpy as np

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.training.evaluation.features.compute import Features

MOST_SHARED = 0.01
"""Share of the measured images that may be trained on: published sets hold a few pictures twice."""


class _Named(Protocol):
    @property
    def title(self) -> str: ...
    def __len__(self) -> int: ...
    def key(self, index: int) -> str: ...


def check_disjoint(test: Features, train: Features, test_set: _Named, train_set: _Named) -> str:
    """Compare the readable images of two sets by checksum of their bytes.

    Args:
        test, train: features, of all images of the sets.
        test_set, train_set: the sets.

    Returns:
        A sentence on images that both have; empty if there are none.

    Raises:
        DataError: more than `MOST_SHARED` of the measured images are trained on.
    """
    known = np.isin(test.images[test.indices], train.images[train.indices])
    shared = test.indices[known].tolist()
    if not shared:
        return ""
    shown = ", ".join(test_set.key(index) for index in shared[:3])
    sentence = (
        f"{len(shared):,} of the {counted(len(test_set), 'image')} of {test_set.title} are among those of "
        f"{train_set.title}, which are trained on, by checksum (the first: {shown})"
    )
    if len(shared) > MOST_SHARED * len(test_set):
        raise DataError(f"{sentence}: measure on others")
    return sentence
