"""Keep the keys that the inputs give samples, and refuse those that cannot be the keys of a dataset."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from openwit.pipeline.common.column_values import KEY, row_of
from openwit.pipeline.dataset.kept_columns import input_keys
from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.stages.shard.input_order import read_pairs
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted

_KEY = re.compile(r"[!-\-0-~][ -\-0-~]{0,93}")
"""A name of members in a tar, without extension: ASCII, at most 94 characters, no dot and no slash."""
_INSTEAD = "set shard.keys to number, which numbers the samples"


def check_keys(survivors: Sequence[Path]) -> None:
    """Refuse samples whose keys cannot be those of a dataset.

    Raises:
        DataError: a sample has none, or one that cannot name files in a tar, or that another sample has.
    """
    hashes: list[np.ndarray] = []
    for keys in _keys(survivors):
        for key in keys:
            _check_name(key)
        hashes.append(_hashes(keys))
    every, counts = np.unique(np.concatenate(hashes or [np.zeros(0, np.uint64)]), return_counts=True)
    _refuse_twice(set(every[counts > 1].tolist()), (key for keys in _keys(survivors) for key in keys))


def check_selected_keys(selected: Sequence[Path]) -> None:
    """Refuse keys of pairs that cannot be those of a dataset, before their images are fetched.

    An image whose pairs have different keys is left to `check_keys`: which of them is its key is decided later.

    Args:
        selected: files of SELECTED whose rows have the keys of their inputs.

    Raises:
        DataError: an image has none, or one that cannot name files in a tar, or that another image has.
    """
    images, keys = [], []
    for path in selected:
        table = read_columns(path, ["url", "columns"])
        images.append(_hashes(table.column("url").to_pylist()))
        keys.append(_hashes(key or "" for key in _keys_of_rows(table)))
    urls, named = np.concatenate(images), np.concatenate(keys)
    order = np.lexsort((named, urls))
    urls, named = urls[order], named[order]
    first = np.flatnonzero(np.append(True, urls[1:] != urls[:-1])[: len(urls)])
    last = np.append(first[1:], len(urls))[: len(first)] - 1
    sure = named[first][named[first] == named[last]]
    every, counts = np.unique(sure, return_counts=True)
    missing = int(counts[every == xxhash.xxh3_64_intdigest(b"")].sum())
    if missing:
        raise DataError(_lacking(missing))
    of_one = set(every.tolist())
    for key in _each_key(selected):
        if xxhash.xxh3_64_intdigest(key.encode()) in of_one:
            _check_name(key)
    _refuse_twice(set(every[counts > 1].tolist()), _each_key(selected))


def keys_of(survivors: pa.Table) -> list[str]:
    """Return the keys that the inputs gave some samples.

    Raises:
        DataError: one has none.
    """
    pairs = survivors.column("pairs").combine_chunks()
    keys = input_keys(pc.struct_field(pairs.values, "columns"), pairs.offsets.to_numpy())
    found = [key for key in keys if key is not None]
    if len(found) < len(keys):
        raise DataError(_lacking(len(keys) - len(found)))
    return found


def _lacking(samples: int) -> str:
    return f"{samples:,} samples have no key of their inputs: {_INSTEAD}"


def _check_name(key: str) -> None:
    if _KEY.fullmatch(key) is None:
        raise DataError(
            f"key {key!r} of an input cannot name files of a sample in a tar (ASCII without '.' and '/', at most 94 "
            f"characters): {_INSTEAD}"
        )


def _refuse_twice(twice: set[int], keys: Iterable[str]) -> None:
    """Refuse keys of several samples, which are known by their hashes; name the first of them."""
    if twice:
        named = next(key for key in keys if xxhash.xxh3_64_intdigest(key.encode()) in twice)
        raise DataError(
            f"several samples have the key {named!r} of their inputs ({counted(len(twice), 'key')}): {_INSTEAD}"
        )


def _hashes(texts: Iterable[str]) -> np.ndarray:
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64)


def _keys(survivors: Sequence[Path]) -> Iterator[list[str]]:
    return map(keys_of, read_pairs(survivors, ["columns"]))


def _each_key(selected: Sequence[Path]) -> Iterator[str]:
    for path in selected:
        yield from filter(None, _keys_of_rows(read_columns(path, ["columns"])))


def _keys_of_rows(table: pa.Table) -> Iterator[str | None]:
    """Yield the key of each row of SELECTED; None if its input gave none."""
    for text in table.column("columns").to_pylist():
        key = row_of(text).get(KEY)
        yield None if key is None else str(key)
