"""Choose among the samples of finished datasets: by conditions, lists of uids, earlier steps, and once of several.

Two passes over the shards' metadata. The first judges each shard on its own; the second writes what is chosen and why
the rest is not. Between them the driver finds samples that several inputs have, from four hashes a sample.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.dataset.rewrite_reasons import (
    CONDITION,
    NOT_LISTED,
    SAME_BYTES,
    SAME_UID,
    SAME_URL,
    TEXT_DROPPED,
)
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.rewriting.conditions import parse_conditions
from openwit.pipeline.rewriting.judged import Judged
from openwit.pipeline.rewriting.keep_list import map_keep_list, places_in, read_keep_list, uid_numbers, write_keep_list
from openwit.pipeline.rewriting.settings import ChooseSettings, WhereSettings
from openwit.pipeline.rewriting.sources import Sources, SourceShard
from openwit.pipeline.stages.dedup.reasons import COPY_OF_HELD_OUT
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError
from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.candidates import DROPS

KEEP = f"{STAGE}/keep.npy"
JUDGED = f"{STAGE}/judged"
TWICE = f"{STAGE}/twice.npy"
VERDICTS = f"{STAGE}/verdicts"
_TWICE = np.dtype([("place", "<u8"), ("of", "<u8"), ("reason", "u1")])
_TWICE_REASONS = (SAME_UID, SAME_URL, SAME_BYTES, COPY_OF_HELD_OUT)
_ROW_BITS = 32
_PLACEHOLDER = "table:"
_HEX = re.compile("[0-9a-f]{32}")
_TEXT_LEFT = 500

CHOSEN = TableSchema(
    "chosen",
    1,
    "The samples of a shard that are kept, in their order.",
    (
        Column("row", pa.int32(), "row in the shard's metadata"),
        Column("texts", pa.list_(pa.int32()), "numbers of the texts that are kept; null for all", nullable=True),
    ),
)
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


class Selector:
    """Apply conditions and a list of uids to samples."""

    def __init__(self, settings: WhereSettings, keep: Path | None) -> None:
        self._conditions = parse_conditions(settings.where)
        self._keep = None if keep is None else map_keep_list(keep)

    def verdicts(self, samples: pa.Table, split: str) -> tuple[list[tuple[str, str | None] | None], np.ndarray]:
        """Return for each sample why it is dropped, with a detail, or None; and its place in the list, int64 (N,)."""
        found: list[tuple[str, str | None] | None] = [None] * samples.num_rows
        listed = np.full(samples.num_rows, -1, np.int64)
        if self._keep is not None:
            listed = places_in(self._keep, uid_numbers(samples.column("uid").to_pylist()))
            for row in np.flatnonzero(listed < 0).tolist():
                found[row] = (NOT_LISTED, None)
        for condition in self._conditions:
            for row in np.flatnonzero(~condition.holds(samples, split)).tolist():
                found[row] = found[row] or (CONDITION, f"not {condition.written}")
        return found, listed


def prepare_keep_list(settings: WhereSettings, folder: Path) -> Path | None:
    """Write the list of uids where workers map it; return its path, None if there is none."""
    if settings.keep is None:
        return None
    path = folder / KEEP
    if not path.exists():
        write_keep_list(path, read_keep_list(settings.keep))
    return path


@dataclass(frozen=True)
class ShardInput:
    """A shard of the inputs, by its number."""

    shard: int


class _OfShards(FileTask[ShardInput]):
    """Work on a shard of the inputs."""

    def __init__(self, settings: ChooseSettings, folder: Path, step: str, keep: Path | None) -> None:
        self.settings = settings
        self.folder = folder
        self.step = step
        self.keep = keep

    def __getstate__(self) -> dict[str, Any]:
        names = ("settings", "folder", "step", "keep")
        return {name: self.__dict__[name] for name in names}

    @cached_property
    def sources(self) -> Sources:
        """Return the inputs."""
        return Sources(self.settings.inputs, self.settings.without)

    @cached_property
    def _selector(self) -> Selector:
        return Selector(self.settings, self.keep)

    @cached_property
    def _judged(self) -> Judged | None:
        return Judged(self.folder / JUDGED) if self.settings.images == "judged" else None

    def verdicts(
        self, shard: SourceShard, samples: pa.Table
    ) -> tuple[list[tuple[str, str | None] | None], list[list[int] | None], np.ndarray]:
        """Return why each sample is dropped, which of its texts are kept, and its place in the list of uids."""
        found, listed = self._selector.verdicts(samples, shard.entry.split)
        texts: list[list[int] | None] = [None] * samples.num_rows
        judged = self._judged
        if judged is not None:
            archive, places = self.sources.name_of(shard), self.sources.places(shard, samples)
            left = judged.is_left(archive, places)
            urls, words = samples.column("url").to_pylist(), samples.column("texts").to_pylist()
            for row in range(samples.num_rows):
                if found[row] is not None:
                    continue
                if not left[row]:
                    found[row] = judged.reason_of(archive, places[row], urls[row])
                    continue
                kept = judged.texts_left(archive, places[row], words[row])
                texts[row] = kept if kept and len(kept) < len(words[row]) else None
        return found, texts, listed


class JudgeShard(_OfShards):
    """Find the samples of a shard that are kept if no other input has them."""

    def run(self, task: Task[ShardInput], folder: Path, stats: TaskStats) -> list[Path]:
        shard = self.sources.shards[task.payload.shard]
        samples = self.sources.samples(shard)
        found, _, listed = self.verdicts(shard, samples)
        rows = np.array([row for row, why in enumerate(found) if why is None], np.int64)
        chosen = samples.take(pa.array(rows))
        urls, uids = _identities(chosen, [f"\0{shard.number}:{row}" for row in rows.tolist()])
        columns = {"row": pa.array(rows, pa.int32()), "listed": pa.array(listed[rows])}
        columns |= {"url": _hashes(urls), "uid": _hashes(uids)}
        columns |= {name: _hashes(chosen.column(name).to_pylist()) for name in ("sha256", "key")}
        path = folder / VERDICTS / f"{task.name}.parquet"
        with atomic_path(path) as temporary:
            pq.write_table(pa.table([columns[name] for name in _VERDICTS.names], schema=_VERDICTS), temporary)
        stats.tick(samples.num_rows, 1.0)
        return [path]


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


class ChooseShard(_OfShards):
    """Write the samples of a shard that are kept, and the drops."""

    @cached_property
    def _twice(self) -> np.ndarray:
        path = self.folder / TWICE
        return np.load(path, mmap_mode="r") if path.exists() else np.zeros(0, _TWICE)

    def run(self, task: Task[ShardInput], folder: Path, stats: TaskStats) -> list[Path]:
        shard = self.sources.shards[task.payload.shard]
        samples = self.sources.samples(shard)
        found, texts, _ = self.verdicts(shard, samples)
        self._drop_twice(shard, found)
        pair_counts = [len(ids) for ids in samples.column("pair_ids").to_pylist()]
        lines = (f"{self.step}/samples", f"{self.step}/pairs")
        stats.enter(lines[0], samples.num_rows)
        stats.enter(lines[1], sum(pair_counts))
        rows, kept, dropped = [], [], []
        for row, why in enumerate(found):
            if why is not None:
                stats.drop(lines[0], str(why[0]))
                stats.drop(lines[1], str(why[0]), pair_counts[row])
                dropped.append(row)
                continue
            numbers = texts[row]
            lost = pair_counts[row] - len(numbers) if numbers is not None else 0
            stats.leave(lines[0])
            stats.leave(lines[1], pair_counts[row] - lost)
            stats.drop(lines[1], TEXT_DROPPED, lost)
            rows.append(row)
            kept.append(numbers)
        chosen = folder / CHOSEN.name / f"{task.name}.parquet"
        CHOSEN.write(chosen, CHOSEN.table({"row": rows, "texts": kept}))
        drops = folder / "drops" / f"{task.name}.parquet"
        DROPS.write(drops, _drop_rows(samples, dropped, found))
        stats.tick(samples.num_rows, 1.0)
        return [chosen, drops]

    def _drop_twice(self, shard: SourceShard, found: list[tuple[str, str | None] | None]) -> None:
        places = self._twice["place"]
        first, end = np.searchsorted(places, [shard.number << _ROW_BITS, (shard.number + 1) << _ROW_BITS])
        for entry in self._twice[first:end]:
            other = int(entry["of"])
            kept = self.sources.shards[other >> _ROW_BITS]
            detail = f"row {other & ((1 << _ROW_BITS) - 1):,} of {self.sources.place_of(kept)}"
            found[int(entry["place"]) & ((1 << _ROW_BITS) - 1)] = (_TWICE_REASONS[int(entry["reason"])], detail)


def _drop_rows(samples: pa.Table, rows: Sequence[int], found: Sequence[tuple[str, str | None] | None]) -> pa.Table:
    """Return a row of DROPS for each text of the samples that are dropped."""
    columns: dict[str, list[Any]] = {name: [] for name in DROPS.arrow.names}
    gone = samples.select(["url", "texts", "pair_ids"]).take(pa.array(rows, pa.int64())).to_pylist()
    for row, sample in zip(rows, gone, strict=True):
        reason, detail = found[row] or ("", None)
        for text, pair in zip(sample["texts"], sample["pair_ids"], strict=True):
            values = (bytes.fromhex(pair), sample["url"], text[:_TEXT_LEFT], str(reason), detail)
            for name, value in zip(DROPS.arrow.names, values, strict=True):
                columns[name].append(value)
    return DROPS.table(dict(columns))


def choose(job: Job, settings: ChooseSettings, sources: Sources, folder: Path, step: str) -> StageResult:
    """Choose samples; see the module.

    Raises:
        DataError: none is left, or a dataset cannot be read.
    """
    keep = prepare_keep_list(settings, folder)
    tasks = [Task(shard.number, f"{shard.number:06d}", ShardInput(shard.number)) for shard in sources.shards]
    several = len(sources.names) > 1 and settings.duplicates == "drop"
    result = StageResult()
    if several or keep is not None:
        judging = [Task(task.number, f"verdicts-{task.name}", task.payload) for task in tasks]
        job.run(folder, judging, "Judge samples", "samples", JudgeShard(settings, folder, step, keep))
        if several:
            _write_twice(folder, sources)
        if keep is not None:
            result.extra["listed"] = _listed(folder, keep)
    results = job.run(folder, tasks, "Choose samples", "samples", ChooseShard(settings, folder, step, keep))
    result.add_results(results, [f"{step}/samples", f"{step}/pairs"])
    if not result.funnel[0].rows_out:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in result.funnel[0].reasons.items()) or "there is none"
        raise DataError(f"no sample of {', '.join(sources.names)} is left: {reasons}")
    return result


def _verdict_files(folder: Path) -> list[Path]:
    return sorted((folder / VERDICTS).glob("[!.]*.parquet"))


def _listed(folder: Path, keep: Path) -> dict[str, int]:
    """Return how many uids of the list there are, and how many of them samples have."""
    total = len(map_keep_list(keep))
    seen = np.zeros(total, bool)
    for path in _verdict_files(folder):
        places = pq.read_table(path, columns=["listed"]).column(0).to_numpy()
        seen[places[places >= 0]] = True
    return {"uids": total, "found": int(seen.sum())}


def _write_twice(folder: Path, sources: Sources) -> None:
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
    with atomic_path(folder / TWICE) as temporary, temporary.open("wb") as file:
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
