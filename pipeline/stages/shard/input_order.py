"""Keep the order of the inputs by file and row.

A sample with texts of several rows has the place of the first of them; samples of one place, such as the images of one
page, are in order of their URLs.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.readers.samples.folders import NAME_BITS
from openwit.schemas.common.errors import DataError

_PLACE_BITS = 64


@dataclass(frozen=True)
class InputOrder:
    """The order of the inputs.

    Attributes:
        ranks: number of each input file.
        starts: of each split, the first place of each of its shards after the first.
    """

    ranks: Mapping[str, int]
    starts: Mapping[str, np.ndarray]

    def places(self, survivors: pa.Table) -> np.ndarray:
        """Return the place of each of N images in the inputs: uint64 (N,)."""
        return _places(survivors.column("pairs"), self.ranks)

    def shards_of(self, split: str, places: np.ndarray) -> np.ndarray:
        """Return the number of each image's shard among those of its split: int64 (N,)."""
        numbers: np.ndarray = np.searchsorted(self.starts[split], places, side="right")
        return numbers


def plan_order(survivors: Sequence[Path], shards: Mapping[str, int], inputs: Sequence[str]) -> InputOrder:
    """Divide samples in the order of the inputs into shards of equal size.

    Args:
        survivors: files of SURVIVORS.
        shards: number of shards of each split.
        inputs: as the recipe names them, in their order: files, globs or folders.
    """
    archives: set[str] = set()
    for table in read_pairs(survivors, ["archive"]):
        archives.update(pc.unique(_flat(table.column("pairs"), "archive")).to_pylist())
    ranks = {
        name: number for number, name in enumerate(sorted(archives, key=lambda name: (_listed(name, inputs), name)))
    }
    found: dict[str, list[np.ndarray]] = {split: [] for split in shards}
    for table in read_pairs(survivors, ["archive", "record_offset"], "split"):
        places = _places(table.column("pairs"), ranks)
        for split, parts in found.items():
            parts.append(places[pc.equal(table.column("split"), split).to_numpy()])
    starts = {}
    for split, parts in found.items():
        places = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)
        starts[split] = places[np.arange(1, shards[split]) * len(places) // max(shards[split], 1)]
    return InputOrder(ranks, starts)


def inputs_named(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the inputs that the settings of candidates name, in their order."""
    return [name for settings in history for name in settings.get("inputs", [])]


def read_pairs(survivors: Sequence[Path], fields: Sequence[str], *columns: str) -> Iterator[pa.Table]:
    """Yield some fields of the pairs of each file, and some columns; nothing for a file without images."""
    names = [f"pairs.list.element.{field}" for field in fields]
    for path in survivors:
        table = read_columns(path, [*names, *columns])
        if table.num_rows:
            yield table


def _flat(pairs: pa.ChunkedArray, name: str) -> pa.Array:
    return pc.struct_field(pairs.combine_chunks().flatten(), name)


def _places(pairs: pa.ChunkedArray, ranks: Mapping[str, int]) -> np.ndarray:
    """Return the first place of the pairs of each image: uint64 (N,).

    Raises:
        DataError: a row is too far in its file for a place.
    """
    if not len(pairs):
        return np.zeros(0, np.uint64)
    archives = _flat(pairs, "archive").dictionary_encode()
    names = archives.dictionary.to_pylist()
    files = archives.indices.to_numpy()
    rows = _flat(pairs, "record_offset").to_numpy()
    # A folder's places end in bits of names' hashes, which give no order.
    rows = rows >> np.array([NAME_BITS if name.endswith("/") else 0 for name in names], np.int64)[files]
    bits = _row_bits(len(ranks))
    if rows.max() >> bits:
        beyond = int(rows.argmax())
        raise DataError(
            f"place {rows[beyond]:,} in {names[files[beyond]]} is too far to put the samples of {len(ranks):,} inputs "
            "in order: set shard.order to shuffled, or divide the inputs over several datasets"
        )
    numbers = np.array([ranks[name] for name in names], np.uint64)
    every = (numbers[files] << np.uint64(bits)) | rows.astype(np.uint64)
    lengths = pc.list_value_length(pairs).to_numpy()
    found: np.ndarray = np.minimum.reduceat(every, np.cumsum(lengths) - lengths)
    return found


def _row_bits(files: int) -> int:
    """Return how many bits of a place are left for the row where some number the input files."""
    return min(_PLACE_BITS - 1, _PLACE_BITS - max(files - 1, 0).bit_length())


def _listed(name: str, inputs: Sequence[str]) -> int:
    """Return which of the inputs a file belongs to."""
    for number, listed in enumerate(inputs):
        if name == listed or name.startswith(f"{listed.rstrip('/')}/") or fnmatch.fnmatchcase(name, listed):
            return number
    return len(inputs)
