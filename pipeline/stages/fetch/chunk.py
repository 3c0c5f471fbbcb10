"""A chunk of a fetch task: its pairs, what became of each URL, and the files and the receipt that it leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from openwit.pipeline.download.status import Download, FetchStatus
from openwit.pipeline.execution.files import STAGE, file_entry, is_intact
from openwit.pipeline.execution.jobs import TaskResult, TaskStats
from openwit.pipeline.execution.tasks import read_result, write_result
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.demands import CHECKSUM_DIFFERS, take_demands
from openwit.pipeline.stages.fetch.images import ImageSpill, Pairs, write_images
from openwit.pipeline.stages.fetch.log import FETCH_LOG, LOG, host_name
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.tables.candidates import DROPS

IMAGES_STEP = "fetch/images"
PAIRS_STEP = "fetch/pairs"
CHUNKS = f"{STAGE}/chunks"
"""Receipts of finished chunks."""

ByUrl = dict[str, Pairs]


@dataclass(slots=True)
class FetchResult:
    """The result of one URL: status of the download, and the drop reason with detail, None if its image is kept."""

    status: FetchStatus
    reason: str | None
    detail: str | None
    http_status: int | None = None
    size: int = 0
    seconds: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class OpenChunk:
    """A chunk that is being fetched.

    Attributes:
        name: of its files.
        by_url: its pairs by image URL, URLs and pairs in a fixed order.
        images: those that are kept so far.
        results: of the URLs that have ended.
        refused: pairs that want another file than the image that is kept, by URL: their number, and what was seen.
    """

    name: str
    by_url: ByUrl
    images: ImageSpill
    results: dict[str, FetchResult] = field(default_factory=dict)
    refused: dict[str, dict[int, str]] = field(default_factory=dict)

    def kept_pairs(self) -> ByUrl:
        """Return the pairs of each URL whose image is kept, without those that want another file."""
        kept = (url for url, result in self.results.items() if result.reason is None)
        return {
            url: [pair for n, pair in enumerate(self.by_url[url]) if n not in self.refused.get(url, ())]
            for url in kept
        }

    def drops(self) -> list[dict[str, Any]]:
        """Return the rows of DROPS of the URLs that have ended."""
        rows = [row for url, result in self.results.items() for row in drops_of(url, self.by_url[url], result)]
        for url, refused in self.refused.items():
            for number, detail in refused.items():
                rows.append(_drop(url, self.by_url[url][number], str(CHECKSUM_DIFFERS), detail))
        return rows

    @property
    def web(self) -> list[str]:
        """Return the URLs that are downloaded; the bytes of the others are in a table."""
        return [url for url, pairs in self.by_url.items() if not pairs[0]["has_bytes"]]

    def statuses(self) -> dict[str, FetchStatus]:
        """Return the statuses of downloaded URLs that have ended."""
        return {url: self.results[url].status for url in self.web if url in self.results}


def pairs_by_url(table: pa.Table, columns: Sequence[str]) -> ByUrl:
    """Return the pairs of a table by image URL, URLs and pairs in a fixed order."""
    by_url: ByUrl = {}
    for row in table.select(columns).to_pylist():
        take_demands(row)
        by_url.setdefault(row["url"], []).append(row)
    return {url: sorted(by_url[url], key=lambda p: (p["priority"], p["pair_id"])) for url in sorted(by_url)}


def read_receipt(folder: Path, name: str) -> TaskResult | None:
    """Return what a finished chunk recorded, or None if it must be fetched (again)."""
    result = read_result(folder, name, CHUNKS)
    if result is None or is_store(folder):  # whose versions were compared
        return result
    return result if all(is_intact(folder / entry.path, entry) for entry in result.files) else None


def write_chunk(folder: Path, chunk: OpenChunk) -> TaskResult:
    """Write the files of a chunk whose URLs have all ended, then its receipt."""
    path = FetchPaths(folder).images / f"{chunk.name}.parquet"
    pairs = chunk.kept_pairs()
    write_images(path, chunk.images.rows(pairs))
    drops, kept = chunk.drops(), ((url, len(pairs[url])) for url in chunk.by_url if url in pairs)
    log = [log_row(url, chunk.results[url]) for url in chunk.web]
    return write_receipt(folder, chunk.name, path, kept=kept, drops=drops, log=log)


def write_receipt(
    folder: Path,
    name: str,
    images: Path,
    *,
    kept: Iterable[tuple[str, int]],
    drops: list[dict[str, Any]],
    log: list[dict[str, Any]],
) -> TaskResult:
    """Write the drops and the log of a chunk, then its receipt.

    Args:
        images: its images file, written already.
        kept: URL and number of pairs of each kept image.
        drops: rows of DROPS, for all other pairs.
        log: rows of FETCH_LOG.
    """
    stats = TaskStats()
    count(stats, kept, drops)
    paths = [images, _write_drops(folder, name, drops), _write_log(folder, name, log)]
    result = stats.result(name, [file_entry(folder, path) for path in paths])
    write_result(folder, result, CHUNKS)
    return result


def count(stats: TaskStats, kept: Iterable[tuple[str, int]], drops: Sequence[dict[str, Any]]) -> None:
    """Count the funnel lines of a chunk.

    Args:
        kept: URL and number of pairs of each kept image.
        drops: rows of DROPS, for all other pairs.
    """
    whole = set()
    for url, pairs in kept:
        whole.add(url)
        for step, n in ((IMAGES_STEP, 1), (PAIRS_STEP, pairs)):
            stats.enter(step, n)
            stats.leave(step, n)
    reasons = {drop["url"]: drop["reason"] for drop in drops if drop["url"] not in whole}
    for reason in reasons.values():
        stats.enter(IMAGES_STEP)
        stats.drop(IMAGES_STEP, reason)
    for drop in drops:
        stats.enter(PAIRS_STEP)
        stats.drop(PAIRS_STEP, drop["reason"])


def drops_of(url: str, pairs: Pairs, result: FetchResult) -> list[dict[str, Any]]:
    """Return the rows of DROPS for a URL; none if its image is kept."""
    if result.reason is None:
        return []
    return [_drop(url, pair, result.reason, result.detail) for pair in pairs]


def _drop(url: str, pair: dict[str, Any], reason: str, detail: str | None) -> dict[str, Any]:
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": reason, "detail": detail}


def log_row(url: str, result: FetchResult) -> dict[str, Any]:
    """Return a row of FETCH_LOG."""
    return {
        "url": url,
        "host": host_name(url),
        "status": result.reason or FetchStatus.SUCCESS.value,
        "http_status": result.http_status,
        "bytes": result.size,
        "milliseconds": result.seconds * 1000,
        "attempts": result.attempts,
    }


def result_of(download: Download, reason: str | None, detail: str | None) -> FetchResult:
    """Return the result of a download, with the reason for which it is dropped."""
    size = len(download.body or b"")
    return FetchResult(
        download.status, reason, detail, download.http_status, size, download.seconds, download.attempts
    )


def _write_drops(folder: Path, name: str, drops: list[dict[str, Any]]) -> Path:
    path = FetchPaths(folder).drops / f"{name}.parquet"
    drops = sorted(drops, key=lambda drop: (drop["url"], drop["pair_id"]))
    DROPS.write(path, pa.Table.from_pylist(drops, schema=DROPS.arrow))
    return path


def _write_log(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / LOG / f"{name}.parquet"
    rows = sorted(rows, key=lambda row: row["url"])
    FETCH_LOG.write(path, pa.Table.from_pylist(rows, schema=FETCH_LOG.arrow))
    return path
