"""Sum the download log by host: each task its own hosts, which the driver merges, a few rows at a time.

The table holds times, so the manifest has no checksum of it.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.execution.files import STAGE
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.table import Column, TableSchema

HOSTS_FILE = "hosts.parquet"
TASK_HOSTS = f"{STAGE}/hosts"
"""The hosts of each task."""
_FAN_IN = 64
_ROW_GROUP = 4096
# Times are counted in steps of one per cent, so that a host of millions of URLs needs a few hundred numbers.
_STEP = math.log(1.01)
_SUCCESS = "success"

HOSTS = TableSchema(
    "hosts",
    1,
    "One row per host, by name.",
    (
        Column("host", pa.string(), "lower-case and IDNA; empty for invalid URLs"),
        Column("urls", pa.int64(), "image URLs of the host"),
        Column("ok", pa.int64(), "URLs whose image was kept"),
        Column("most_frequent_failure", pa.string(), "most frequent drop reason of the others", nullable=True),
        Column(
            "failures",
            pa.list_(
                pa.struct([pa.field("reason", pa.string(), nullable=False), pa.field("urls", pa.int64(), False)])
            ),
            "drop reasons with their number of URLs, most frequent first",
        ),
        Column("bytes", pa.int64(), "of the bodies"),
        Column("p50_ms", pa.float32(), "median time per URL for which a request was sent, to 1 %", nullable=True),
        Column("p95_ms", pa.float32(), "95th percentile of it", nullable=True),
    ),
)


@dataclass(slots=True)
class _Sums:
    statuses: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)
    size: int = 0


class HostSums:
    """The sums of each host over some logs; memory grows with the hosts, not with their URLs."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Sums] = {}

    def add(self, log: pa.Table) -> None:
        """Add a log: a table of FETCH_LOG, strings as dictionaries or not."""
        hosts, host_of = _encoded(log, "host")
        statuses, status_of = _encoded(log, "status")
        sizes, times = log.column("bytes").to_numpy(), log.column("milliseconds").to_numpy()
        order = np.argsort(host_of, kind="stable")
        bounds = np.searchsorted(host_of[order], np.arange(len(hosts) + 1)).tolist()
        for host, start, end in zip(hosts, bounds, bounds[1:], strict=False):
            at = order[start:end]
            sums = self._hosts.setdefault(host, _Sums())
            sums.size += int(sizes[at].sum())
            sums.statuses.update(statuses[number] for number in status_of[at].tolist())
            sent = times[at][times[at] > 0].astype(np.float64)
            sums.times.update(np.rint(np.log(sent) / _STEP).astype(np.int64).tolist())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of HOSTS."""
        return [_row(host, sums) for host, sums in sorted(self._hosts.items())]


def write_task_hosts(folder: Path, name: str, logs: Iterable[Path]) -> Path:
    """Write the hosts of a task, by its logs: all URLs of a host are in the logs of one task.

    Args:
        folder: of the stage.
        name: of the task.
    """
    sums = HostSums()
    columns = ["host", "status", "bytes", "milliseconds"]
    for log in logs:
        sums.add(pq.read_table(cached(log), columns=columns, read_dictionary=columns[:2]))
    path = folder / TASK_HOSTS / f"{name}.parquet"
    _write(path, sums.rows())
    return path


def write_hosts(path: Path, parts: Sequence[Path], scratch: Path) -> None:
    """Merge the hosts of all tasks into one table, a row group of at most `_FAN_IN` files in memory at a time.

    Args:
        parts: files of HOSTS.
        scratch: folder for files in between.
    """
    level = 0
    while len(parts) > _FAN_IN:
        level += 1
        groups = [parts[at : at + _FAN_IN] for at in range(0, len(parts), _FAN_IN)]
        parts = [scratch / f"{level}-{number:06d}.parquet" for number in range(len(groups))]
        for part, group in zip(parts, groups, strict=True):
            _write(part, _merged(group))
    _write(path, _merged(parts))


def worst_hosts(path: Path, n: int = 10) -> tuple[list[dict[str, Any]], int]:
    """Return the `n` hosts with the most dropped URLs, as rows of HOSTS, and the number of all hosts.

    Hosts without drops are excluded.
    """
    worst: list[dict[str, Any]] = []
    total = 0
    for table in HOSTS.read_batches(path):
        total += table.num_rows
        lost = (row for row in table.to_pylist() if row["urls"] > row["ok"])
        worst = heapq.nsmallest(n, [*worst, *lost], key=lambda row: (row["ok"] - row["urls"], row["host"]))
    return worst, total


def _merged(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    return heapq.merge(*(_read(part) for part in parts), key=lambda row: row["host"])


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for table in HOSTS.read_batches(path):
        yield from table.to_pylist()


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with HOSTS.writing(path, _ROW_GROUP) as write:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == _ROW_GROUP:
                write(pa.Table.from_pylist(group, schema=HOSTS.arrow))
                group = []
        if group:
            write(pa.Table.from_pylist(group, schema=HOSTS.arrow))


def _encoded(log: pa.Table, name: str) -> tuple[list[str], np.ndarray]:
    """Return the distinct values of a column of strings, and the number of the value in each row."""
    column = log.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.unify_dictionaries().combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) and values.num_chunks else values
    if isinstance(values, pa.ChunkedArray):
        return [], np.zeros(0, np.int64)
    return values.dictionary.to_pylist(), values.indices.to_numpy()


def _row(host: str, sums: _Sums) -> dict[str, Any]:
    failures = [(status, n) for status, n in sums.statuses.items() if status != _SUCCESS]
    ranked = sorted(failures, key=lambda item: (-item[1], item[0]))
    steps = np.array(sorted(sums.times), np.int64)
    counts = np.array([sums.times[step] for step in steps.tolist()], np.int64)
    return {
        "host": host,
        "urls": sums.statuses.total(),
        "ok": sums.statuses[_SUCCESS],
        "most_frequent_failure": ranked[0][0] if ranked else None,
        "failures": [{"reason": reason, "urls": n} for reason, n in ranked],
        "bytes": sums.size,
        "p50_ms": _percentile(steps, counts, 0.5),
        "p95_ms": _percentile(steps, counts, 0.95),
    }


def _percentile(steps: np.ndarray, counts: np.ndarray, share: float) -> float | None:
    """Return a percentile of the times that were counted by steps, between two times as numpy has it."""
    if not len(steps):
        return None
    ends = np.cumsum(counts)
    rank = share * (int(ends[-1]) - 1)
    low, high = (
        math.exp(_STEP * steps[np.searchsorted(ends, at, side="right")]) for at in (int(rank), math.ceil(rank))
    )
    return low + (high - low) * (rank - int(rank))
