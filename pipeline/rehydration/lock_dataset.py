"""Lock a dataset: write what is needed to fetch it again and to verify each image, without any picture."""

import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.dataset.places import stages_folder
from openwit.pipeline.dataset.store import DatasetStore, LocalFolder, load_manifest, open_store
from openwit.pipeline.rehydration.lockfile import NOTE, LockNotes, queries_file, sums_file
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE
from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import DataError, RecipeError, SchemaError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from openwit.schemas.table import TableSchema
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.locks import LOCK
from openwit.schemas.tables.queries import QUERY_COUNTS
from openwit.schemas.tables.samples import SAMPLES

_SORTED_TOGETHER = 100_000
_MOST_PARTS = 256
_ROW_GROUP = 8_192
_SAME = (
    "url", "sha256", "width", "height", "original_width", "original_height", "original_format", "texts",
    "query_ids", "drawn_by", "priorities", "text_sources", "languages", "archives", "record_offsets", "licenses",
)  # fmt: skip


def lock_dataset(dataset: str | Path, out: Path, *, pages: bool = False) -> LockNotes:
    """Write the lockfile of a dataset, its table of queries and their checksums, once all of it is checked.

    Until then an older lock stays as it is. The three files then get their names one after another; whoever reads a
    lock notices by their checksums if that was interrupted. The same dataset, with the same work files beside it,
    gives the same bytes.

    Descriptors and hashes of pixels are taken from the build's `stages/` beside the dataset, where they are.

    Args:
        dataset: folder or URL.
        out: the file; two more are written beside it.
        pages: whether the pages of the images are recorded.

    Raises:
        DataError: there is no dataset, a file has changed since it was built, or an image URL is there twice.
        RecipeError: `out`, or its table of queries, is a file of another kind.
    """
    store = open_store(dataset)
    manifest = load_manifest(store)
    _refuse_other(out)
    known = _Descriptors(store, manifest)
    seen: list[np.ndarray] = []
    without_url = 0
    queries = _read_queries(store, manifest)
    with tempfile.TemporaryDirectory(prefix="openwit-") as scratch, ExitStack() as files:
        parts = _Parts(Path(scratch), sum(shard.samples for shard in manifest.shards))
        with parts:
            for shard in manifest.shards:
                rows = _lock_rows(_samples(store, shard), shard.split, known, pages)
                seen.append(known.hashes)
                without_url += int(pc.sum(rows.column("has_bytes")).as_py() or 0)
                parts.add(rows)
        _refuse_twice(np.concatenate([np.zeros(0, np.uint64), *seen]), str(store))
        digest = None if queries is None else hashlib.sha256(queries).hexdigest()
        notes = _notes(manifest, store, digest, without_url, pages=pages, descriptors=known.complete)
        written = {out: files.enter_context(atomic_path(out))}
        LOCK.write(
            written[out], parts.sorted_tables(), row_group_size=_ROW_GROUP, notes={NOTE: notes.model_dump_json()}
        )
        if queries is not None:
            beside = queries_file(out)
            written[beside] = files.enter_context(atomic_path(beside))
            written[beside].write_bytes(queries)
            QUERY_COUNTS.read(written[beside])
        sums = files.enter_context(atomic_path(sums_file(out)))
        sums.write_text("".join(f"{sha256_of(path)}  {target.name}\n" for target, path in written.items()))
    return notes


def _refuse_other(out: Path) -> None:
    if out.is_dir():
        raise RecipeError(f"{out} is a folder: give the name of the lockfile, as in --out {out}/lock.parquet")
    for path, table, kind in ((out, LOCK, "lockfile"), (queries_file(out), QUERY_COUNTS, "table of a lock's queries")):
        if path.exists() and not _holds(path, table):
            raise RecipeError(f"{path} exists and is no {kind}: choose another name")


def _holds(path: Path, table: TableSchema) -> bool:
    try:
        return table.notes(path) is not None
    except SchemaError:
        return False


def _samples(store: DatasetStore, shard: ShardEntry) -> pa.Table:
    with store.local(shard.metadata.path) as path:
        if sha256_of(path) != shard.metadata.sha256:
            raise _changed(store, shard.metadata.path)
        return SAMPLES.found_in(path).read(path).combine_chunks()


def _changed(store: DatasetStore, name: str) -> DataError:
    return DataError(f"{store}/{name} has changed since it was written: run `wit verify {store}`")


def _lock_rows(samples: pa.Table, split: str, known: "_Descriptors", pages: bool) -> pa.Table:
    ids = samples.column("pair_ids").combine_chunks()
    raw = b"".join(map(bytes.fromhex, ids.values.to_pylist()))
    pair_ids = pa.ListArray.from_arrays(
        ids.offsets, pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids.values), [None, pa.py_buffer(raw)])
    )
    urls = samples.column("url")
    columns: dict[str, Any] = {name: samples.column(name) for name in _SAME}
    pixels, fingerprints = known.of(urls)
    first = pc.list_element(ids, 0)
    page_urls = samples.column("page_urls").combine_chunks()
    if not pages:
        page_urls = pa.ListArray.from_arrays(page_urls.offsets, pa.nulls(len(page_urls.values), pa.string()))
    return LOCK.table(
        {
            **columns,
            "uid": samples.column("uid") if "uid" in samples.column_names else first,
            "has_bytes": pc.invert(pc.match_substring_regex(urls, "^(?i)https?:")),
            "split": pa.repeat(split, samples.num_rows),
            "pixels_hash": pixels,
            "phash": np.array([int(text, 16) for text in samples.column("phash").to_pylist()], np.uint64),
            "fingerprint": fingerprints,
            "pair_ids": pair_ids,
            "page_urls": page_urls,
        }
    )


class _Descriptors:
    """The descriptors and hashes of pixels that the build beside a dataset still holds.

    Attributes:
        hashes: of the URLs that were last asked for, uint64 (N,).
        complete: whether every image that was asked for has them.
    """

    def __init__(self, store: DatasetStore, manifest: DatasetManifest) -> None:
        self.hashes = np.zeros(0, np.uint64)
        self.complete = True
        tables = [
            pq.read_table(path, columns=["url", "pixels_hash", "fingerprint"])
            for path in _survivors(store, list(manifest.recipe))
        ]
        empty = SURVIVORS.empty().select(["url", "pixels_hash", "fingerprint"])
        self._table = pa.concat_tables([empty, *tables]).combine_chunks()
        found = url_hashes(self._table.column("url").to_pylist())
        self._order = np.argsort(found)
        self._sorted = found[self._order]

    def of(self, urls: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
        """Return hashes of pixels and descriptors of images by URL, null where they are not known."""
        self.hashes = url_hashes(urls.to_pylist())
        at = np.minimum(np.searchsorted(self._sorted, self.hashes), max(len(self._sorted) - 1, 0))
        known = self._sorted[at] == self.hashes if len(self._sorted) else np.zeros(len(at), bool)
        self.complete &= bool(known.all())
        rows = pa.array(self._order[at] if len(self._order) else at, pa.int64(), mask=~known)
        taken = self._table.take(rows)
        return taken.column("pixels_hash"), taken.column("fingerprint")


def _survivors(store: DatasetStore, steps: list[str]) -> list[Path]:
    """Return the files of SURVIVORS of the last step beside the dataset that wrote some."""
    if not isinstance(store, LocalFolder):
        return []
    folder = stages_folder(store.folder)
    for step in reversed(steps):
        found = sorted((folder / step / "survivors").glob("[!.]*.parquet"))
        if found:
            return found
    return []


class _Parts:
    """Rows of a lock, sorted by the id of their first pair in memory for a part of all rows."""

    def __init__(self, scratch: Path, samples: int) -> None:
        self._scratch = scratch
        self._parts = min(max(-(-samples // _SORTED_TOGETHER), 1), _MOST_PARTS)
        self._stack = ExitStack()
        self._writers: dict[int, pq.ParquetWriter] = {}

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _path(self, part: int) -> Path:
        return self._scratch / f"{part:03d}.parquet"

    def add(self, rows: pa.Table) -> None:
        """Add rows, in any order."""
        leading = np.array([ids[0].as_py()[0] for ids in rows.column("pair_ids")], np.int64)
        part_of = leading * self._parts // 256
        for part in np.unique(part_of).tolist():
            if part not in self._writers:
                writer = pq.ParquetWriter(self._path(part), LOCK.arrow, compression="zstd")
                self._writers[part] = self._stack.enter_context(writer)
            self._writers[part].write_table(rows.filter(pa.array(part_of == part)))

    def sorted_tables(self) -> Iterator[pa.Table]:
        """Yield all rows in their order, part by part."""
        for part in sorted(self._writers):
            rows = pq.read_table(self._path(part), schema=LOCK.arrow)
            keys = [ids[0].as_py() for ids in rows.column("pair_ids")]
            order = sorted(range(len(keys)), key=keys.__getitem__)
            yield rows.take(pa.array(order, pa.int64()))


def _refuse_twice(hashes: np.ndarray, where: str) -> None:
    if len(np.unique(hashes)) < len(hashes):
        raise DataError(f"{where} holds an image URL twice, and a lockfile names each once: deduplicate it first")


def _read_queries(store: DatasetStore, manifest: DatasetManifest) -> bytes | None:
    """Return the dataset's table of queries with their counts; None if there is none."""
    entry = next((entry for entry in manifest.tables if entry.path == QUERY_COUNTS_FILE), None)
    if entry is None:
        return None
    data = store.read(entry.path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _changed(store, entry.path)
    return data


def _notes(
    manifest: DatasetManifest,
    store: DatasetStore,
    queries: str | None,
    without_url: int,
    *,
    pages: bool,
    descriptors: bool,
) -> LockNotes:
    step = manifest.step_of("select")
    settings = manifest.recipe.get(step) or {}
    balance = settings.get("balance", "cap") if settings else "all"
    cap = manifest.notes.get(step, {}).get("cap", settings.get("cap"))
    return LockNotes(
        dataset=manifest.name,
        description=manifest.description,
        recipe=manifest.recipe,
        steps=manifest.steps,
        notes=manifest.notes,
        tools={**manifest.tools, "locked with openwit": importlib.metadata.version("openwit")},
        samples=sum(shard.samples for shard in manifest.shards),
        pairs=sum(shard.pairs for shard in manifest.shards),
        without_url=without_url,
        cap=None if balance == "all" else cap,
        seed=settings.get("seed", 0),
        balance=balance,
        select=step if settings else "",
        queries=queries,
        manifest=hashlib.sha256(store.read(MANIFEST_NAME)).hexdigest(),
        pages=pages,
        descriptors=descriptors and bool(manifest.shards),
    )
