"""Read and write how many texts match each query, as MetaCLIP keeps it: entry_counts.json and entry_count.npy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError, RecipeError, one_line
from openwit.schemas.common.packed_lists import read_list

_ENDINGS = (".json", ".npy")


def check_name(path: Path) -> None:
    """Refuse a file whose name does not tell its format.

    Raises:
        RecipeError: it ends in neither .json nor .npy.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise RecipeError(f"{path}: entry counts are written to .json (query: count) or .npy (a count per query)")


def read_entry_counts(path: Path, queries: Sequence[str]) -> np.ndarray:
    """Return the count of each query: int64 (Q,).

    Args:
        path: JSON with an object of query: count, or a list of counts in order; or NumPy's .npy of them.
        queries: the list that they belong to; queries that an object does not name have 0.

    Raises:
        DataError: it cannot be read, holds something else, or belongs to another list.
    """
    check_name(path)
    found = _npy(path) if path.suffix.lower() == ".npy" else _json(path)
    if isinstance(found, dict):
        known = set(queries)
        unknown = next((name for name in found if name not in known), None)
        if unknown is not None:
            raise DataError(f"entry counts {path} name {unknown!r}, which is not in the query list")
        found = [found.get(query, 0) for query in queries]
    try:
        counts = np.asarray(found)
        whole = counts.ndim == 1 and (counts.dtype.kind in "iu" or not counts.size)
    except (ValueError, OverflowError):
        whole = False
    if not whole or (counts.size and (counts.min() < 0 or counts.max() >= 1 << 62)):
        raise DataError(f"entry counts {path} hold something else than whole numbers from 0, one per query")
    if len(counts) != len(queries):
        raise DataError(f"entry counts {path} are of {len(counts):,} queries, but the list has {len(queries):,}")
    return counts.astype(np.int64)


def write_entry_counts(path: Path, queries: Sequence[str], counts: np.ndarray) -> None:
    """Write the count of each query, whole or not at all.

    Args:
        path: .json for an object of query: count, .npy for a uint64 vector.
        queries: Q of them; of equal ones, which have the same count, one is named.
        counts: int64 (Q,).

    Raises:
        RecipeError: the name ends otherwise.
    """
    check_name(path)
    with atomic_path(path) as part:
        if path.suffix.lower() == ".npy":
            with open(part, "wb") as file:
                np.save(file, counts.astype(np.uint64), allow_pickle=False)
        else:
            named = dict(zip(queries, counts.tolist(), strict=True))
            Path(part).write_bytes(msgspec.json.encode(named))


def _npy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"entry counts {path} do not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"entry counts {path} cannot be read: {one_line(error)}") from error


def _json(path: Path) -> Any:
    raw = read_list(path, f"entry counts {path}")
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"entry counts {path} are no JSON: {one_line(error)}") from error
