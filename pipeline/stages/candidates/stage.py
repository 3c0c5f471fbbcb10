"""Candidates: read every (image, text) pair of a crawl or a table, cleaned, filtered, with its provenance."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from openwit.pipeline.common.column_types import COLUMNS
from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.common.reasons import Reason, unique
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import FileTask, StepCounts, Task, TaskResult, TaskStats, counting
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.readers.crawl.archive_file import RecordRange
from openwit.pipeline.readers.crawl.warc import PAGE_REASONS, RECORDS
from openwit.pipeline.readers.custom import reader_of
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.readers.pages.html import IMAGE_REASONS, IMAGES
from openwit.pipeline.readers.pages.wat import WAT_REASONS
from openwit.pipeline.readers.samples.by_text import ORIGINS
from openwit.pipeline.readers.samples.datasets import has_sidecars, is_shard, shard_samples, split_of
from openwit.pipeline.readers.samples.fields import FieldValues
from openwit.pipeline.readers.samples.folders import folder_samples, is_image_name
from openwit.pipeline.readers.samples.sample import SAMPLE_NOTES, SAMPLE_REASONS
from openwit.pipeline.readers.samples.tars import is_tar_name, tar_samples
from openwit.pipeline.readers.tables.columns import demanded_columns
from openwit.pipeline.readers.tables.files import ROW_NOTES, ROW_REASONS
from openwit.pipeline.readers.tables.kept_columns import NOTHING_KEPT, KeptColumns
from openwit.pipeline.readers.tables.table_ranges import RowRange
from openwit.pipeline.readers.url_lists import listed_urls
from openwit.pipeline.stages.candidates import Candidates, CandidatesPaths
from openwit.pipeline.stages.candidates.extraction_stats import FOUND, KEPT, count_pairs
from openwit.pipeline.stages.candidates.filter import NO_TEXT, PAIR_REASONS, PairFilter
from openwit.pipeline.stages.candidates.kept_columns import find_columns
from openwit.pipeline.stages.candidates.pair import TABLE, Drop, Pair, candidates_table, drops_table
from openwit.pipeline.stages.candidates.parts import SKIP, InputPart, RecordsRead, follow_records, plan, short_names
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.sources import (
    IMAGES_TAKEN,
    PAGES_TAKEN,
    SAMPLE_KINDS,
    InputKind,
    archive_pairs,
    custom_pairs,
    is_input_name,
    kind_of,
    place_name,
    sample_pairs,
    table_pairs,
    url_pairs,
    wat_pairs,
)
from openwit.pipeline.text.filters import TEXT_REASONS
from openwit.pipeline.text.settings import TextFilterSettings
from openwit.schemas.common.errors import DataError, OpenWITError, PluginError
from openwit.schemas.common.matching_paths import shown_name
from openwit.schemas.common.storage.remote import local_copy
from openwit.schemas.tables.candidates import CANDIDATES, DAMAGE, DROPS

FILES_STEP = "inputs/files"
RECORDS_STEP = "crawl/records"
IMAGES_STEP = "pages/images"
PAIRS_STEP = "candidates/pairs"
UNREADABLE = Reason("unreadable", "a file that could not be read")
TABLES_UNFILTERED = "filters.tables_unfiltered"
WITH_ORIGIN = "inputs.with_origin"
TABLE_TEXTS = "filters.table_texts"
TABLE_TEXTS_TAKEN = "filters.table_texts_taken"
_BATCH = 4096
# Rows of a candidates file: what later stages hold in memory at a time.
_PART_ROWS = 262_144

_log = logging.getLogger(__name__)

CANDIDATES_REASONS = unique(
    (UNREADABLE,), PAGE_REASONS, WAT_REASONS, IMAGE_REASONS, ROW_REASONS, SAMPLE_REASONS, PAIR_REASONS
)
"""Every reason for which the stage drops a file, a record, an image of a page, a row or a pair."""


def input_files(settings: CandidateSettings) -> list[str]:
    """Return the files that the settings name.

    Raises:
        DataError: there are none, or one is of an unknown kind.
    """

    def wanted(name: str) -> bool:
        return reader_of(name, settings.readers) is not None or is_input_name(name)

    def is_image(name: str) -> bool:
        return is_image_name(name) and reader_of(name, settings.readers) is None

    inputs = expand_inputs(
        settings.inputs, "candidates.inputs", list_base=settings.list_base, wanted=wanted, is_image=is_image
    )
    inputs = inputs[: settings.max_files]
    for path in inputs:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"candidates.inputs: the name {shown_name(path)} is not UTF-8: rename the file or folder"
            ) from None
        if reader_of(path, settings.readers) is None:
            kind_of(path)
    return inputs


def read_candidates(job: Job, settings: CandidateSettings, folder: Path) -> StageResult:
    """Read the inputs that the settings name; write their candidates, and the dropped pairs with their reasons."""
    inputs = input_files(settings)
    kept = find_columns(job, folder, inputs, settings)
    tasks = plan(job, folder, inputs, settings)
    work = ReadInput(settings, kept)
    results = job.run(folder, tasks, "Read inputs", "pairs", work)
    tasks, results = follow_records(job, folder, tasks, results, work)
    results = _each_file_once(tasks, results)
    result = StageResult()
    steps = [FILES_STEP, RECORDS_STEP, IMAGES_STEP, PAIRS_STEP]
    seen = {step for task_result in results for step in task_result.steps}
    result.add_results(results, [step for step in steps if step in seen])
    if result.funnel[-1].stage != Candidates.name or result.funnel[-1].rows_out == 0:
        found = result.funnel[-1].rows_in if result.funnel[-1].stage == Candidates.name else 0
        raise DataError(
            f"the inputs hold no usable (image, text) pair ({found:,} found, none passed): "
            "check candidates.inputs, and candidates.language and filters against the texts"
            f"{_left_aside(result, results)}{_without_texts(result, settings)}"
        )
    _say_filters(result.counters)
    _write_damage(folder, tasks, results, result)
    types = {**kept.types, **(ORIGINS if result.counters.get(WITH_ORIGIN) else {})}
    if types:
        result.extra = {**result.extra, COLUMNS: types}
    return result


def _say_filters(counters: Mapping[str, int]) -> None:
    """Say whether the text filters were applied to tables, and what share of the texts they took."""
    if tables := counters.get(TABLES_UNFILTERED, 0):
        _log.warning(
            "text filters were not applied to %s (candidates.filters.apply_to: all applies them)",
            f"{tables:,} table{'s' if tables != 1 else ''}",
        )
    if found := counters.get(TABLE_TEXTS, 0):
        taken = counters.get(TABLE_TEXTS_TAKEN, 0)
        _log.warning(
            "text filters took %s of %s texts of tables (%.1f%%)", f"{taken:,}", f"{found:,}", 100 * taken / found
        )


def _left_aside(result: StageResult, results: list[TaskResult]) -> str:
    """Return what was dropped and what could not be read, with counts, for the end of a sentence."""
    parts = [
        f"{n:,} {step.unit} {reason}"
        for step in result.funnel
        for reason, n in sorted(step.reasons.items(), key=lambda item: -item[1])
    ]
    noted = [note for task_result in results for note in task_result.noted]
    for reason, n in Counter(reason for reason, _ in noted).items():
        if not any(part.endswith(f" {reason}") for part in parts):
            first = next(detail for other, detail in noted if other == reason)
            parts.append(f"{n:,} {reason} (the first: {first})")
    return f"; left aside: {', '.join(parts)}" if parts else ""


def _without_texts(result: StageResult, settings: CandidateSettings) -> str:
    """Return what to do where images have no texts, as in folders that are named after classes."""
    lacking = sum(step.reasons.get(NO_TEXT, 0) for step in result.funnel)
    if not lacking or not settings.texts_required:
        return ""
    return "; set candidates.texts_required to false to keep images without a text"


def _each_file_once(tasks: list[Task[InputPart]], results: list[TaskResult]) -> list[TaskResult]:
    """Count a file as unreadable once if any of its parts could not be read; the pairs of its other parts stay."""
    broken = {
        task.payload.input
        for task, result in zip(tasks, results, strict=True)
        if any(reason == UNREADABLE for reason, _ in result.noted)
    }
    unread = {FILES_STEP: StepCounts(1, 0, {UNREADABLE: 1})}
    return [
        replace(result, steps=result.steps | unread)
        if task.payload.number == 0 and task.payload.input in broken
        else result
        for task, result in zip(tasks, results, strict=True)
    ]


def _write_damage(folder: Path, tasks: list[Task[InputPart]], results: list[TaskResult], result: StageResult) -> None:
    """Write a table of damage next to the candidates; totals and first examples go to the manifest."""
    rows = [
        {"archive": task.payload.input, "reason": reason, "detail": detail}
        for task, task_result in zip(tasks, results, strict=True)
        for reason, detail in task_result.noted
    ]
    if not rows:
        return
    DAMAGE.write(
        CandidatesPaths(folder).damage,
        DAMAGE.table({name: [row[name] for row in rows] for name in DAMAGE.arrow.names}),
    )
    result.files.append(file_entry(folder, CandidatesPaths(folder).damage))
    result.extra = {
        "damage": dict(sorted(Counter(row["reason"] for row in rows).items())),
        "damage_first": {row["reason"]: row for row in reversed(rows)},
    }


class ReadInput(FileTask[InputPart]):
    """Read an archive or a table, or a part of it; write its candidates and the dropped pairs, each with a reason."""

    def __init__(self, settings: CandidateSettings, kept: KeptColumns = NOTHING_KEPT) -> None:
        self.settings = settings
        self.kept = kept
        self._filter: PairFilter | None = None

    def setup(self) -> None:
        self._filter = PairFilter(self.settings)

    def run(self, task: Task[InputPart], folder: Path, stats: TaskStats) -> list[Path]:
        name = task.payload.input
        paths = CandidatesPaths(folder)
        drops = paths.drops / f"{task.name}.parquet"

        def part(number: int) -> Path:
            return paths.part(task.name, number)

        # A file that several tasks read is counted by the one that reads its beginning.
        files = int(task.payload.number == 0)
        stats.enter(FILES_STEP, files)
        try:
            with _opened(task.payload) as source, DROPS.writing(drops) as write_drops:
                of_images: list[Drop] = []
                pairs = self._pairs(source, task.payload, stats, of_images)
                filtered = self._filtered(pairs, of_images, write_drops, stats)
                candidates = CANDIDATES.write_parts(part, filtered, _PART_ROWS)
        except PluginError:
            raise  # a failing filter is not an unreadable file
        except OpenWITError as error:
            if not self.settings.skip_unreadable:
                raise type(error)(f"{error} ({SKIP})") from error
            stats.reset()
            stats.enter(FILES_STEP, files)
            stats.drop(FILES_STEP, UNREADABLE, files)
            stats.note(UNREADABLE, str(error))
            for old in paths.parts(task.name):
                old.unlink()
            candidates = CANDIDATES.write_parts(part, [], _PART_ROWS)
            DROPS.write(drops, DROPS.empty())
        else:
            stats.leave(FILES_STEP, files)
            if self.settings.filters.apply_to != "all" and self._is_table(name):
                stats.counters[TABLES_UNFILTERED] += files
        return [*candidates, drops]

    def _is_table(self, name: str) -> bool:
        if reader_of(name, self.settings.readers) is not None:
            return True
        return kind_of(name) is InputKind.TABLE and not is_shard(name, self.settings.columns)

    def _pairs(self, source: Any, part: InputPart, stats: TaskStats, of_images: list[Drop]) -> Iterator[Pair]:
        """Yield the pairs of a part of an input; `source` is a path, or the open file of a part of an archive."""
        name = part.input
        shown = part.shown or short_names([name])[name]
        reader = reader_of(name, self.settings.readers)
        if reader is not None:
            columns = self.settings.columns
            values = FieldValues(columns, self.kept, name, only_kept=True) if columns.keep else None
            yield from custom_pairs(source, name, reader, shown, self.kept, values)
            return
        kind = kind_of(name)
        own = self._shard_pairs(part, kind, stats)
        if own is not None or kind in (InputKind.TAR, InputKind.IMAGES, InputKind.URLS):
            for pair in self._sample_pairs(source, part, kind, stats) if own is None else own:
                if self.settings.name_by_place and pair.has_bytes:
                    pair.url = place_name(shown, pair.record_offset)
                yield pair
            return
        if kind is InputKind.TABLE:
            yield from table_pairs(
                source,
                name,
                self.settings.columns,
                _lost_rows(stats),
                part.table,
                shown=shown,
                texts_required=self.settings.texts_required,
                kept=self.kept,
                split=split_of(name) if has_sidecars(name) else None,
            )
            return
        read, reasons = (wat_pairs, WAT_REASONS) if kind is InputKind.WAT else (archive_pairs, PAGE_REASONS)
        for step in (RECORDS_STEP, IMAGES_STEP):
            stats.enter(step, 0)
        count_record = counting(stats, RECORDS_STEP, RECORDS, reasons, PAGES_TAKEN)
        count_image = counting(stats, IMAGES_STEP, IMAGES, IMAGE_REASONS, IMAGES_TAKEN)
        drops = of_images if self.settings.keep_drops else None
        if part.records is None:
            yield from read(source, name, count_record, count_image, drops=drops)
        elif not part.is_empty:
            span = RecordRange(*part.records, exact=part.is_exact)
            yield from read(source, name, count_record, count_image, drops=drops, span=span)
            stats.extra = RecordsRead(span.first, span.after)

    def _shard_pairs(self, part: InputPart, kind: InputKind, stats: TaskStats) -> Iterator[Pair] | None:
        """Return the pairs of a shard of a finished dataset; None if the input is none."""
        name, columns = part.input, self.settings.columns
        if kind not in SAMPLE_KINDS or part.records or part.table or not is_shard(name, columns):
            return None
        demanded = demanded_columns(columns)
        samples = shard_samples(name, _lost_rows(stats), columns, self.kept, demanded.values())
        if samples is None:
            return None

        def on_origin() -> None:
            stats.counters[WITH_ORIGIN] = 1

        shown = part.shown or short_names([name])[name]
        return sample_pairs(samples, name, shown, self.kept, on_origin=on_origin, demanded=demanded)

    def _sample_pairs(self, source: Any, part: InputPart, kind: InputKind, stats: TaskStats) -> Iterator[Pair]:
        """Yield the pairs of a part of a tar, a folder of images or a list of URLs."""
        count, columns, name = _lost_rows(stats), self.settings.columns, part.input
        demanded = demanded_columns(columns)
        if demanded and kind is InputKind.URLS:
            raise DataError(f"{name} is a list of URLs: it has no column {next(iter(demanded.values()))!r}")
        if kind is InputKind.URLS:
            if self.settings.texts_required:
                raise DataError(
                    f"{name} is a list of URLs without texts: set candidates.texts_required to false to keep images "
                    "without a text, or give a table with the columns url and text"
                )
            yield from url_pairs(listed_urls(source, name, count, part.records), name)
            return
        shown = part.shown or short_names([name])[name]
        values = FieldValues(columns, self.kept, name)
        if kind is InputKind.IMAGES:
            rows = part.table if isinstance(part.table, RowRange) else None
            split = split_of(name) if has_sidecars(name) else None
            samples = folder_samples(name, columns, count, rows)
            yield from sample_pairs(samples, name, shown, self.kept, split=split, values=values, demanded=demanded)
            return
        if not part.is_empty:
            span = RecordRange(*(part.records or (0, None)), exact=part.is_exact)
            with open_ranges(name) as file:
                samples = tar_samples(file, name, columns, count, span=span)
                yield from sample_pairs(samples, name, shown, self.kept, values=values, demanded=demanded)
            if part.records is not None:
                stats.extra = RecordsRead(span.first, span.after)

    def _filtered(
        self,
        found: Iterator[Pair],
        of_images: list[Drop],
        write_drops: Callable[[pa.Table], None],
        stats: TaskStats,
    ) -> Iterator[pa.Table]:
        """Yield the candidates among the found pairs; write the dropped pairs, and the images dropped before them."""
        assert self._filter is not None
        rows = 0
        stats.enter(PAIRS_STEP, 0)
        for batch in _batches(found):
            kept, dropped = self._filter.split(batch)
            _count(stats, batch, kept, dropped)
            _count_filtered(stats, batch, dropped, self.settings.filters)
            if self.settings.keep_drops and (dropped or of_images):
                write_drops(drops_table([*of_images, *dropped]))
            of_images.clear()
            rows += len(batch)
            stats.tick(rows)
            yield candidates_table(kept)
        if of_images:
            write_drops(drops_table(of_images))


def _reads_in_place(name: str) -> bool:
    """Return whether the reader of an input opens it itself: byte ranges of a tar, a folder."""
    return name.endswith("/") or is_tar_name(name)


@contextmanager
def _opened(part: InputPart) -> Iterator[Any]:
    """Yield where a part of an input is read: a path, or for a part of an archive an open file."""
    if part.table is not None or _reads_in_place(part.input):
        yield part.input
    elif part.records is not None:
        with open_ranges(part.input) as file:
            yield file
    else:
        with local_copy(part.input) as path:
            yield path


def _batches(found: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Yield the pairs in batches; those of a page stay together, since each is read in the light of the others."""
    batch = list(islice(found, _BATCH))
    while batch:
        last = batch[-1]
        after: list[Pair] = []
        for pair in found:
            if (pair.archive, pair.record_offset) != (last.archive, last.record_offset):
                after = [pair]
                break
            batch.append(pair)
        yield batch
        batch = [*after, *islice(found, _BATCH - len(after))]


def _count(stats: TaskStats, found: list[Pair], kept: list[Pair], dropped: list[Drop]) -> None:
    stats.enter(PAIRS_STEP, len(found))
    stats.leave(PAIRS_STEP, len(kept))
    for drop in dropped:
        stats.drop(PAIRS_STEP, drop.reason)
    count_pairs(stats.counters, FOUND, found)
    count_pairs(stats.counters, KEPT, kept)


def _count_filtered(stats: TaskStats, found: list[Pair], dropped: list[Drop], filters: TextFilterSettings) -> None:
    """Count the texts of tables, and those that text filters took, where any filter is applied to tables."""
    if filters.apply_to != "all":
        return
    stats.counters[TABLE_TEXTS] += sum(pair.text_source == TABLE for pair in found)
    stats.counters[TABLE_TEXTS_TAKEN] += sum(
        drop.pair.text_source == TABLE and drop.reason in TEXT_REASONS for drop in dropped
    )


def _lost_rows(stats: TaskStats) -> Count:
    def count(reason: str, n: int = 1, detail: str = "") -> None:
        if reason in (*ROW_NOTES, *SAMPLE_NOTES):
            stats.note(reason, detail)
            return
        stats.enter(PAIRS_STEP, n)
        stats.drop(PAIRS_STEP, reason, n)
        stats.note(reason, detail)

    return count
