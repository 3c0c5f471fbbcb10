"""Check a dataset against its manifest: checksums, counts, schemas, index offsets, and that there are no other files.

Shards are checked one after the other; memory is limited by one shard's metadata.
"""

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.dataset.card_sums import CARD, card_problems
from openwit.pipeline.dataset.layouts import EXTENSIONS, folder_sum, member_names, table_members
from openwit.pipeline.dataset.removal_journal import JOURNAL
from openwit.pipeline.dataset.store import DatasetStore, by_folder, load_manifest, open_store
from openwit.pipeline.dataset.tar_writer import members
from openwit.pipeline.dataset.target import BUILDING
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import SchemaError
from openwit.schemas.images.sniff import ENDINGS, sniff_format
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, FileEntry, ShardEntry
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX, image_endings

# Files beside those that the manifest lists: the card, which cites it, and the records of the stage that wrote it.
_MAY_BE_THERE = frozenset(
    {MANIFEST_NAME, JOURNAL, BUILDING, *CARD, ".stage/claim.json", ".stage/manifest.json", ".stage/lock"}
)
_ODD = {"link": "a link, but a dataset holds its files itself", "other": "neither a file nor a folder"}

_NAMES = {ending: name for name, ending in ENDINGS.items()}
_MAGIC = 512  # bytes by which a format is known

Progress = Callable[[int, int], None]
"""Called with bytes checked and the total number of bytes."""


def verify_dataset(dataset: str | Path, progress: Progress = lambda _done, _of: None) -> list[str]:
    """Return every problem of a dataset, one sentence each; empty if the dataset matches its manifest.

    Args:
        dataset: folder or URL.

    Raises:
        DataError: it does not hold a manifest.
        NetworkError: it cannot be reached.
    """
    store = open_store(dataset)
    manifest = load_manifest(store)
    sizes = store.sizes()
    folders = {shard.tar.path for shard in manifest.shards if shard.format == "files"}
    found = by_folder(sizes) if folders else {}
    sizes = {name: size for name, size in sizes.items() if name.rpartition("/")[0] not in folders}
    problems = [*_check_names(manifest, sizes), *_check_totals(manifest), *card_problems(store)]
    problems += [f"{name}: {_ODD[what]}" for name, what in store.odd().items()]
    total = sum(entry.bytes for entry in _entries(manifest))
    done = 0
    for entry in manifest.tables:
        problems += _check_table(store, entry, sizes)
        done += entry.bytes
    for shard in manifest.shards:
        progress(done, total)
        if shard.format == "files":
            problems += _check_folder(store, shard, sizes, found.get(shard.tar.path, {}))
        else:
            problems += _check_shard(store, shard, sizes)
        done += sum(entry.bytes for entry in shard.files())
    progress(done, total)
    return problems


def _entries(manifest: DatasetManifest) -> list[FileEntry]:
    return [*manifest.tables, *(entry for shard in manifest.shards for entry in shard.files())]


def _check_names(manifest: DatasetManifest, sizes: dict[str, int]) -> Iterator[str]:
    if JOURNAL in sizes:
        yield f"{JOURNAL}: a removal was cut off: run it again with the same list to complete it"
    if BUILDING in sizes:
        yield f"{BUILDING}: the dataset is being built, or its build was cut off"
    known = {entry.path for entry in _entries(manifest)} | _MAY_BE_THERE
    for name in sizes:
        if name not in known:
            yield f"{name}: not listed in the manifest"


def _check_totals(manifest: DatasetManifest) -> Iterator[str]:
    for unit in ("samples", "pairs"):
        steps = [step for step in manifest.funnel if step.unit == unit and step.stage in ("shard", "removed")]
        held = sum(getattr(shard, unit) for shard in manifest.shards)
        if steps and steps[-1].rows_out != held:
            yield f"{MANIFEST_NAME}: the shards hold {held:,} {unit}, the funnel ends with {steps[-1].rows_out:,}"


def _check_table(store: DatasetStore, entry: FileEntry, sizes: dict[str, int]) -> Iterator[str]:
    problem = _check_size(entry, sizes)
    if problem is None:
        with store.local(entry.path) as path:
            problem = _check_sum(entry, path)
    if problem:
        yield problem


def _check_shard(store: DatasetStore, shard: ShardEntry, sizes: dict[str, int]) -> Iterator[str]:
    files = shard.files()
    problems = [problem for entry in files if (problem := _check_size(entry, sizes))]
    if problems:
        yield from problems
        # Files of the right size may still have changed bytes.
        for entry in files:
            if _check_size(entry, sizes) is None:
                yield from _check_table(store, entry, sizes)
        return
    with ExitStack() as stack:
        paths = {entry.path: stack.enter_context(store.local(entry.path)) for entry in files}
        problems = [problem for entry in files if (problem := _check_sum(entry, paths[entry.path]))]
        yield from problems or _check_rows(
            shard, *(paths[entry.path] for entry in (shard.tar, shard.metadata, shard.index))
        )


def _check_folder(
    store: DatasetStore, shard: ShardEntry, sizes: dict[str, int], found: dict[str, int]
) -> Iterator[str]:
    """Check a shard of the format files.

    Args:
        found: files of its folder, by name, with their sizes.
    """
    others = [entry for entry in shard.files() if entry != shard.tar]
    problems = [problem for entry in others for problem in _check_table(store, entry, sizes)]
    if problems:
        yield from problems
        return
    with store.local(shard.metadata.path) as metadata, store.local(shard.index.path) as index:
        problems, keys, ranges, endings = _rows(shard, metadata, index)
    yield from problems
    if problems:
        return
    names = member_names(keys, endings)
    wanted = dict(zip(names, _interleaved(ranges, "size"), strict=True))
    yield from (f"{shard.tar.path}/{name}: not listed in the manifest" for name in found if name not in wanted)
    wrong = [f"{shard.tar.path}/{name}: missing" for name in wanted if name not in found]
    wrong += [
        f"{shard.tar.path}/{name}: {found[name]:,} bytes, {shard.index.path} says {size:,}"
        for name, size in wanted.items()
        if name in found and found[name] != size
    ]
    yield from wrong
    if wrong:
        return
    sums: dict[str, str] = {}
    for number, name in enumerate(names):
        with store.local(f"{shard.tar.path}/{name}") as path:
            sums[name] = sha256_of(path)
            ending = endings[number // len(EXTENSIONS)]
            if number % len(EXTENSIONS) == 0 and not _is_image(path.open("rb").read(_MAGIC), ending):
                yield f"{shard.tar.path}/{name}: not a {_NAMES.get(ending, ending)}"
    if folder_sum(sums) != shard.tar.sha256:
        yield f"{shard.tar.path}: sha256 of its files differs from the manifest's, the bytes of one have changed"


def _check_size(entry: FileEntry, sizes: dict[str, int]) -> str | None:
    if entry.path not in sizes:
        return f"{entry.path}: missing"
    if sizes[entry.path] != entry.bytes:
        return f"{entry.path}: {sizes[entry.path]:,} bytes, the manifest says {entry.bytes:,}"
    return None


def _check_sum(entry: FileEntry, path: Path) -> str | None:
    if sha256_of(path) != entry.sha256:
        return f"{entry.path}: sha256 differs from the manifest's, the bytes have changed"
    return None


def _check_rows(shard: ShardEntry, tar: Path, metadata: Path, index: Path) -> Iterator[str]:
    """Check that the files of a shard, whose checksums are right, agree with each other."""
    problems, keys, ranges, endings = _rows(shard, metadata, index)
    yield from problems
    if not problems:
        check = _check_columns if shard.format == "parquet" else _check_members
        yield from check(shard, tar, keys, ranges, endings)


def _rows(shard: ShardEntry, metadata: Path, index: Path) -> tuple[list[str], list[str], pa.Table, list[str]]:
    """Return the problems of the metadata and index of a shard, its keys, the rows of its index, and the endings."""
    try:
        samples = SAMPLES.found_in(metadata).read(metadata)
        with pa.memory_map(str(index)) as source:
            ranges = SHARD_INDEX.conform(pa.ipc.open_file(source).read_all(), shard.index.path)
    except (SchemaError, pa.ArrowInvalid) as error:
        return [str(error)], [], SHARD_INDEX.empty(), []
    keys = samples.column("key").to_pylist()
    problems = []
    if len(keys) != shard.samples:
        problems.append(f"{shard.metadata.path}: {len(keys):,} rows, the manifest says {shard.samples:,}")
    pairs = sum(map(len, samples.column("pair_ids").to_pylist()))
    if pairs != shard.pairs:
        problems.append(f"{shard.metadata.path}: {pairs:,} texts, the manifest says {shard.pairs:,}")
    if ranges.column("key").to_pylist() != keys:
        problems.append(f"{shard.index.path}: its keys are not those of {shard.metadata.path}")
    return problems, keys, ranges, image_endings(samples)


def _check_columns(
    shard: ShardEntry, table: Path, keys: list[str], ranges: pa.Table, endings: list[str]
) -> Iterator[str]:
    """Check that the index of a shard of the format parquet says where the bytes of its columns lie."""
    places = iter(zip(_interleaved(ranges, "offset"), _interleaved(ranges, "size"), strict=True))
    with table.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for key, ending, members in zip(keys, endings, table_members(table), strict=True):
            for body in members:
                start, size = next(places)
                if mapped[start : start + size] != body:
                    yield f"{shard.tar.path}: the bytes of sample {key} are not where {shard.index.path} says"
                    return
            if not _is_image(members[0], ending):
                yield f"{shard.tar.path}: sample {key} is not a {_NAMES.get(ending, ending)}"
                return


def _check_members(
    shard: ShardEntry, tar: Path, keys: list[str], ranges: pa.Table, endings: list[str]
) -> Iterator[str]:
    with (
        tar.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as archive,
    ):
        try:
            found = [(member.name, member.data, member.size) for member in members(archive)]
        except ValueError as error:
            yield f"{shard.tar.path}: {error}"
            return
        offsets, sizes = (_interleaved(ranges, what) for what in ("offset", "size"))
        names = member_names(keys, endings)
        if found != list(zip(names, offsets, sizes, strict=True)):
            yield f"{shard.tar.path}: its members are not where {shard.index.path} says"
            return
        for key, ending, start in zip(keys, endings, offsets[::3], strict=True):
            if not _is_image(bytes(archive[start : start + _MAGIC]), ending):
                yield f"{shard.tar.path}: sample {key} is not a {_NAMES.get(ending, ending)}"


def _is_image(first: bytes, ending: str) -> bool:
    name = sniff_format(first)
    return name is not None and ENDINGS[name] == ending


def _interleaved(ranges: pa.Table, what: str) -> list[int]:
    """Return the offsets or sizes of all members, in the order of the tar."""
    values: list[int] = (
        np.stack([ranges.column(f"{m}_{what}").to_numpy() for m in EXTENSIONS], axis=1).ravel().tolist()
    )
    return values
