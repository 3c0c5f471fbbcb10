"""Write per-URL and per-host download logs.

These tables hold times, so the manifest has no checksums of them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.download.target import BadUrlError, parse_target
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.table import Column, TableSchema

LOG = "log"
HOSTS_FILE = "hosts.parquet"

FETCH_LOG = TableSchema(
    "fetch_log",
    1,
    "One row per image URL that was downloaded or refused, ascending; images from tables are not in it.",
    (
        Column("url", pa.string(), "image URL"),
        Column("host", pa.string(), "its host, lower-case and IDNA; empty if the URL is not valid"),
        Column("status", pa.string(), "success, or the reason for which the image was dropped"),
        Column("http_status", pa.int32(), "of the last response", nullable=True),
        Column("bytes", pa.int64(), "of the body, 0 if none was kept"),
        Column("milliseconds", pa.float32(), "of all its transfers, without the time in queues"),
        Column("attempts", pa.int32(), "0 if nothing was sent"),
    ),
)

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
        Column("p50_ms", pa.float32(), "median time per URL for which a request was sent", nullable=True),
        Column("p95_ms", pa.float32(), "95th percentile of it", nullable=True),
    ),
)


def host_name(url: str) -> str:
    """Return the host of a URL as in `Target`; "" for an invalid URL."""
    try:
        return parse_target(url).host
    except BadUrlError:
        return ""


def write_hosts(path: Path, logs: Iterable[Sequence[Path]]) -> None:
    """Write the table of hosts, task by task: all URLs of a host are in the logs of one task.

    Args:
        logs: of each task.
    """
    tables = [HOSTS.table(_columns(sum_hosts(_read_logs(task)))) for task in logs if task]
    HOSTS.write(path, pa.concat_tables([HOSTS.empty(), *tables]).sort_by("host").combine_chunks())


def _read_logs(paths: Sequence[Path]) -> pa.Table:
    """Read what is summed: numbers only, and strings once each, since a host may have millions of URLs."""
    columns = ["host", "status", "bytes", "milliseconds"]
    return pa.concat_tables(
        [pq.read_table(cached(path), columns=columns, read_dictionary=columns[:2]) for path in paths]
    )


def sum_hosts(log: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of HOSTS for a log.

    Args:
        log: a table of FETCH_LOG, strings as dictionaries or not.
    """
    hosts, host_of = _encoded(log, "host")
    statuses, status_of = _encoded(log, "status")
    sizes, times = log.column("bytes").to_numpy(), log.column("milliseconds").to_numpy()
    order = np.argsort(host_of, kind="stable")
    bounds = np.searchsorted(host_of[order], np.arange(len(hosts) + 1))
    rows = []
    for host, start, end in sorted(zip(hosts, bounds, bounds[1:], strict=False)):
        at = order[start:end]
        counts = np.bincount(status_of[at], minlength=len(statuses)).tolist()
        by_status = {status: n for status, n in zip(statuses, counts, strict=True) if n}
        rows.append(_host(host, by_status, sizes[at], times[at]))
    return rows


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


def _host(host: str, statuses: dict[str, int], sizes: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    failures = {status: n for status, n in statuses.items() if status != "success"}
    ranked = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    sent = times[times > 0]
    p50, p95 = np.percentile(sent, [50, 95]).tolist() if len(sent) else (None, None)
    return {
        "host": host,
        "urls": len(sizes),
        "ok": len(sizes) - sum(failures.values()),
        "most_frequent_failure": ranked[0][0] if ranked else None,
        "failures": [{"reason": reason, "urls": n} for reason, n in ranked],
        "bytes": int(sizes.sum()),
        "p50_ms": p50,
        "p95_ms": p95,
    }


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, object]:
    listed = list(rows)
    return {name: [row[name] for row in listed] for name in HOSTS.arrow.names}


def worst_hosts(hosts: pa.Table, n: int = 10) -> list[dict[str, Any]]:
    """Return the `n` hosts with the most dropped URLs, as rows of HOSTS; hosts without drops are excluded."""
    lost = [(urls - ok, host, at) for at, (urls, ok, host) in enumerate(_triples(hosts)) if urls > ok]
    chosen = [at for _, _, at in sorted(lost, key=lambda item: (-item[0], item[1]))[:n]]
    return [hosts.slice(at, 1).to_pylist()[0] for at in chosen]


def _triples(hosts: pa.Table) -> Iterable[tuple[int, int, str]]:
    return zip(*(hosts.column(name).to_pylist() for name in ("urls", "ok", "host")), strict=True)
