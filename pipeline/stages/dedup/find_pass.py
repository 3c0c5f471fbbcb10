"""Dedup, first pass: find the images to drop, by shuffling keys only; write a verdict file per images file.

Images of one hash meet, and similar ones become one node; nodes that lose to a neighbour are found in
`near_pass`; finally images and verdicts meet by hash.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, fixed_bytes, split_by, to_blob
from openwit.pipeline.execution.files import explained, read_columns, row_count
from openwit.pipeline.execution.jobs import Emitted, Emitter, Grouping, KeyedBlob, Round, RoundsJob, Streams, Task
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import task_stats
from openwit.pipeline.images.descriptor import is_plain
from openwit.pipeline.stages.dedup import DedupPaths
from openwit.pipeline.stages.dedup.copies import Columns, Groups, equal_groups, is_frequent, rank_words
from openwit.pipeline.stages.dedup.evaluation import EvaluationLookup
from openwit.pipeline.stages.dedup.keys import by_bucket, columns_of
from openwit.pipeline.stages.dedup.near_duplicates import block_masks
from openwit.pipeline.stages.dedup.near_pass import IMAGES, LOST, near_rounds
from openwit.pipeline.stages.dedup.reasons import (
    DUPLICATE_BYTES,
    DUPLICATE_PIXELS,
    FREQUENT_IMAGE,
    NEAR_DUPLICATE,
    PLAIN_IMAGE,
    REMOVED,
)
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.images import COPIES

# An image's id: its file's number above its row.
_FILE_SHIFT, _ROW_MASK = np.uint64(40), np.uint64((1 << 40) - 1)
_SUMS = ("sha256", "pixels_hash", "phash", "fingerprint")
_OF_ANOTHER = ("other_file", "other_row", "distance", "evaluation_image", "variant")
_READ = ["url", "split", "pairs", "original_width", "original_height", *_SUMS]
# Streams by number of the images file: verdicts on its rows, and an empty blob for every file.
_VERDICTS, _FILES = "verdicts", "files"
# The later passes over a file report their progress under its own name.
_PROGRESS_PREFIX = "find-"


@dataclass(frozen=True)
class ImagesFile:
    """A file of IMAGES that the fetch stage wrote."""

    images: str


def copies_path(folder: Path, name: str) -> Path:
    """Return the path of the verdicts on an images file."""
    return DedupPaths(folder).copies / f"{name}.parquet"


def find_copies(
    job: Job, settings: DedupSettings, tasks: list[Task[ImagesFile]], folder: Path, evaluation: EvaluationLookup | None
) -> None:
    """Write the verdicts of every images file.

    Args:
        job: how to run.
        settings: distance, and what counts as frequent.
        tasks: one per file, numbered in order of name.
        folder: of the stage.
        evaluation: looks images up among the evaluation images; None without decontamination.
    """
    images = 0
    for task in tasks:
        with explained(as_path(task.payload.images)):
            images += row_count(as_path(task.payload.images))
    job.run_rounds(
        folder, copies_job(settings, tasks, folder, images, evaluation), "images", progress_prefix=_PROGRESS_PREFIX
    )


def copies_job(
    settings: DedupSettings,
    tasks: list[Task[ImagesFile]],
    folder: Path,
    images: int,
    evaluation: EvaluationLookup | None,
) -> RoundsJob[ImagesFile]:
    """Return the rounds that write the verdicts of every images file.

    Args:
        images: rows of all files together.
    """
    if settings.duplicates == "keep":
        # Every image is judged by itself: no keys of images meet.
        return RoundsJob(
            "Find copies",
            tasks,
            SendImages(settings, str(folder), 1, evaluation),
            (_VERDICTS, _FILES),
            [Round("Write verdicts", (_VERDICTS, _FILES), WriteCopies(str(folder)))],
        )
    masks = None if settings.max_distance is None else block_masks(settings.max_distance)
    buckets = bucket_count(images)
    rounds = [] if masks is None else near_rounds(settings, masks, buckets, bucket_count(images * len(masks)))
    reads = (IMAGES,) if masks is None else (IMAGES, LOST)
    return RoundsJob(
        "Find copies",
        tasks,
        SendImages(settings, str(folder), buckets, evaluation),
        (IMAGES, _VERDICTS, _FILES),
        [
            *rounds,
            Round("Judge images", reads, JudgeImages(masks is None, settings.frequent_texts), (_VERDICTS,)),
            Round("Write verdicts", (_VERDICTS, _FILES), WriteCopies(str(folder))),
        ],
    )


class SendImages(Emitter[ImagesFile]):
    """File -> (bucket of the hash, keys of its images); and (file, verdicts) on images dropped by themselves."""

    def __init__(
        self, settings: DedupSettings, folder: str, buckets: int, evaluation: EvaluationLookup | None
    ) -> None:
        self.folder = folder
        self.by_pixels = settings.max_distance is None
        self.drop_plain = settings.plain == "drop"
        self.meet = settings.duplicates == "drop"
        self.remove = settings.remove
        self.buckets = buckets
        self.evaluation = evaluation

    def setup(self) -> None:
        """Read the list of forbidden images, once per worker."""
        self.removals = None if self.remove is None else load_removal_list(Path(self.remove))

    def emit(self, task: Task[ImagesFile]) -> Emitted:
        yield KeyedBlob(_FILES, task.number, task.name.encode())
        table = read_columns(as_path(task.payload.images), _READ)
        rows = np.arange(table.num_rows, dtype=np.int64)
        settled = self._decided_alone(table)
        if settled.num_rows:
            yield KeyedBlob(_VERDICTS, task.number, to_blob(settled))
            rows = np.setdiff1d(rows, settled.column("row").to_numpy())
            table = table.take(pa.array(rows))
        if self.meet:
            yield from self._sent(task.number, table, rows)
        task_stats(as_path(self.folder), _PROGRESS_PREFIX + task.name).tick(len(rows), 1.0)

    def _sent(self, number: int, table: pa.Table, rows: np.ndarray) -> Emitted:
        """Yield the keys of images, by the bucket in which those of equal looks meet."""
        keys = self._keys(table)
        keys["id"] = (np.uint64(number) << _FILE_SHIFT) | rows.astype(np.uint64)
        yield from by_bucket(IMAGES, keys, "hash", self.buckets)

    def _decided_alone(self, table: pa.Table) -> pa.Table:
        """Return COPIES of images that are dropped independently of others.

        These are images on the removal list, duplicates of evaluation images, and images of one colour.
        """
        found = drops_without_survivor(self._removed(table), REMOVED)
        if self.evaluation is not None:
            found = append_new(found, self.evaluation.verdicts(table))
        if self.drop_plain:
            descriptors = fixed_bytes(table.column("fingerprint"))
            plain = np.flatnonzero(is_plain(table.column("phash").to_numpy(), descriptors))
            found = append_new(found, drops_without_survivor(plain, PLAIN_IMAGE))
        return found

    def _removed(self, table: pa.Table) -> np.ndarray:
        if self.removals is None:
            return np.zeros(0, np.int64)
        facts = (table.column(name).to_pylist() for name in ("url", "sha256", "phash"))
        named = [self.removals.matches(url, sha, f"{phash:016x}") for url, sha, phash in zip(*facts, strict=True)]
        return np.array([row for row, kinds in enumerate(named) if kinds], np.int64)

    def _keys(self, table: pa.Table) -> Columns:
        first, length = _texts(table.column("pairs"))
        pixels = _leading_words(table.column("pixels_hash").to_pylist())
        area = table.column("original_width").to_numpy().astype(np.int64) * table.column("original_height").to_numpy()
        held_out = pc.not_equal(table.column("split"), "train").to_numpy()
        return {
            "hash": pixels if self.by_pixels else table.column("phash").to_numpy(),
            "rank": rank_words(held_out, area, length),
            "tie": _hashes(table.column("url").to_pylist()),
            "text": _hashes([normalise(text) for text in first]),
            "bytes": _leading_words(table.column("sha256").to_pylist()),
            "pixels": pixels,
            "descriptor": fixed_bytes(table.column("fingerprint")),
        }


def drops_without_survivor(rows: np.ndarray, reason: str) -> pa.Table:
    """Return COPIES of rows that are dropped without a survivor."""
    nothing = dict.fromkeys(_OF_ANOTHER, [None] * len(rows))
    return COPIES.table({"row": rows, "reason": [reason] * len(rows), **nothing})


def append_new(found: pa.Table, others: pa.Table) -> pa.Table:
    """Return the verdicts and further ones on rows that have none yet."""
    new = pc.invert(pc.is_in(others.column("row"), found.column("row")))
    return pa.concat_tables([found, others.filter(new)])


def _texts(pairs: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Return the first text of each image, and the number of characters of its longest."""
    if not len(pairs):
        return [], np.zeros(0, np.int64)
    lists = pairs.combine_chunks()
    starts = np.r_[0, np.cumsum(pc.list_value_length(lists).to_numpy())[:-1]]
    texts = pc.struct_field(pc.list_flatten(lists), "text")
    return texts.take(pa.array(starts)).to_pylist(), np.maximum.reduceat(pc.utf8_length(texts).to_numpy(), starts)


class JudgeImages(Grouping):
    """(bucket, its images and its losing nodes) -> (file, verdicts on its rows)."""

    def __init__(self, by_pixels: bool, frequent_texts: int | None) -> None:
        self.by_pixels = by_pixels
        self.frequent_texts = frequent_texts

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        if not streams[IMAGES]:
            return
        images = columns_of(streams[IMAGES])
        groups = equal_groups(images, None if self.by_pixels else images["descriptor"], self.frequent_texts)
        lost = [columns_of([blob]) for blob in streams.get(LOST, ())]
        verdicts = self._verdicts(images, groups, lost)
        for file, part in split_by(verdicts, images["id"][verdicts.column("index").to_numpy()] >> _FILE_SHIFT):
            yield KeyedBlob(_VERDICTS, file, to_blob(COPIES.conform(part.drop_columns(["index"]))))

    @staticmethod
    def _verdicts(images: Columns, groups: Groups, lost: list[Columns]) -> pa.Table:
        # First, every image is represented by the best of its group; then by the survivor of that group.
        other = {name: images[name][groups.best][groups.of] for name in ("id", "hash", "bytes", "pixels")}
        frequent = groups.frequent[groups.of]
        by_id = np.argsort(images["id"][groups.best])
        ids = images["id"][groups.best][by_id]
        for losers in lost:
            decision = np.full(len(groups.best), -1, np.int64)
            decision[by_id[np.searchsorted(ids, losers["node_id"])]] = np.arange(len(losers["node_id"]))
            mine = decision[groups.of]
            hit = mine >= 0
            for name in other:
                other[name][hit] = losers[f"other_{name}"][mine[hit]]
            frequent[hit] |= is_frequent(losers["other_rank"])[mine[hit]]
        gone = np.flatnonzero((other["id"] != images["id"]) | frequent)
        reason = np.full(len(frequent), NEAR_DUPLICATE, object)
        reason[other["pixels"] == images["pixels"]] = DUPLICATE_PIXELS
        reason[other["bytes"] == images["bytes"]] = DUPLICATE_BYTES
        reason[frequent] = FREQUENT_IMAGE
        named = {
            "other_file": (other["id"] >> _FILE_SHIFT).astype(np.int32),
            "other_row": (other["id"] & _ROW_MASK).astype(np.int64),
            "distance": np.bitwise_count(images["hash"] ^ other["hash"]).astype(np.int32),
        }
        rows = (images["id"][gone] & _ROW_MASK).astype(np.int64)
        columns = {"row": pa.array(rows), "reason": pa.array(reason[gone]), "index": pa.array(gone)}
        columns |= {name: pa.array(values[gone], mask=frequent[gone]) for name, values in named.items()}
        columns |= {name: pa.nulls(len(gone), pa.string()) for name in ("evaluation_image", "variant")}
        return pa.table({name: columns[name] for name in [*COPIES.arrow.names, "index"]})


class WriteCopies(Grouping):
    """(file, its verdicts and its name) -> the file's verdicts on disk."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        name = streams[_FILES][0].decode()
        table = concat_blobs(streams[_VERDICTS]) if streams[_VERDICTS] else COPIES.empty()
        COPIES.write(copies_path(as_path(self.folder), name), table.sort_by("row"))
        return iter(())


def _hashes(texts: list[str]) -> np.ndarray:
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))


def _leading_words(digests: list[str]) -> np.ndarray:
    """Return the first 64 bits of hex digests: enough to distinguish different ones."""
    return np.fromiter((int(digest[:16], 16) for digest in digests), np.uint64, len(digests))
