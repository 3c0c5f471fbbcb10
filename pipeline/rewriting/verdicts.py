"""Keep hashes of the samples of each shard, and find in them the samples that several inputs have."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.dataset.rewrite_reasons import SAME_BYTES, SAME_UID, SAME_URL
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.rewriting.keep_list import map_keep_list
from openwit.pipeline.rewriting.sources import Sources
from openwit.pipeline.stages.dedup.reasons import COPY_OF_HELD_OUT
from openwit.schemas.common.atomic import atomic_path

VERDICTS = f"{STAGE}/verdicts"
_TWICE_FILE = f"{STAGE}/twice.npy"
_TWICE = np.dtype([("place", "<u8"), ("of", "<u8"), ("reason", "u1")])
_TWICE_REASONS = (SAME_UID, SAME_URL, SAME_BYTES, COPY_OF_HELD_OUT)
_ROW_BITS = 32
_PLACEHOLDER = "table:"
_HEX = re.compile("[0-9a-f]{32}")
_VERDICTS = pa.schema(
    [
        ("row", pa.int32()),
        ("uid", pa.uint64()),
        ("url", pa.uint64()),
        ("sha256", pa.uint64()),
        ("key", pa.uint64()),
        ("listed", pa.int64()),
    ]
)


def write_verdicts(path: Path, samples: pa.Table, rows: np.ndarray, listed: np.ndarray, shard: int) -> None:
    """Write the hashes of the samples of a shard that are kept if no other input has them.

    Args:
        samples: of the shard, N rows of SAMPLES.
        rows: those that are kept, int64 (M,).
        listed: their places in the list of uids, int64 (M,), -1 for none.
        shard: its number.
    """
    chosen = samples.take(pa.array(rows))
    urls, uids = _identities(chosen, [f"\0{shard}:{row}" for row in rows.tolist()])
    columns = {"row": pa.array(rows, pa.int32()), "listed": pa.array(listed)}
    columns |= {"url": _hashes(urls), "uid": _hashes(uids)}
    columns |= {name: _hashes(chosen.column(name).to_pylist()) for name in ("sha256", "key")}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table([columns[name] for name in _VERDICTS.names], schema=_VERDICTS), temporary)


def _identities(samples: pa.Table, places: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return URL and uid of samples, or its place where they do not identify an image beyond its own dataset.

    Names in place of a URL tell the rows of one build from each other, and so do uids that are no hash.
    """
    urls, uids = [], []
    for url, uid, place in zip(
        samples.column("url").to_pylist(), samples.column("uid").to_pylist(), places, strict=True
    ):
        is_url = not url.startswith(_PLACEHOLDER)
        urls.append(normalise_url(url) if is_url else place)
        uids.append(uid if is_url and _HEX.fullmatch(uid) else place)
    return urls, uids


def _hashes(texts: Sequence[str]) -> pa.Array:
    return pa.array(np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts)))


def _verdict_files(folder: Path) -> list[Path]:
    return sorted((folder / VERDICTS).glob("[!.]*.parquet"))


def count_listed(folder: Path, keep: Path) -> dict[str, int]:
    """Return how many uids of the list there are, and how many of them samples have."""
    total = len(map_keep_list(keep))
    seen = np.zeros(total, bool)
    for path in _verdict_files(folder):
        places = pq.read_table(path, columns=["listed"]).column(0).to_numpy()
        seen[places[places >= 0]] = True
    return {"uids": total, "found": int(seen.sum())}


def write_twice(folder: Path, sources: Sources) -> None:
    """Write the samples that an earlier input has, sorted by place."""
    places, held = [], []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("uid", "url", "sha256")}
    for shard, path in zip(sources.shards, _verdict_files(folder), strict=True):
        table = pq.read_table(path, columns=["row", *columns])
        places.append(table.column("row").to_numpy().astype(np.uint64) | np.uint64(shard.number << _ROW_BITS))
        held.append(np.full(table.num_rows, shard.entry.split != "train"))
        for name, found in columns.items():
            found.append(table.column(name).to_numpy())
    dataset_of = np.array([shard.dataset for shard in sources.shards], np.int64)
    made = find_twice(
        np.concatenate(places), np.concatenate(held), [np.concatenate(found) for found in columns.values()], dataset_of
    )
    with atomic_path(folder / _TWICE_FILE) as temporary, temporary.open("wb") as file:
        np.save(file, made)


def find_twice(
    places: np.ndarray, held_out: np.ndarray, columns: Sequence[np.ndarray], dataset_of: np.ndarray
) -> np.ndarray:
    """Return the samples that are there before: of equal hashes the first is kept, held-out ones before all.

    Args:
        places: uint64 (N,): shard number and row.
        held_out: bool (N,).
        columns: hashes of uid, URL and bytes, uint64 (N,) each.
        dataset_of: int64: the dataset of each shard.

    Returns:
        An array of `_TWICE`, sorted by place. Two samples of one dataset both stay: its own build has decided that.
    """
    order = np.lexsort((places, ~held_out))
    datasets = dataset_of[(places[order] >> np.uint64(_ROW_BITS)).astype(np.int64)]
    first_of = np.full(len(places), -1, np.int64)  # in positions of `order`
    reason = np.zeros(len(places), np.uint8)
    for number, hashes in enumerate(columns):
        _, first, inverse = np.unique(hashes[order], return_index=True, return_inverse=True)
        before = first[inverse]
        mine = (before != np.arange(len(places))) & (datasets[before] != datasets) & (first_of < 0)
        first_of[mine], reason[mine] = before[mine], number
    rows = np.flatnonzero(first_of >= 0)
    splits = held_out[order]
    reason[rows[splits[first_of[rows]] & ~splits[rows]]] = _TWICE_REASONS.index(COPY_OF_HELD_OUT)
    made = np.empty(len(rows), _TWICE)
    made["place"], made["of"], made["reason"] = places[order][rows], places[order][first_of[rows]], reason[rows]
    return np.sort(made, order="place")


def map_twice(folder: Path) -> np.ndarray:
    """Return what `write_twice` wrote in a folder, mapped; no entries if there is no file."""
    path = folder / _TWICE_FILE
    return np.load(path, mmap_mode="r") if path.exists() else np.zeros(0, _TWICE)


def twice_in(twice: np.ndarray, shard: int) -> Iterator[tuple[int, int, int, str]]:
    """Yield the samples of a shard that an earlier input has: row, that one's shard and row, and the reason."""
    first, end = np.searchsorted(twice["place"], [shard << _ROW_BITS, (shard + 1) << _ROW_BITS])
    low = (1 << _ROW_BITS) - 1
    for entry in twice[first:end]:
        other = int(entry["of"])
        yield int(entry["place"]) & low, other >> _ROW_BITS, other & low, _TWICE_REASONS[int(entry["reason"])]
