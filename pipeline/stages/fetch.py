"""Fetch: from selected URLs to decoded, resized images. All URLs of a host are handled by one task, for politeness.

Bytes that already stand in a table skip the download and pass through the same checks.
"""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.columnar.runner import default_workers
from pipeline.columnar.stage import Job, Outcome, StageManifest, run_stage, stage_input
from pipeline.columnar.tasks import FileWork, Tally, Task
from pipeline.images.process import ImageDrop, ProcessedImage, process_image
from pipeline.recipe import FetchSettings
from pipeline.stages.carry import carry_query_counts
from pipeline.web.download import Download, Downloader, FetchStatus
from pipeline.web.table_columns import TableColumns
from pipeline.web.tables import read_images
from schemas.candidates import DROPS, SELECTED
from schemas.images import IMAGES

NAME = "fetch"
VERSION = 1
IMAGES_STEP = "fetch/images"
PAIRS_STEP = "fetch/pairs"
# Row groups of the images file: what a later pass holds in memory at once.
_ROW_GROUP = 1024
_PAIR_FIELDS = tuple(field.name for field in IMAGES.arrow.field("pairs").type.value_type)


def run(job: Job, settings: FetchSettings, selected: Path, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished select folder."""
    upstream = StageManifest.load(selected, "select")
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        {"select": stage_input(selected)},
        lambda: _body(job, settings, upstream, selected, folder),
        [upstream],
    )


def _body(job: Job, settings: FetchSettings, upstream: StageManifest, selected: Path, folder: Path) -> Outcome:
    files = upstream.paths(selected, "selected")
    tasks = [
        Task(n, f"{n:05d}", {"first": first, "last": last})
        for n, (first, last) in enumerate(plan_chunks(_bucket_counts(files), settings.chunk))
    ]
    work = FetchChunk(settings, [str(path) for path in files], _table_columns(upstream))
    receipts = job.run(folder, tasks, "Fetch images", "images", work)
    outcome = Outcome()
    outcome.add_receipts(receipts, [IMAGES_STEP, PAIRS_STEP])
    outcome.files += carry_query_counts(selected, folder)
    return outcome


def _table_columns(upstream: StageManifest) -> TableColumns:
    """How the candidates stage was told to find the image bytes of its tables."""
    for record in upstream.history:
        if record.stage == "candidates":
            return TableColumns.model_validate(record.settings.get("columns", {}))
    return TableColumns()


def _bucket_counts(files: list[Path]) -> np.ndarray:
    counts = np.zeros(0, np.int64)
    for path in files:
        buckets = pq.read_table(path, columns=["host_bucket"]).column("host_bucket").to_numpy()
        here = np.bincount(buckets, minlength=len(counts)).astype(np.int64)
        here[: len(counts)] += counts
        counts = here
    return counts


def plan_chunks(counts: np.ndarray, target: int) -> list[tuple[int, int]]:
    """Cuts host buckets into runs of about `target` rows.

    Args:
        counts: int64 (B,), rows of each bucket.
        target: rows a run aims at.

    Returns:
        (first, last) buckets of each run, both included; together they hold every row, none twice.
    """
    runs, first, rows = [], 0, 0
    for bucket, count in enumerate(counts.tolist()):
        rows += count
        if rows >= target:
            runs.append((first, bucket))
            first, rows = bucket + 1, 0
    if rows:
        runs.append((first, len(counts) - 1))
    return runs


class Fetched(NamedTuple):
    """An image that is kept, and the size of its body as served."""

    image: ProcessedImage
    original_bytes: int


Refusal = tuple[str, str | None]
"""Reason and detail of an image that is not."""


class FetchChunk(FileWork):
    """Downloads, checks and resizes the images of a run of host buckets."""

    def __init__(self, settings: FetchSettings, selected: list[str], columns: TableColumns) -> None:
        self.settings = settings
        self.selected = selected
        self.columns = columns

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        by_url = self._images(task.payload["first"], task.payload["last"])
        done: dict[str, Fetched] = {}
        drops: list[dict[str, Any]] = []
        for url, result in self._process(self._bodies(by_url)):
            if isinstance(result, Fetched):
                done[url] = result
            else:
                reason, detail = result
                drops += [_drop(url, pair, reason, detail) for pair in by_url[url]]
            tally.tick(len(done) + len(drops), (len(done) + len(drops)) / len(by_url))
        self._count(by_url, done, drops, tally)
        return self._write(folder, task, by_url, done, drops)

    def _images(self, first: int, last: int) -> dict[str, list[dict[str, Any]]]:
        """The selected pairs of these buckets by image URL, URLs and pairs in a fixed order."""
        within = [("host_bucket", ">=", first), ("host_bucket", "<=", last)]
        by_url: dict[str, list[dict[str, Any]]] = {}
        for path in self.selected:
            for row in SELECTED.conform(pq.read_table(path, filters=within), path).to_pylist():
                by_url.setdefault(row["url"], []).append(row)
        return {url: sorted(by_url[url], key=lambda p: (p["priority"], p["pair_id"])) for url in sorted(by_url)}

    def _bodies(self, by_url: dict[str, list[dict[str, Any]]]) -> Iterator[Download]:
        stored: dict[str, dict[int, str]] = {}
        web = []
        for url, pairs in by_url.items():
            if pairs[0]["has_bytes"]:
                stored.setdefault(pairs[0]["archive"], {})[pairs[0]["record_offset"]] = url
            else:
                web.append(url)
        for archive, rows in sorted(stored.items()):
            for row, body in read_images(archive, sorted(rows), self.columns):
                status = FetchStatus.SUCCESS if body else FetchStatus.EMPTY_BODY
                yield Download(rows[row], status, body=body or None)
        if web:
            with Downloader(self.settings.download) as downloader:
                yield from downloader.download(web)

    def _process(self, bodies: Iterator[Download]) -> Iterator[tuple[str, Fetched | Refusal]]:
        """Decodes and resizes in threads (Pillow lets go of the interpreter lock), a bounded number at a time."""
        threads = default_workers()
        running: dict[Future[ProcessedImage | ImageDrop], tuple[str, int]] = {}
        with ThreadPoolExecutor(threads) as pool:
            for download in bodies:
                if download.body is None:
                    yield download.url, (download.status.value, _detail(download))
                    continue
                running[pool.submit(process_image, download.body, self.settings.image)] = (
                    download.url,
                    len(download.body),
                )
                if len(running) >= 4 * threads:
                    yield from _finished(running, wait(running, return_when=FIRST_COMPLETED).done)
            yield from _finished(running, set(running))

    @staticmethod
    def _count(
        by_url: dict[str, list[dict[str, Any]]],
        done: dict[str, Fetched],
        drops: list[dict[str, Any]],
        tally: Tally,
    ) -> None:
        reasons = {drop["url"]: drop["reason"] for drop in drops}
        for url, pairs in by_url.items():
            for step, n in ((IMAGES_STEP, 1), (PAIRS_STEP, len(pairs))):
                tally.enter(step, n)
                if url in done:
                    tally.leave(step, n)
                else:
                    tally.drop(step, reasons[url], n)

    @staticmethod
    def _write(
        folder: Path,
        task: Task,
        by_url: dict[str, list[dict[str, Any]]],
        done: dict[str, Fetched],
        drops: list[dict[str, Any]],
    ) -> list[Path]:
        images_path = folder / "images" / f"{task.name}.parquet"
        urls = sorted(done)
        rows = [_image_row(url, by_url[url], done[url]) for url in urls]
        IMAGES.write(images_path, pa.Table.from_pylist(rows, schema=IMAGES.arrow), row_group_size=_ROW_GROUP)
        drops_path = folder / "drops" / f"{task.name}.parquet"
        drops.sort(key=lambda drop: (drop["url"], drop["pair_id"]))
        DROPS.write(drops_path, pa.Table.from_pylist(drops, schema=DROPS.arrow))
        return [images_path, drops_path]


def _finished(
    running: dict[Future[ProcessedImage | ImageDrop], tuple[str, int]], done: set[Future[ProcessedImage | ImageDrop]]
) -> Iterator[tuple[str, Fetched | Refusal]]:
    for future in done:
        (url, size), result = running.pop(future), future.result()
        if isinstance(result, ProcessedImage):
            yield url, Fetched(result, size)
        else:
            yield url, (result.reason.value, result.detail or None)


def _detail(download: Download) -> str | None:
    parts = [f"HTTP {download.http_status}" if download.http_status else "", download.detail]
    return ", ".join(part for part in parts if part) or None


def _drop(url: str, pair: dict[str, Any], reason: str, detail: str | None) -> dict[str, Any]:
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": reason, "detail": detail}


def _image_row(url: str, pairs: list[dict[str, Any]], fetched: Fetched) -> dict[str, Any]:
    # A pair that any page holds out holds the image out: its copies must not be trained on.
    image = fetched.image
    split = min((pair["split"] for pair in pairs), key=lambda name: (name == "train", name))
    return {
        "url": url,
        "split": split,
        "pairs": [{name: pair[name] for name in _PAIR_FIELDS} for pair in pairs],
        "width": image.width,
        "height": image.height,
        "original_width": image.original_width,
        "original_height": image.original_height,
        "original_format": image.original_format,
        "original_bytes": fetched.original_bytes,
        "sha256": image.sha256,
        "phash": image.phash,
        "image": image.jpeg,
    }
