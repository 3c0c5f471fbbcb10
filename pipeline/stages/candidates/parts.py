"""Divide the inputs into parts, each read by a task: by sizes and settings, never by the number of workers.

Files up to `part_bytes` are not opened. A larger one is looked at by a task of its own, whose result is kept, so that
a resumed build has the same parts. Where the parts of an archive begin is found by search, and confirmed afterwards:
each must begin with the record at which the part before it ended.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from openwit.pipeline.common.ranges import gives_ranges, open_ranges, remote_size
from openwit.pipeline.execution.jobs import FileTask, Task, TaskResult, TaskStats
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.readers.crawl.archive_file import RecordRange
from openwit.pipeline.readers.crawl.archive_parts import first_wrong, why_not_split
from openwit.pipeline.readers.custom import reader_of
from openwit.pipeline.readers.samples.datasets import is_shard
from openwit.pipeline.readers.samples.folders import folder_ranges
from openwit.pipeline.readers.tables.files import format_of
from openwit.pipeline.readers.tables.parquet_tables import parquet_sizes
from openwit.pipeline.readers.tables.splitting import COMPRESSED, ONE_ROW, edges, parquet_ranges, text_ranges
from openwit.pipeline.readers.tables.table_ranges import RowRange, TextRange
from openwit.pipeline.readers.url_lists import is_plain
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.sources import SAMPLE_KINDS, InputKind, kind_of
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.storage.remote import is_remote, local_copy
from openwit.schemas.common.wording import counted

OWN_READER = "file for your own reader"
WHOLE_FILES_ONLY = "unseekable remote file"
ARC = "ARC file"
COMPRESSED_LIST = "compressed list of URLs"
SKIP = "candidates.skip_unreadable: true skips such files"

_ARCHIVE_BYTES = 128 << 20
_TABLE_BYTES = 16 << 20  # a row is far more work a byte than a page

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputPart:
    """An input, or a part of it.

    Attributes:
        input: the file as the recipe names it.
        number: of the part in the file, from 0.
        table: rows of a table, or images of a folder; None for all.
        records: bytes (start, end) of an archive, tar or list where the records of the part begin; None for all.
        is_exact: a record is known to begin at the start.
        is_empty: no record begins in the part.
        shown: name of the input in the placeholder for a missing URL.
    """

    input: str
    number: int = 0
    table: RowRange | TextRange | None = None
    records: tuple[int, int | None] | None = None
    is_exact: bool = False
    is_empty: bool = False
    shown: str = ""


@dataclass(frozen=True)
class InputPlan:
    """How an input is read; `whole` tells why it cannot be divided, as a noun, if it is large."""

    parts: list[InputPart]
    whole: str = ""


@dataclass(frozen=True)
class RecordsRead:
    """Offset of the first record that a part of an archive read, and of the first one after the part."""

    first: int | None
    after: int | None


def plan(job: Job, folder: Path, inputs: Sequence[str], settings: CandidateSettings) -> list[Task[InputPart]]:
    """Return the tasks that read the inputs, in their order; say which large ones cannot be divided."""
    plans = {name: InputPlan([InputPart(name)]) for name in inputs}
    looks: list[Task[str]] = []
    for number, name in enumerate(inputs):
        if name.endswith("/") and not is_remote(name) and reader_of(name, settings.readers) is None:
            plans[name] = InputPlan(_folder_parts(name, settings))
            continue
        if not is_remote(name) and _size(name) <= _part_bytes(name, settings):
            continue
        if reader_of(name, settings.readers) is None:
            looks.append(Task(number, f"plan-{number:05d}", name))
        elif not is_remote(name):
            plans[name] = InputPlan([InputPart(name)], OWN_READER)
    if looks:
        results = job.run(folder, looks, "Look at large inputs", "rows", PlanInput(settings))
        plans.update({look.payload: r.extra_as(InputPlan) for look, r in zip(looks, results, strict=True)})
    _say_whole(plans, settings)
    shown = short_names(inputs)
    parts = [replace(part, shown=shown[name]) for name in inputs for part in plans[name].parts]
    width = max(5, len(str(len(parts) - 1)))  # names sort as the inputs do
    return [Task(number, f"{number:0{width}d}", part) for number, part in enumerate(parts)]


def short_names(inputs: Sequence[str]) -> dict[str, str]:
    """Return each input's file name, with as many folders before it as tell all inputs apart."""
    found: dict[str, str] = {}
    left, depth = list(inputs), 1
    while left:
        tails = {name: "/".join(name.partition("?")[0].strip("/").split("/")[-depth:]) for name in left}
        often = Counter(tails.values())
        done = {name: tail for name, tail in tails.items() if often[tail] == 1 or depth > name.count("/")}
        found.update(done)
        left, depth = [name for name in left if name not in done], depth + 1
    return found


class PlanInput(FileTask[str]):
    """Look at an input, and divide it if it is large; writes no file."""

    def __init__(self, settings: CandidateSettings) -> None:
        self.settings = settings

    def run(self, task: Task[str], folder: Path, stats: TaskStats) -> list[Path]:  # noqa: ARG002
        try:
            stats.extra = _plan_of(task.payload, self.settings, stats)
        except OpenWITError as error:
            if is_remote(task.payload) and not self.settings.skip_unreadable:  # another attempt may divide it
                raise type(error)(f"{error} ({SKIP})") from error
            stats.extra = InputPlan([InputPart(task.payload)])
        return []


def _plan_of(name: str, settings: CandidateSettings, stats: TaskStats) -> InputPlan:
    whole = InputPlan([InputPart(name)])
    part_bytes = _part_bytes(name, settings)
    size = remote_size(name) if is_remote(name) else _size(name)
    if size is not None and size <= part_bytes:
        return whole
    if size is None or (is_remote(name) and not gives_ranges(name, size)):
        return replace(whole, whole=WHOLE_FILES_ONLY)
    parts, reason = _parts(name, size, part_bytes, settings, stats)
    if len(parts) < 2:
        return replace(whole, whole=reason)
    return InputPlan([replace(part, number=number) for number, part in enumerate(parts)])


def _parts(
    name: str, size: int, part_bytes: int, settings: CandidateSettings, stats: TaskStats
) -> tuple[list[InputPart], str]:
    """Return the parts of a large input, or none and why there are none."""
    if kind_of(name) in SAMPLE_KINDS and is_shard(name, settings.columns):
        return [], ""  # its images are not looked at
    if kind_of(name) in (InputKind.TAR, InputKind.URLS):
        if kind_of(name) is InputKind.URLS and not is_plain(name):
            return [], COMPRESSED_LIST
        return _byte_parts(name, size, part_bytes), ""
    if kind_of(name) is not InputKind.TABLE:
        if ".warc" not in name.lower() and ".wat" not in name.lower():
            return [], ARC
        with open_ranges(name) as file:
            if reason := why_not_split(file, part_bytes):
                return [], reason
        return _byte_parts(name, size, part_bytes), ""
    kind, compression = format_of(name)
    if kind == "parquet":
        sizes = parquet_sizes(name, settings.columns)
        return [InputPart(name, table=part) for part in parquet_ranges(sizes, part_bytes)], ""
    if compression is not None:
        return [], COMPRESSED
    with local_copy(name) as path:
        ranges = text_ranges(path, settings.columns, part_bytes, source=name, tick=stats.tick)
    return [InputPart(name, table=part) for part in ranges], ONE_ROW


def _byte_parts(name: str, size: int, part_bytes: int) -> list[InputPart]:
    starts = [0, *edges(size, part_bytes)]
    return [InputPart(name, records=span) for span in zip(starts, [*starts[1:], None], strict=True)]


def _folder_parts(name: str, settings: CandidateSettings) -> list[InputPart]:
    if is_shard(name, settings.columns):
        return [InputPart(name)]
    try:
        ranges = folder_ranges(name)
    except OpenWITError:
        return [InputPart(name)]  # reading it tells what is wrong
    if len(ranges) < 2:
        return [InputPart(name)]
    return [InputPart(name, number, table=part) for number, part in enumerate(ranges)]


def follow_records(
    job: Job, folder: Path, tasks: list[Task[InputPart]], results: list[TaskResult], work: FileTask[InputPart]
) -> tuple[list[Task[InputPart]], list[TaskResult]]:
    """Confirm where the parts of archives begin, and read again those that began elsewhere.

    A part begins elsewhere if a record of the archive holds another archive, as it is stored.

    Returns:
        The tasks and results, in their order.
    """
    tasks, results = list(tasks), list(results)
    while wrong := _wrong_starts(tasks, results):
        again: list[Task[InputPart]] = []
        for at, start in wrong.items():
            part = tasks[at].payload
            end = part.records[1] if part.records else None
            if start is None:
                part = replace(part, is_empty=True)
            else:
                part = replace(part, records=(start, end), is_exact=True)
            again.append(Task(tasks[at].number, f"{tasks[at].name}-again", part))
        for at in wrong:
            for entry in results[at].files:
                (folder / entry.path).unlink(missing_ok=True)
        redone = job.run(folder, again, "Read parts of archives again", "pairs", work)
        for at, task, result in zip(wrong, again, redone, strict=True):
            tasks[at], results[at] = task, result
    return tasks, results


def _wrong_starts(tasks: Sequence[Task[InputPart]], results: Sequence[TaskResult]) -> dict[int, int | None]:
    """Return of each archive the first part that began in a wrong place: its number, and where its first record is."""
    wrong: dict[int, int | None] = {}
    archives = [
        at
        for at, task in enumerate(tasks)
        if task.payload.records is not None and kind_of(task.payload.input) is not InputKind.URLS
    ]
    for _, group in groupby(archives, key=lambda at: tasks[at].payload.input):
        parts = list(group)
        found = first_wrong([_read_range(tasks[at].payload, results[at]) for at in parts])
        if found is not None:
            wrong[parts[found[0]]] = found[1]
    return wrong


def _read_range(part: InputPart, result: TaskResult) -> RecordRange | None:
    """Return the range of a part, and what it read; None if it could not be read."""
    assert part.records is not None
    if part.is_empty:
        return RecordRange(*part.records, exact=True)
    if not result.extra:
        return None
    read = result.extra_as(RecordsRead)
    return RecordRange(*part.records, exact=part.is_exact, first=read.first, after=read.after)


def _part_bytes(name: str, settings: CandidateSettings) -> int:
    if settings.part_bytes is not None:
        return settings.part_bytes
    is_table = reader_of(name, settings.readers) is not None or kind_of(name) in (InputKind.TABLE, InputKind.URLS)
    return _TABLE_BYTES if is_table else _ARCHIVE_BYTES


def _size(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except OSError:
        return 0  # reading it tells what is wrong


def _say_whole(plans: dict[str, InputPlan], settings: CandidateSettings) -> None:
    """Say in one line which large inputs are read by one task each."""
    whole = {name: found.whole for name, found in plans.items() if found.whole}
    if not whole:
        return
    kinds = ", ".join(counted(number, reason) for reason, number in sorted(Counter(whole.values()).items()))
    limit = "" if settings.part_bytes is None else f" ({settings.part_bytes:,})"
    _log.warning(
        "%s larger than candidates.part_bytes%s cannot be read in parts, each is one task: %s, such as %s",
        counted(len(whole), "input"),
        limit,
        kinds,
        min(whole),
    )
