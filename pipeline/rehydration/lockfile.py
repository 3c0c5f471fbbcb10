"""Read lockfiles: check that one is whole, of this version, and names each image once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from openwit.pipeline.common.urls import url_hashes
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, SchemaError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.locks import LOCK
from openwit.schemas.tables.queries import QUERY_COUNTS

NOTE = "lock"


class LockNotes(pydantic.BaseModel):
    """What a lockfile says of its dataset: the note `lock` of the file.

    Attributes:
        dataset, description: of the dataset.
        recipe, steps, notes: of its manifest.
        tools: versions with which it was built.
        samples, pairs, without_url: numbers of rows, of texts, and of rows whose image lay in an input.
        cap: maximum number of pairs per query; None if nothing was drawn.
        seed, balance: of the draw.
        select: name of the step that drew.
        queries: sha256 of the lock's table of queries; None without one.
        manifest: sha256 of the dataset's manifest.
        pages, descriptors: whether the lock holds pages, and the descriptors and hashes of pixels.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    dataset: str
    description: str
    recipe: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    notes: dict[str, dict[str, Any]]
    tools: dict[str, str]
    samples: int
    pairs: int
    without_url: int
    cap: int | None
    seed: int
    balance: str
    select: str
    queries: str | None
    manifest: str
    pages: bool
    descriptors: bool


def queries_file(lock: Path) -> Path:
    """Return the path of a lock's table of queries, beside it."""
    return lock.with_name(f"{lock.name.removesuffix('.parquet')}.queries.parquet")


def sums_file(lock: Path) -> Path:
    """Return the path of a lock's checksums, beside it, in the format of `sha256sum`."""
    return lock.with_name(f"{lock.name}.sha256")


@dataclass(frozen=True)
class Lock:
    """A lockfile that was checked; it travels to workers as its path.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        notes: what it says of its dataset.
    """

    path: str
    sha256: str
    notes: LockNotes

    @cached_property
    def queries(self) -> pa.Table | None:
        """Return QUERY_COUNTS of the dataset, from the file beside the lock; None if it has no queries."""
        return None if self.notes.queries is None else QUERY_COUNTS.read(queries_file(as_path(self.path)))

    def stage(self, stage: str) -> tuple[str, dict[str, Any]]:
        """Return name and settings of the step of the dataset's recipe that ran a stage; "" and none without one."""
        for name, settings in self.notes.recipe.items():
            if self.notes.steps.get(name, {}).get("stage", name) == stage:
                return name, dict(settings)
        return "", {}

    @cached_property
    def url_hashes(self) -> np.ndarray:
        """Return the hash of the URL of each row: uint64 (N,)."""
        found = [url_hashes(batch.column("url").to_pylist()) for batch in self.batches(["url"])]
        return np.concatenate([np.zeros(0, np.uint64), *found])

    def batches(self, names: list[str]) -> Iterator[pa.Table]:
        """Yield some columns of all rows, batch by batch."""
        with pq.ParquetFile(cached(as_path(self.path))) as file:
            for batch in file.iter_batches(columns=names):
                yield pa.Table.from_batches([batch])

    def columns(self, names: list[str]) -> pa.Table:
        """Return some columns of all rows."""
        return pq.read_table(cached(as_path(self.path)), columns=names)


def load_lock(path: Path) -> Lock:
    """Check a lockfile and return what it says.

    Raises:
        DataError: it is missing, damaged, no lockfile, of another version, or names an image twice.
    """
    refuse_special(path, str(path))
    if not path.is_file():
        raise DataError(f"{path} does not exist: give a lockfile, as `wit lock` writes it")
    sha256 = sha256_of(path)
    _compare_sums(path, sha256)
    try:
        schema = pq.read_schema(cached(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged or no lockfile: it is no readable Parquet file") from error
    facts = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if b"openwit" in key}
    if facts.get("openwit.table") != LOCK.name:
        raise DataError(f"{path} is not a lockfile: `wit lock DATASET` writes one")
    if facts.get("openwit.version") != str(LOCK.version):
        raise DataError(
            f"{path} is a lockfile of version {facts.get('openwit.version')}, this release reads version "
            f"{LOCK.version}: lock the dataset again, or use the release that wrote it"
        )
    try:
        notes = LockNotes.model_validate_json((LOCK.notes(path) or {}).get(NOTE, ""))
        lock = Lock(str(path), sha256, notes)
        hashes = lock.url_hashes
        LOCK.conform(schema.empty_table(), str(path))
    except (pydantic.ValidationError, SchemaError, pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: its rows or notes cannot be read") from error
    if len(hashes) != notes.samples:
        raise DataError(f"{path} is damaged: it has {len(hashes):,} rows and says {notes.samples:,}")
    _refuse_twice(lock, hashes)
    beside = queries_file(path)
    if notes.queries is not None and (not beside.is_file() or sha256_of(beside) != notes.queries):
        what = "does not exist" if not beside.is_file() else "is not the one that was written with the lock"
        raise DataError(f"{beside} {what}: it holds the queries of {path.name}, copy both files together")
    return lock


def _compare_sums(path: Path, sha256: str) -> None:
    """Compare a lockfile with the checksums beside it, if they are there."""
    sums = sums_file(path)
    if not sums.is_file():
        return
    lines = [line.split(maxsplit=1) for line in sums.read_text(errors="replace").splitlines()]
    listed = {name.strip(): digest for digest, name in (line for line in lines if len(line) == 2)}
    if listed.get(path.name, sha256) != sha256:
        raise DataError(f"{path} is damaged: its sha256 is not that of {sums.name}; copy it again")


def _refuse_twice(lock: Lock, hashes: np.ndarray) -> None:
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    if len(again):
        url = lock.columns(["url"]).column("url")[int(order[again[0] + 1])].as_py()
        raise DataError(f"{lock.path} names {url} twice: a lockfile names each image once")
