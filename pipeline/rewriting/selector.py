"""Apply conditions and a list of uids to samples."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.dataset.rewrite_reasons import CONDITION, NOT_LISTED
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.rewriting.conditions import parse_conditions
from openwit.pipeline.rewriting.keep_list import map_keep_list, places_in, read_keep_list, uid_numbers, write_keep_list
from openwit.pipeline.rewriting.settings import WhereSettings

KEEP = f"{STAGE}/keep.npy"


class Selector:
    """Apply conditions and a list of uids to samples."""

    def __init__(self, settings: WhereSettings, keep: Path | None) -> None:
        self._conditions = parse_conditions(settings.where)
        self._keep = None if keep is None else map_keep_list(keep)

    def verdicts(self, samples: pa.Table, split: str) -> tuple[list[tuple[str, str | None] | None], np.ndarray]:
        """Return for each sample why it is dropped, with a detail, or None; and its place in the list, int64 (N,)."""
        found: list[tuple[str, str | None] | None] = [None] * samples.num_rows
        listed = np.full(samples.num_rows, -1, np.int64)
        if self._keep is not None:
            listed = places_in(self._keep, uid_numbers(samples.column("uid").to_pylist()))
            for row in np.flatnonzero(listed < 0).tolist():
                found[row] = (NOT_LISTED, None)
        for condition in self._conditions:
            for row in np.flatnonzero(~condition.holds(samples, split)).tolist():
                found[row] = found[row] or (CONDITION, f"not {condition.written}")
        return found, listed


def prepare_keep_list(settings: WhereSettings, folder: Path) -> Path | None:
    """Write the list of uids where workers map it; return its path, None if there is none."""
    if settings.keep is None:
        return None
    path = folder / KEEP
    if not path.exists():
        write_keep_list(path, read_keep_list(settings.keep))
    return path
