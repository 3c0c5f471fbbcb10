"""Remove samples from a finished dataset: only the shards that hold one are rewritten, member by member.

Filtering a shard is idempotent: it depends only on what the archive holds at that moment. A journal in the dataset
records what to remove; after a kill at any moment, the same removal completes the dataset.
"""

import hashlib
import mmap
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.dataset.card_sums import delete_card
from openwit.pipeline.dataset.filter_layouts import filter_folder, filter_table
from openwit.pipeline.dataset.layouts import EXTENSIONS, Laid
from openwit.pipeline.dataset.removal_journal import JOURNAL, Gone, Journal, ShardPlan, read_journal, write_journal
from openwit.pipeline.dataset.removal_list import KINDS, RemovalList
from openwit.pipeline.dataset.removal_tables import rewrite_tables
from openwit.pipeline.dataset.store import DatasetStore, LocalFolder, load_manifest, save_manifest
from openwit.pipeline.dataset.tar_writer import TarWriter, members
from openwit.pipeline.dataset.write_shard import SHARD_FILES, shard_files
from openwit.pipeline.execution.files import LOCK
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.images.sniff import ENDINGS
from openwit.schemas.manifest import DatasetManifest, FileEntry, ShardEntry
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX, image_endings

SCRATCH = ".removing"
_COLUMNS = ("key", "url", "sha256", "phash", "pair_ids", "query_ids")
_QUERIES = "queries.parquet"
_MEMBERS = (frozenset(ENDINGS.values()), {EXTENSIONS["text"]}, {EXTENSIONS["json"]})
"""Extensions of a sample's members, in their order."""

Progress = Callable[[str, int, int], None]
"""Called with the current phase, shards done, and the total number of shards."""


def plan_removal(
    store: DatasetStore, wanted: RemovalList, *, card: dict[str, object] | None, progress: Progress
) -> Journal:
    """Find the samples that a list names in the shards' metadata; or return the plan of a removal that was cut off.

    Args:
        card: settings of the dataset's card, kept for building it again.

    Raises:
        DataError: it is not a dataset, or a removal with another list was cut off.
    """
    begun = read_journal(store)
    if begun is not None:
        if begun.list_sha256 != wanted.sha256:
            raise DataError(
                f"a removal from {store} was cut off: complete it first, with its own list "
                f"(sha256 {begun.list_sha256[:12]}…)"
            )
        return begun
    manifest = load_manifest(store)
    plans: dict[str, ShardPlan] = {}
    matched: set[int] = set()
    queries: Counter[int] = Counter()
    for number, shard in enumerate(manifest.shards):
        progress("Finding samples", number, len(manifest.shards))
        gone = []
        for row, found in _named(store, shard, wanted):
            matched.update(line for kind, value in found for line in wanted.lines[kind][value])
            gone.append(Gone(row["key"], found[0][0], row["url"], len(row["pair_ids"])))
            queries.update(query for ids in row["query_ids"] for query in ids)
        if gone:
            plans[shard.tar.path] = ShardPlan(shard.samples, gone)
    sums = {entry.path: entry.sha256 for entry in manifest.tables}
    return Journal(
        list_sha256=wanted.sha256,
        entries=len(wanted.words),
        matched=sorted(matched),
        shards=plans,
        queries=dict(sorted(queries.items())),
        queries_sha256=sums.get(_QUERIES) or _sha256_at(store, _QUERIES),
        funnel=len(manifest.funnel),
        removals=len(manifest.removals),
        card=card,
    )


def _named(
    store: DatasetStore, shard: ShardEntry, wanted: RemovalList
) -> Iterator[tuple[dict[str, Any], list[tuple[str, str]]]]:
    with store.open(shard.metadata.path) as source:
        table = pq.read_table(source, columns=list(_COLUMNS))
    identities = zip(*(table.column(name).to_pylist() for name in ("url", "sha256", "phash")), strict=True)
    hits = [(row, found) for row, names in enumerate(identities) if (found := wanted.matches(*names))]
    rows = table.take(pa.array([row for row, _ in hits], pa.int64())).to_pylist()
    for row, (_, found) in zip(rows, hits, strict=True):
        yield row, found


def remove(
    store: DatasetStore, wanted: RemovalList, journal: Journal, renew_card: Callable[[], None], progress: Progress
) -> DatasetManifest:
    """Carry out a plan; return the new manifest.

    Args:
        renew_card: called at the end if the dataset had a card, because the old one shows what was removed.

    Raises:
        DataError: a shard is damaged.
        StorageError: the disk is full, or the store cannot be written. Running the removal again resumes it.
        NetworkError: the store cannot be reached. Running the removal again resumes it.
    """
    with _locked(store):
        return _remove(store, wanted, journal, renew_card, progress)


@contextmanager
def _locked(store: DatasetStore) -> Iterator[None]:
    """Lock a local dataset against a second removal, and against the stage that writes it."""
    if not isinstance(store, LocalFolder):
        yield
        return
    busy = f"another command is running in {store}: wait for it"
    with hold_lock(store.folder / LOCK, busy):
        yield


def _remove(
    store: DatasetStore, wanted: RemovalList, journal: Journal, renew_card: Callable[[], None], progress: Progress
) -> DatasetManifest:
    resumed = read_journal(store) is not None
    if not resumed:
        write_journal(store, journal)
    delete_card(store)
    manifest = load_manifest(store)
    with _scratch(store) as scratch, storage_faults(scratch):
        for number, shard in enumerate(manifest.shards):
            plan = journal.shards.get(shard.tar.path)
            if plan is None or shard.samples == plan.before - len(plan.gone):
                continue
            progress("Writing shards", number, len(manifest.shards))
            rewritten = _rewrite(store, shard, plan, scratch, resumed)
            shards = [rewritten if s.tar.path == shard.tar.path else s for s in manifest.shards]
            manifest = journal.applied(manifest.model_copy(update={"shards": shards}))
            save_manifest(store, manifest)
        tables = rewrite_tables(store, wanted, journal=journal, entries=manifest.tables, scratch=scratch)
    manifest = manifest.model_copy(update={"tables": tables})
    save_manifest(store, manifest)
    if journal.card is not None:
        renew_card()
    store.delete(JOURNAL)
    return manifest


def by_kind(journal: Journal) -> dict[str, int]:
    """Count the samples to remove by the kind of entry that names them; kinds without any are omitted."""
    counts = Counter(sample.kind for sample in journal.gone())
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


@contextmanager
def _scratch(store: DatasetStore) -> Iterator[Path]:
    """Yield a folder for files that are not yet part of the dataset; inside a local one, to allow renames."""
    if not isinstance(store, LocalFolder):
        with tempfile.TemporaryDirectory(prefix="openwit-") as temporary:
            yield Path(temporary)
        return
    folder = store.folder / SCRATCH
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rewrite(store: DatasetStore, shard: ShardEntry, plan: ShardPlan, scratch: Path, resumed: bool) -> ShardEntry:
    """Rewrite a shard without the removed samples; return its new entry."""
    gone = {sample.key for sample in plan.gone}
    base = scratch / shard.split / shard.name
    base.parent.mkdir(parents=True, exist_ok=True)
    if shard.format == "parquet":
        with store.local(shard.tar.path) as table:
            _check_sum(store, shard, table, resumed)
            laid, samples = filter_table(table, base, gone)
    else:
        with store.local(shard.metadata.path) as path:
            samples = SAMPLES.found_in(path).read(path)
        endings = dict(zip(samples.column("key").to_pylist(), image_endings(samples), strict=True))
        samples = samples.filter(pc.invert(pc.is_in(samples.column("key"), pa.array(sorted(gone), pa.string()))))
        if shard.format == "files":
            named = {key: endings[key] for key in sorted(gone) if key in endings}
            laid = _of_folder(store, shard, samples, named, resumed)
        else:
            laid = _of_tar(store, shard, samples, base, gone, resumed)
    files = shard_files(base, shard.format, samples, laid)
    names = [getattr(shard, name).path for name in SHARD_FILES]
    sizes = [int(laid.sizes.sum()) if shard.format == "files" else -1, -1, -1, -1]
    entries = {
        field: FileEntry(path=name, bytes=path.stat().st_size if size < 0 else size, sha256=digest)
        for field, name, (path, digest), size in zip(SHARD_FILES, names, files, sizes, strict=True)
    }
    for name, path in {name: path for name, (path, _) in zip(names, files, strict=True)}.items():
        if path.exists():  # the files of a folder stay where they are
            store.move_in(path, name)
    pairs = int(pc.sum(pc.list_value_length(samples.column("texts"))).as_py() or 0)
    return shard.model_copy(update={"samples": samples.num_rows, "pairs": pairs, **entries})


def _check_sum(store: DatasetStore, shard: ShardEntry, path: Path, resumed: bool) -> None:
    if not resumed and sha256_of(path) != shard.tar.sha256:
        raise DataError(f"{store}/{shard.tar.path} does not match the manifest: verify the dataset and restore it")


def _of_tar(
    store: DatasetStore, shard: ShardEntry, samples: pa.Table, base: Path, gone: set[str], resumed: bool
) -> Laid:
    """Write the tar without the removed samples."""
    with store.local(shard.tar.path) as tar:
        _check_sum(store, shard, tar, resumed)
        try:
            sha256, keys, offsets, sizes = _filter_tar(tar, base.with_suffix(".tar"), gone)
        except ValueError as error:
            raise DataError(f"{store}/{shard.tar.path} is not an archive of a dataset: {error}") from error
    if keys != samples.column("key").to_pylist():
        raise DataError(f"{store}/{shard.tar.path} does not hold the samples its metadata names: verify the dataset")
    return Laid(sha256, offsets, sizes)


def _of_folder(
    store: DatasetStore, shard: ShardEntry, samples: pa.Table, gone: Mapping[str, str], resumed: bool
) -> Laid:
    """Delete the files of the removed samples."""
    keys = samples.column("key").to_pylist()
    with store.local(shard.index.path) as path, pa.OSFile(str(path)) as source:
        index = SHARD_INDEX.conform(pa.ipc.open_file(source).read_all(), shard.index.path)
    index = index.filter(pc.is_in(index.column("key"), pa.array(keys, pa.string())))
    if index.column("key").to_pylist() != keys:
        raise DataError(f"{store}/{shard.index.path} does not hold the samples its metadata names: verify the dataset")
    sizes = np.stack([index.column(f"{member}_size").to_numpy() for member in EXTENSIONS], axis=1)
    return Laid(filter_folder(store, shard, samples, gone, resumed=resumed), np.zeros_like(sizes), sizes)


def _filter_tar(source: Path, target: Path, gone: set[str]) -> tuple[str, list[str], np.ndarray, np.ndarray]:
    """Copy an archive without some samples; return its sha256, keys, and offsets and sizes, int64 (N, 3) each.

    Raises:
        ValueError: it is damaged, or its members do not form samples.
    """
    places: list[tuple[int, int]] = []
    keys: list[str] = []
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as archive,
        target.open("wb", buffering=0) as out,
    ):
        digest = hashlib.sha256()
        writer = TarWriter(out, digest)
        for member in members(archive):
            key, _, extension = member.name.rpartition(".")
            if key in gone:
                continue
            if extension not in _MEMBERS[len(places) % 3]:
                raise ValueError(f"member {member.name!r} is out of order")
            if len(places) % 3 == 0:
                keys.append(key)
            elif key != keys[-1]:
                raise ValueError(f"member {member.name!r} is inside sample {keys[-1]!r}")
            places.append((writer.position + member.data - member.header, member.size))
            writer.copy(bytes(archive[member.header : member.end]))
        writer.close()
    where = np.array(places, np.int64).reshape(-1, 3, 2)
    return digest.hexdigest(), keys, where[:, :, 0], where[:, :, 1]


def _sha256_at(store: DatasetStore, name: str) -> str | None:
    if store.size(name) is None:
        return None
    with store.local(name) as path:
        return sha256_of(path)
