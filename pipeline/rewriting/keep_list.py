"""Read a list of uids that are to be kept, as DataComp publishes them: .npy, or a table, or a uid a line.

A uid of 32 hex digits is a number of 128 bits, any other text stands for its hash; a list is sorted and kept in a file
that workers map, so that it costs no memory of its own in each.
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.remote import local_copy
from openwit.schemas.common.text_files import decode_text

_UID = np.dtype([("high", "<u8"), ("low", "<u8")])
_HEX = re.compile(r"[0-9a-f]{32}")
_COLUMNS = ("uid", "key")


def uid_numbers(uids: list[str]) -> np.ndarray:
    """Return uids as numbers: `high` and `low`, uint64 (N,)."""
    raw = b"".join(
        bytes.fromhex(uid) if _HEX.fullmatch(uid) else xxhash.xxh3_128_digest(uid.encode("utf-8", "surrogatepass"))
        for uid in map(str.lower, uids)
    )
    found: np.ndarray = np.frombuffer(raw, np.dtype([("high", ">u8"), ("low", ">u8")])).astype(_UID)
    return found


def read_keep_list(name: str) -> np.ndarray:
    """Return the uids of a list as numbers, sorted, each once.

    Args:
        name: a .npy of texts or of DataComp's pairs of numbers, a Parquet file with a column `uid` (or one column), or
            a text with a uid a line; a path or URL.

    Raises:
        DataError: it cannot be read, or holds no uid.
    """
    refuse_special(name, f"--keep {name}")
    try:
        with local_copy(name) as path:
            found = _read(name, Path(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--keep {name} cannot be read: {one_line(error)}") from error
    if not len(found):
        raise DataError(f"--keep {name} names no uid")
    return np.unique(found)


def _read(name: str, path: Path) -> np.ndarray:
    ending = name.partition("?")[0].lower().rpartition(".")[2]
    if ending == "npy":
        return _from_array(name, np.load(path, mmap_mode="r", allow_pickle=False))
    if ending in ("parquet", "pq"):
        return uid_numbers(_column(name, path))
    if ending in ("txt", "text", "lst"):
        return uid_numbers([line.strip() for line in decode_text(path.read_bytes()).text.splitlines() if line.strip()])
    raise DataError(f"--keep {name}: give uids as .npy, .parquet or .txt")


def _from_array(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1:
        raise DataError(f"--keep {name} is an array of {array.ndim} dimensions: give one uid after the other")
    if array.dtype.names is not None and len(array.dtype.names) == 2:
        made = np.empty(len(array), _UID)
        made["high"], made["low"] = (array[field].astype(np.uint64) for field in array.dtype.names)
        return made
    if array.dtype.kind == "S":
        return uid_numbers([value.decode() for value in array.tolist()])
    if array.dtype.kind == "U":
        return uid_numbers(array.tolist())
    raise DataError(f"--keep {name} holds {array.dtype}: give texts, or pairs of unsigned numbers as DataComp does")


def _column(name: str, path: Path) -> list[str]:
    schema = pq.read_schema(path)
    column = next((each for each in _COLUMNS if each in schema.names), None)
    column = schema.names[0] if column is None and len(schema.names) == 1 else column
    if column is None:
        raise DataError(f"--keep {name} has no column 'uid'; it has: {', '.join(schema.names[:30])}")
    values = pq.read_table(path, columns=[column]).column(0)
    return [str(value) for value in values.to_pylist() if value is not None]


def write_keep_list(path: Path, uids: np.ndarray) -> None:
    """Write a sorted list where workers map it."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, uids)


def map_keep_list(path: Path) -> np.ndarray:
    """Map a list that `write_keep_list` wrote."""
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def places_in(keep: np.ndarray, uids: np.ndarray) -> np.ndarray:
    """Return where in a sorted list each uid is, -1 for none: int64 (N,)."""
    if not len(keep):
        return np.full(len(uids), -1, np.int64)
    places = np.searchsorted(keep["high"], uids["high"], side="left")
    at = np.minimum(places, len(keep) - 1)
    same_high = keep["high"][at] == uids["high"]
    found = np.where(same_high & (keep["low"][at] == uids["low"]), at, -1)
    # Uids are hashes, so that hardly two have the same upper half: the first look nearly always decides.
    for row in np.flatnonzero(same_high & (found < 0)).tolist():
        place = int(places[row])
        while place < len(keep) and keep["high"][place] == uids["high"][row]:
            if keep["low"][place] == uids["low"][row]:
                found[row] = place
                break
            place += 1
    return found
