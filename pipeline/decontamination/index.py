"""Find the evaluation image within R bits of a dataset image's hash: an exact index that fits into each worker.

The 64 bits are cut into four blocks of 16. Two hashes that differ in R bits agree within r_j bits in some block j
for every choice of r_j that sums to R - 3, so in each block the values within r_j bits of the query's are looked up,
and the hashes found there are compared in full (multi-index hashing, Norouzi et al. 2012, arXiv 1307.2982).

Memory: about 34 bytes per hash plus 1 MiB; four million hashes take 140 MB.
"""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="no-any-return,assignment,return-value,arg-type,call-overload"

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.compiled import compiled, differing_bits

_BLOCKS, _BITS = 4, 16
_VALUES = 1 << _BITS
_S16, _LOW_16 = np.uint64(16), np.uint64(0xFFFF)


class Nearest(NamedTuple):
    """The nearest evaluation image of each of N hashes; the first of equally near ones.

    Attributes:
        rows: int64 (N,), row of the table; -1 if none is near enough.
        distances: int64 (N,), differing bits; -1 if none is near enough.
        variants: name of the nearest variant; empty if none is near enough.
    """

    rows: np.ndarray
    distances: np.ndarray
    variants: list[str]


class EvaluationIndex:
    """Look up dataset images among the evaluation images.

    Args:
        table: `EVALUATION_IMAGES`, or anything with its columns `sha256`, `pixels_hash`, `variants`, `hashes`.
        max_distance: R, bits; the cost of a lookup rises with every four bits.
    """

    def __init__(self, table: pa.Table, max_distance: int) -> None:
        lists = table.column("hashes").combine_chunks()
        self._ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
        # Of equal hashes, the first counts.
        self._hashes, self._positions = np.unique(lists.flatten().to_numpy(), return_index=True)
        names = table.column("variants").combine_chunks().flatten().dictionary_encode()
        self._names: list[str] = names.dictionary.to_pylist()
        self._codes = names.indices.to_numpy().astype(np.int16)
        self._max_distance = max_distance
        self._flips, self._flip_starts = _flips_by_block(max_distance)
        self._places = np.empty((_BLOCKS, len(self._hashes)), np.int32)
        self._starts = np.zeros((_BLOCKS, _VALUES + 1), np.int32)
        for block in range(_BLOCKS):
            values = ((self._hashes >> np.uint64(_BITS * block)) & _LOW_16).astype(np.uint16)
            self._places[block] = np.argsort(values, kind="stable")
            np.cumsum(np.bincount(values, minlength=_VALUES), out=self._starts[block, 1:])
        self._checksums = {name: _first_rows(table.column(name).to_pylist()) for name in ("sha256", "pixels_hash")}

    def lookup(self, hashes: np.ndarray) -> Nearest:
        """Find the nearest evaluation image of each hash, uint64 (N,)."""
        positions = np.full(len(hashes), -1, np.int64)
        distances = np.full(len(hashes), -1, np.int64)
        if len(self._hashes):
            _look_up(
                np.ascontiguousarray(hashes, np.uint64),
                self._hashes,
                self._positions,
                self._places,
                self._starts,
                self._flips,
                self._flip_starts,
                self._max_distance,
                positions,
                distances,
            )
        rows = np.where(positions < 0, -1, np.searchsorted(self._ends, positions, side="right"))
        variants = ["" if at < 0 else self._names[self._codes[at]] for at in positions.tolist()]
        return Nearest(rows, distances, variants)

    def lookup_checksums(self, checksums: Sequence[str | None], column: str = "sha256") -> np.ndarray:
        """Return int64 (N,): the first row whose `sha256` (or `pixels_hash`) equals each checksum, or -1."""
        known = self._checksums[column]
        return np.array([-1 if value is None else known.get(value, -1) for value in checksums], np.int64)


def _first_rows(values: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row, value in enumerate(values):
        found.setdefault(value, row)
    return found


def _flips_by_block(max_distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks to XOR a block's value with, uint32, and the start of each block's masks, int64 (5,)."""
    spare = max(0, max_distance - (_BLOCKS - 1))
    flips: list[int] = []
    starts = [0]
    for block in range(_BLOCKS):
        # Counted from a radius of -1, at which a block is skipped.
        radius = spare // _BLOCKS + (block < spare % _BLOCKS) if max_distance >= _BLOCKS - 1 else 0
        if block <= max_distance:
            for size in range(min(radius, _BITS) + 1):
                flips += [sum(1 << bit for bit in bits) for bits in combinations(range(_BITS), size)]
        starts.append(len(flips))
    return np.array(flips, np.uint32), np.array(starts, np.int64)


@compiled
def _look_up(
    queries: np.ndarray,
    hashes: np.ndarray,
    positions: np.ndarray,
    places: np.ndarray,
    starts: np.ndarray,
    flips: np.ndarray,
    flip_starts: np.ndarray,
    max_distance: int,
    nearest: np.ndarray,
    distances: np.ndarray,
) -> None:
    for query in range(len(queries)):
        best, first = max_distance + 1, np.int64(-1)
        for block in range(places.shape[0]):
            value = np.uint32((queries[query] >> (_S16 * np.uint64(block))) & _LOW_16)
            for flip in range(flip_starts[block], flip_starts[block + 1]):
                bucket = value ^ flips[flip]
                for at in range(starts[block, bucket], starts[block, bucket + 1]):
                    place = places[block, at]
                    distance = differing_bits(queries[query], hashes[place])
                    if distance < best or (distance == best and first >= 0 and positions[place] < first):
                        best, first = distance, positions[place]
        if first >= 0:
            nearest[query], distances[query] = first, best
