"""Candidates: every (image, text) pair of a crawl or a table, cleaned, filtered, with its provenance."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipeline.columnar.inputs import expand_inputs
from pipeline.columnar.stage import Job, Outcome, StageManifest, file_inputs, run_stage
from pipeline.columnar.tasks import FileWork, Tally, Task, counting
from pipeline.recipe import SPLIT_NAME, CandidateSettings
from pipeline.text.clean import clean_text
from pipeline.text.filters import read_word_list, text_reason
from pipeline.text.language import LanguageIdentifier, keeps
from pipeline.text.normalise import normalise
from pipeline.web.html import IMAGE_REASONS, IMAGES, extract
from pipeline.web.tables import TableBatch, is_table_name, open_table
from pipeline.web.urls import host_of, normalise_url
from pipeline.web.warc import PAGE_REASONS, RECORDS, read_pages
from schemas.atomic import atomic_path
from schemas.candidates import CANDIDATES, DROPS
from schemas.errors import UserError

NAME = "candidates"
VERSION = 1
RECORDS_STEP = "crawl/records"
IMAGES_STEP = "pages/images"
PAIRS_STEP = "candidates/pairs"
NO_TEXT, LANGUAGE, TEXT_NOT_WANTED = "no_text", "language", "text_source_not_wanted"
BAD_URL, BAD_SPLIT = "bad_url", "bad_split"
_SPLIT_NAME = re.compile(SPLIT_NAME)
_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
_BATCH = 4096
_DROPPED_TEXT = 500
_SPLIT_SEED = 1


def run(job: Job, settings: CandidateSettings, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage on the inputs that the settings name."""
    inputs = expand_inputs(settings.inputs, "candidates.inputs")
    for path in inputs:
        _kind(path)
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        file_inputs(inputs),
        lambda: _body(job, settings, inputs, folder),
    )


def _body(job: Job, settings: CandidateSettings, inputs: list[str], folder: Path) -> Outcome:
    tasks = [Task(n, f"{n:05d}", {"input": path}) for n, path in enumerate(inputs)]
    receipts = job.run(folder, tasks, "Read inputs", "pairs", ReadInput(settings))
    outcome = Outcome()
    crawled = any(RECORDS_STEP in receipt.steps for receipt in receipts)
    outcome.add_receipts(receipts, [RECORDS_STEP, IMAGES_STEP, PAIRS_STEP] if crawled else [PAIRS_STEP])
    if outcome.funnel[-1].rows_out == 0:
        found = outcome.funnel[-1].rows_in
        raise UserError(
            f"the inputs hold no usable (image, text) pair ({found:,} found, none passed): "
            "check candidates.inputs, and candidates.language and filters against the texts"
        )
    return outcome


def _kind(path: str) -> str:
    name = path.lower().rpartition("/")[2]
    if ".warc" in name or ".arc" in name:
        return "archive"
    if is_table_name(name):
        return "table"
    raise UserError(
        f"candidates.inputs: {path} is by its name neither a WARC or ARC file nor a table "
        "(.parquet, .csv, .tsv, .jsonl)"
    )


class ReadInput(FileWork):
    """Reads one archive or table; leaves its candidates and the pairs that left, each with a reason."""

    def __init__(self, settings: CandidateSettings) -> None:
        self.settings = settings
        self._sieve: Sieve | None = None

    def setup(self) -> None:
        self._sieve = Sieve(self.settings)

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        assert self._sieve is not None
        path = task.payload["input"]
        read = self._archive if _kind(path) == "archive" else self._table
        target, drops_target = (folder / kind / f"{task.name}.parquet" for kind in ("candidates", "drops"))
        rows = 0
        with (
            atomic_path(drops_target) as temporary,
            pq.ParquetWriter(temporary, DROPS.arrow, compression="zstd") as drop_writer,
        ):

            def batches() -> Iterator[pa.Table]:
                nonlocal rows
                found = read(path, tally)
                while batch := list(islice(found, _BATCH)):
                    kept, dropped = self._sieve_batch(batch, tally)
                    if self.settings.keep_drops and dropped:
                        drop_writer.write_table(pa.Table.from_pylist(dropped, schema=DROPS.arrow))
                    rows += len(batch)
                    tally.tick(rows)
                    yield pa.Table.from_pylist(kept, schema=CANDIDATES.arrow)

            CANDIDATES.write(target, batches())
        return [target, drops_target]

    def _sieve_batch(
        self, batch: list[dict[str, Any]], tally: Tally
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        assert self._sieve is not None
        kept, dropped = self._sieve.sift(batch)
        tally.enter(PAIRS_STEP, len(batch))
        tally.leave(PAIRS_STEP, len(kept))
        for drop in dropped:
            tally.drop(PAIRS_STEP, drop["reason"])
        for row in kept:
            tally.counters[f"image_source.{row['image_source']}"] += 1
            tally.counters[f"text_source.{row['text_source']}"] += 1
        return kept, dropped

    def _archive(self, path: str, tally: Tally) -> Iterator[dict[str, Any]]:
        count_record = counting(tally, RECORDS_STEP, RECORDS, PAGE_REASONS)
        count_image = counting(tally, IMAGES_STEP, IMAGES, IMAGE_REASONS)
        for step in (RECORDS_STEP, IMAGES_STEP):
            tally.enter(step, 0)
        for page in read_pages(path, count_record):
            tally.leave(RECORDS_STEP)
            for image in extract(page, count_image):
                tally.leave(IMAGES_STEP)
                tally.counters["image.relative_url"] += image.relative
                for text_source, text in image.texts:
                    yield {
                        "url": image.url,
                        "text": text,
                        "text_source": text_source,
                        "image_source": image.image_source,
                        "split": None,
                        "page_url": page.url,
                        "archive": path,
                        "record_offset": page.record_offset,
                        "fetch_date": page.date,
                        "license": image.license,
                        "has_bytes": False,
                    }

    def _table(self, path: str, tally: Tally) -> Iterator[dict[str, Any]]:
        def count(reason: str, n: int = 1, detail: str = "") -> None:  # noqa: ARG001
            tally.enter(PAIRS_STEP, n)
            tally.drop(PAIRS_STEP, reason, n)

        reader = open_table(path, self.settings.columns, count)
        for batch in reader.batches():
            for row in _table_rows(batch):
                yield from _table_pairs(path, row, reader.has_images)


def _table_rows(batch: TableBatch) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {"texts": batch.texts.to_pylist()}
    for name in ("url", "split", "license"):
        column = getattr(batch, name)
        columns[name] = [None] * len(batch) if column is None else column.to_pylist()
    for position, values in enumerate(zip(*columns.values(), strict=True)):
        yield {"row": batch.first_row + position, **dict(zip(columns, values, strict=True))}


def _table_pairs(path: str, row: dict[str, Any], has_images: bool) -> Iterator[dict[str, Any]]:
    url = row["url"] or (f"table:{Path(path).name}#{row['row']}" if has_images else None)
    for text in row["texts"] or [""]:
        yield {
            "url": url,
            "text": text,
            "text_source": "table",
            "image_source": "table",
            "split": _SPLIT_NAMES.get(row["split"], row["split"]),
            "page_url": None,
            "archive": path,
            "record_offset": row["row"],
            "fetch_date": None,
            "license": row["license"],
            "has_bytes": has_images,
        }


class Sieve:
    """Cleans and filters found pairs: the same for pages and tables."""

    def __init__(self, settings: CandidateSettings) -> None:
        self.settings = settings
        self._adult_words = read_word_list(settings.filters.adult_words)
        self._identifier = LanguageIdentifier(settings.language) if settings.language.languages else None
        self._split_of = split_chooser(settings.held_out, settings.held_out_share)

    def sift(self, found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Candidates rows and drops rows of found pairs; every found pair ends in one of the two."""
        dropped: list[dict[str, Any]] = []
        passed = []
        for row in found:
            row["text"] = clean_text(row["text"])
            reason = self._reason(row)
            if reason:
                dropped.append(_drop(row, reason, None))
            else:
                passed.append(row)
        kept = []
        for row, wanted in zip(passed, self._identify(passed), strict=True):
            if not wanted:
                dropped.append(_drop(row, LANGUAGE, f"{row['language']} {row['language_score']:.2f}"))
                continue
            row["split"] = row["split"] or self._split_of(row["url"])
            row["pair_id"] = pair_id(row["url"], row["text"])
            kept.append(row)
        return kept, dropped

    def _reason(self, row: dict[str, Any]) -> str | None:
        if not row["text"]:
            return NO_TEXT
        if row["text_source"] != "table" and row["text_source"] not in self.settings.texts:
            return TEXT_NOT_WANTED
        if not row["has_bytes"] and not host_of(row["url"] or ""):
            return BAD_URL
        if row["split"] is not None and not _SPLIT_NAME.fullmatch(row["split"]):
            return BAD_SPLIT
        return text_reason(row["text"], self.settings.filters, self._adult_words)

    def _identify(self, rows: list[dict[str, Any]]) -> list[bool]:
        """Fills in the language of each row; says which rows are in a wanted one."""
        if self._identifier is None:
            for row in rows:
                row["language"] = row["language_score"] = None
            return [True] * len(rows)
        found = self._identifier.identify([row["text"] for row in rows])
        for row, (language, score) in zip(rows, found, strict=True):
            row["language"], row["language_score"] = language, score
        return keeps(found, self.settings.language)


def pair_id(url: str, text: str) -> bytes:
    """16 bytes that identify a pair: xxh3-128 of normalised URL, NUL, normalised text."""
    return xxhash.xxh3_128_digest(f"{normalise_url(url)}\0{normalise(text)}".encode())


def split_chooser(held_out: dict[str, list[str]], shares: dict[str, float]) -> Callable[[str], str]:
    """A function from image URL to split.

    Args:
        held_out: split to hosts; an image of such a host, or of one below it, belongs to the split.
        shares: split to a share of the other images, drawn by hash of the URL.
    """
    splits = {host.lower(): split for split, hosts in held_out.items() for host in hosts}

    def split_of(url: str) -> str:
        host = host_of(url) if splits else ""
        while host:
            if host in splits:
                return splits[host]
            host = host.partition(".")[2]
        if shares:
            # A seed of its own: the same hash also shuffles the dataset.
            place = xxhash.xxh3_64_intdigest(normalise_url(url).encode(), seed=_SPLIT_SEED) / 2**64
            for split, share in sorted(shares.items()):
                if place < share:
                    return split
                place -= share
        return "train"

    return split_of


def _drop(row: dict[str, Any], reason: str, detail: str | None) -> dict[str, Any]:
    text = row["text"][:_DROPPED_TEXT]
    return {"pair_id": None, "url": row["url"] or "", "text": text, "reason": reason, "detail": detail}
