"""Write a selection so that all workers of a machine share it: its pairs are found by id and by URL, and not read.

An Arrow file of the pairs, and the hashes of ids and of URLs in order with the row of each (32 bytes per pair); files
are mapped, so that memory holds what the images of a task need.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.execution.files import checked
from openwit.pipeline.rehydration.fact_index import mapped
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import SELECTED
from openwit.schemas.tables.images import IMAGES

_PAIRS = "pairs.arrow"
_KEYS = ("ids", "urls")


def write_selection(files: Sequence[Path], folder: Path) -> None:
    """Write the pairs of files of SELECTED to a folder, which exists."""
    ids, urls = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    with atomic_path(folder / _PAIRS) as path, ipc.new_file(str(path), SELECTED.arrow) as write:
        for file in files:
            for batch in SELECTED.read_batches(checked(file)):
                write.write_table(batch)
                ids.append(pair_hashes(batch.column("pair_id").combine_chunks()))
                urls.append(url_hashes(batch.column("url").to_pylist()))
    for name, hashes in (("ids", np.concatenate(ids)), ("urls", np.concatenate(urls))):
        order = np.argsort(hashes, kind="stable")
        for what, values in ((name, hashes[order]), (f"{name}-rows", order)):
            with atomic_path(folder / f"{what}.npy") as path, path.open("wb") as out:
                np.save(out, values)


class Selection:
    """The pairs of a selection, by pair and by URL, in files that are mapped."""

    def __init__(self, folder: Path) -> None:
        self._table = ipc.open_file(pa.memory_map(str(cached(folder / _PAIRS)))).read_all()
        self._by = {name: (mapped(folder / f"{name}.npy"), mapped(folder / f"{name}-rows.npy")) for name in _KEYS}

    def joined(self, images: Sequence[Sequence[dict[str, Any]]], urls: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the texts of N images that the selection holds: first those that each has, then those it gains.

        Args:
            images: pairs of each, as IMAGES holds them.
            urls: of each.
        """
        held = [pair["pair_id"] for pairs in images for pair in pairs]
        by_id = self._found("ids", pair_hashes(pa.array(held, pa.binary(16))))
        by_url = self._found("urls", url_hashes(urls))
        rows = sorted({row for found in (*by_id, *by_url) for row in found})
        taken = dict(zip(rows, self._table.take(pa.array(rows, pa.int64())).to_pylist(), strict=True))
        drawn = {pair["pair_id"]: pair for pair in taken.values()}
        joined = []
        for pairs, gained in zip(images, by_url, strict=True):
            known = {pair["pair_id"] for pair in pairs}
            left = [{**pair, **_draw(drawn[pair["pair_id"]])} for pair in pairs if pair["pair_id"] in drawn]
            new = [_as_pair(taken[row]) for row in gained if taken[row]["pair_id"] not in known]
            joined.append(left + sorted(new, key=lambda pair: (pair["priority"], pair["pair_id"])))
        return joined

    def _found(self, key: str, wanted: np.ndarray) -> list[list[int]]:
        hashes, rows = self._by[key]
        starts = np.searchsorted(hashes, wanted, side="left").tolist()
        ends = np.searchsorted(hashes, wanted, side="right").tolist()
        return [rows[start:end].tolist() for start, end in zip(starts, ends, strict=True)]


def _draw(pair: dict[str, Any]) -> dict[str, Any]:
    return {name: pair[name] for name in ("query_ids", "drawn_by", "priority")}


def _as_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {field.name: row.get(field.name) for field in IMAGES.arrow.field("pairs").type.value_type}


@lru_cache(maxsize=1)
def read_selection(folder: str, token: str) -> Selection:  # noqa: ARG001
    """Map a selection, once per process and token, which names one writing of it."""
    return Selection(as_path(folder))
