"""Read slices with the code of the stages themselves: candidates with their drop reasons, and their matches."""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.jobs import Task, TaskStats
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.plan.settings import Assumptions
from openwit.pipeline.plan.slices import Slice, Stratum, slices_of, strata_of
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.stages.candidates import CandidatesPaths
from openwit.pipeline.stages.candidates.parts import InputPart, RecordsRead
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.stage import FILES_STEP, UNREADABLE, ReadInput, input_files
from openwit.pipeline.stages.queries import QueriesPaths
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.queries.stage import make_queries
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.pipeline.stages.select.match import MatchFile, MatchInput
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.shared_matcher import compile_matcher
from openwit.pipeline.stages.select.winners import choose_winners
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.tables.candidates import CANDIDATES, MATCHES
from openwit.schemas.tables.queries import QUERIES

_DUMP_BYTES = 4 << 20
_KEY_COLUMNS = ("url_hash", "text_length", "tie", "words_hash")


@dataclass
class SliceResult:
    """What a slice gave.

    Attributes:
        taken: the slice, with the share of its file that was read.
        candidates: number of them.
        images: distinct URLs of them.
        of_web: those of them whose image is not in the input.
        seconds: of one core.
        candidate_bytes, drop_bytes: of the files that were written.
    """

    taken: Slice
    candidates: int
    images: int
    of_web: int
    seconds: float
    candidate_bytes: int
    drop_bytes: int


@dataclass
class Sample:
    """What all slices gave.

    Attributes:
        strata: the inputs.
        slices: what was read of them.
        funnel: step to rows in, rows out and reasons.
        files: of candidates, whose names begin with the number of their slice.
        unread: why files were left out.
    """

    strata: list[Stratum]
    slices: list[SliceResult]
    funnel: dict[str, tuple[int, int, Counter[str]]]
    files: list[Path]
    unread: list[str] = field(default_factory=list)


@dataclass
class Matches:
    """The queries of each candidate of a sample.

    Attributes:
        queries: number of queries in the list.
        slice_of: int32 (N,), number of the slice of each kept pair.
        url_hash: uint64 (N,), its image.
        has_bytes: bool (N,), whether its image is in the input.
        offsets, ids: the queries of each kept pair, as `expected_pairs` takes them.
        matched: candidates that matched, with those that lost to an equal one.
        lost: of them.
    """

    queries: int
    slice_of: np.ndarray
    url_hash: np.ndarray
    has_bytes: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    matched: int
    lost: int


def read_sample(settings: CandidateSettings, assumptions: Assumptions, folder: Path) -> Sample:
    """Read slices of the inputs of a recipe's step candidates.

    Raises:
        DataError: no input can be read in part.
    """
    strata = strata_of(input_files(settings), settings, assumptions)
    total = sum(stratum.bytes for stratum in strata)
    sample = Sample(strata, [], {}, [])
    # Columns of the user change no count.
    columns = settings.columns.model_copy(update={"keep": ()})
    work = ReadInput(settings.model_copy(update={"skip_unreadable": True, "columns": columns}))
    work.setup()
    started = time.monotonic()
    for n, stratum in enumerate(strata):
        budget = max(1, assumptions.slice_bytes * stratum.bytes // max(total, 1))
        for taken, problem in slices_of(stratum, settings, assumptions, budget=budget, folder=folder / f"slices-{n}"):
            if taken is None:
                sample.unread.append(problem)
            elif not sample.slices or time.monotonic() - started < assumptions.seconds:
                _read(sample, work, taken, folder)
    if not sample.slices:
        raise DataError(f"no plan can be made: {'; '.join(sample.unread[:3]) or 'the inputs are empty'}")
    return sample


def _read(sample: Sample, work: ReadInput, taken: Slice, folder: Path) -> None:
    stats = TaskStats()
    number = len(sample.slices)
    # The part of a file that is not its first is not counted as a file.
    task: Task[InputPart] = Task(number, f"{number:05d}", taken.part)
    before = time.process_time()  # of a core, whatever else runs on this machine
    files = work.run(task, folder, stats)
    seconds = time.process_time() - before
    if UNREADABLE in stats.noted:
        copied = f"{Path(taken.part.input).parent}/" if Path(taken.part.input).is_relative_to(folder) else ""
        sample.unread += [detail.replace(copied, "") if copied else detail for detail in stats.noted[UNREADABLE]]
        return
    # A range of bytes is read from its first record to the one after it.
    if isinstance(stats.extra, RecordsRead) and stats.extra.after is not None:
        first = stats.extra.first if stats.extra.first is not None else stats.extra.after
        taken = replace(taken, share=(stats.extra.after - first) / taken.file_bytes)
    candidates = [path for path in files if path.parent == CandidatesPaths(folder).candidates]
    found = pa.concat_tables([CANDIDATES.read(path).select(["url", "has_bytes"]) for path in candidates])
    images, held = pc.count_distinct(found.column("url")).as_py(), pc.sum(found.column("has_bytes")).as_py() or 0
    rows = found.num_rows
    sizes = {path: path.stat().st_size for path in files}
    sample.files += candidates
    written = sum(size for path, size in sizes.items() if path in candidates)
    dropped = sum(sizes.values()) - written
    sample.slices.append(SliceResult(taken, rows, images, rows - held, seconds, written, dropped))
    for step in stats.rows_in:
        if step == FILES_STEP:
            continue
        rows_in, rows_out, reasons = sample.funnel.get(step, (0, 0, Counter()))
        reasons.update(stats.reasons.get(step, {}))
        sample.funnel[step] = (rows_in + stats.rows_in[step], rows_out + stats.rows_out[step], reasons)


def make_list(job: Job, settings: QuerySettings, folder: Path) -> tuple[Path, str, float]:
    """Return a query list of what of its sources is quickly read; what is missing in it; and the share of dumps read.

    Lists and WordNet are taken whole. Of dumps the first megabytes are read, with `min_count` lowered accordingly;
    page views are left out.
    """
    dumps = expand_inputs(settings.wikipedia, "queries.wikipedia") if settings.wikipedia else []
    notes = []
    update: dict[str, object] = {"wikipedia": [], "pageviews": []}
    share = 1.0
    if dumps:
        local = [name for name in dumps if not is_remote(name)]
        total = sum(Path(name).stat().st_size for name in local)
        if local and total > _DUMP_BYTES:
            copy = folder / Path(local[0]).name
            folder.mkdir(parents=True, exist_ok=True)
            with open(local[0], "rb") as file:
                copy.write_bytes(file.read(_DUMP_BYTES))
            share = min(1.0, _DUMP_BYTES / total)
            bigrams = settings.bigrams
            scaled = bigrams and bigrams.model_copy(update={"min_count": max(2, round(bigrams.min_count * share))})
            update |= {"wikipedia": [str(copy)], "bigrams": scaled}
            update["min_count"] = max(1, round(settings.min_count * share))
            notes.append(f"words of {share:.1%} of the {'dump' if len(local) == len(dumps) else 'local dumps'}")
        else:
            update["wikipedia"] = local
        if len(local) < len(dumps):
            notes.append("no words of the remote dumps")
    if settings.pageviews:
        notes.append("no titles by page views")
    sliced = settings.model_copy(update=update)
    if not (sliced.wikipedia or sliced.wordnet or sliced.tables):
        sliced = sliced.model_copy(update={"wordnet": "builtin"})
        notes.append("WordNet in place of all")
    target = folder / "list"
    (target / ".stage").mkdir(parents=True, exist_ok=True)
    make_queries(job, sliced, target)
    return QueriesPaths(target).queries, "; ".join(notes), share


def match_sample(sample: Sample, queries: Path, settings: SelectSettings, folder: Path) -> Matches:
    """Match the candidates of a sample, and choose winners among equals, as the stage select does."""
    listed = QUERIES.read(queries).num_rows
    compile_matcher(settings.match)
    work = MatchFile(str(queries), settings)
    tables, rows = [], []
    for n, path in enumerate(sample.files):
        task = Task(n, f"match-{n:05d}", MatchInput(str(path), "", None))
        [written] = work.run(task, folder, TaskStats())
        tables.append(MATCHES.read(written))
        number = int(path.stem.partition("-")[0])
        rows.append(np.full(tables[-1].num_rows, number, np.int32))
    matches = pa.concat_tables(tables)
    has_bytes = np.concatenate(
        [CANDIDATES.read(path).column("has_bytes").to_numpy(zero_copy_only=False) for path in sample.files]
    )
    lists = matches.column("query_ids").combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    matched = np.flatnonzero(lengths > 0)
    keys = {name: matches.column(name).to_numpy()[matched] for name in _KEY_COLUMNS}
    verdict = choose_winners(
        keys["url_hash"],
        pair_hashes(matches.column("pair_id").combine_chunks())[matched],
        text_length=keys["text_length"],
        tie=keys["tie"],
        texts=settings.texts_per_image,
        words_hash=keys["words_hash"] if settings.near_equal_texts == "drop" else None,
    )
    kept = matched[verdict == 0]
    of_kept = lists.take(pa.array(kept))
    offsets = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
    return Matches(
        listed,
        np.concatenate(rows)[kept],
        matches.column("url_hash").to_numpy()[kept],
        has_bytes[kept],
        offsets,
        of_kept.flatten().to_numpy(),
        len(matched),
        int((verdict != 0).sum()),
    )
