"""Dedup: images that are copies of each other, by perceptual hash; the best of them stays.

Keys only in the shuffles: hash, file, row and what ranks an image. The image bytes stay where fetch wrote them.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipeline.columnar.progress import watching
from pipeline.columnar.stage import Job, Outcome, StageManifest, run_stage, stage_input
from pipeline.columnar.tables import concat_blobs, split_by, to_blob
from pipeline.columnar.tasks import FileWork, Tally, Task, run_job, with_nothing
from pipeline.images.near_duplicates import block_masks, pairs_within, survivors
from pipeline.recipe import DedupSettings
from pipeline.selection.chance import mix
from pipeline.stages.carry import carry_query_counts
from pipeline.text.normalise import normalise
from schemas.candidates import DROPS
from schemas.errors import UserError
from schemas.images import COPIES, IMAGES, SURVIVORS

NAME = "dedup"
VERSION = 1
IMAGES_STEP = "dedup/images"
PAIRS_STEP = "dedup/pairs"
DUPLICATE_BYTES, NEAR_DUPLICATE = "duplicate_bytes", "near_duplicate"
COPY_OF_HELD_OUT, SAME_TEXT = "copy_of_held_out", "same_text_of_copy"
_BUCKETS = 64
_METADATA = [name for name in IMAGES.arrow.names if name != "image"]
# What ranks the copies of an image, best first: see `_rank`.
_RANK = ("held_out", "area", "text_length", "tie")
_END = ("file", "row", *_RANK)


def run(job: Job, settings: DedupSettings, fetched: Path, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished fetch folder."""
    upstream = StageManifest.load(fetched, "fetch")
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        {"fetch": stage_input(fetched)},
        lambda: _body(job, settings, upstream.paths(fetched, "images"), fetched, folder),
        [upstream],
    )


def _body(job: Job, settings: DedupSettings, files: list[Path], fetched: Path, folder: Path) -> Outcome:
    _find_copies(job, settings, files, folder)
    names = [str(path) for path in files]
    tasks = [Task(n, path.stem, {"images": str(path)}) for n, path in enumerate(files)]
    receipts = job.run(folder, tasks, "Keep survivors", "images", KeepSurvivors(names, settings.merge_texts))
    outcome = Outcome()
    outcome.add_receipts(receipts, [IMAGES_STEP, PAIRS_STEP])
    outcome.files += carry_query_counts(fetched, folder)
    # The bytes stay where fetch wrote them; the path is relative, so that a build can be moved whole.
    outcome.extra = {"images": os.path.relpath(fetched, folder)}
    if outcome.funnel[0].rows_out == 0:
        raise UserError(f"{fetched} holds no images: see its drops for the reasons")
    return outcome


class SendHashes(beam.DoFn):
    """task -> (bucket, keys of its images): one row an image and key, see pipeline.images.near_duplicates."""

    def __init__(self, max_distance: int) -> None:
        self.masks = block_masks(max_distance)

    def process(self, task: Task) -> Iterator[tuple[int, bytes]]:
        table = pq.read_table(
            task.payload["images"],
            columns=["phash", "split", "url", "pairs", "original_width", "original_height"],
        )
        n = table.num_rows
        urls, pairs = table.column("url").to_pylist(), table.column("pairs").to_pylist()
        area = table.column("original_width").to_numpy().astype(np.int64) * table.column("original_height").to_numpy()
        base = {
            "file": np.full(n, task.number, np.int32),
            "row": np.arange(n, dtype=np.int64),
            "phash": table.column("phash").to_numpy(),
            "held_out": np.array([split != "train" for split in table.column("split").to_pylist()], np.int8),
            "area": area,
            "text_length": np.array([max(len(pair["text"]) for pair in row) for row in pairs], np.int32),
            "tie": np.fromiter((xxhash.xxh3_64_intdigest(url.encode()) for url in urls), np.uint64, n),
        }
        for number, mask in enumerate(self.masks):
            # The key's number goes into the hash, so that equal bits of different blocks do not meet.
            key = mix((base["phash"] & mask) ^ np.uint64((number + 1) << 56))
            rows = pa.table({"key": key, **base})
            for bucket, part in split_by(rows, key % np.uint64(_BUCKETS)):
                yield bucket, to_blob(part)


class FindPairs(beam.DoFn):
    """(bucket, keys) -> pairs of images within the distance, with what ranks both."""

    def __init__(self, max_distance: int) -> None:
        self.max_distance = max_distance

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        keys = concat_blobs(list(element[1]))
        columns = {name: keys.column(name).to_numpy() for name in keys.column_names}
        pairs = pairs_within(columns["key"], columns["phash"], self.max_distance)
        if len(pairs):
            ends = {f"{side}_{name}": columns[name][pairs[:, n]] for n, side in enumerate("ab") for name in _END}
            yield 0, to_blob(pa.table(ends))


class ChooseSurvivors(beam.DoFn):
    """All pairs -> (file, its rows that lose or stand for others)."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        edges = concat_blobs(list(element[1]))
        sides = [{name: edges.column(f"{side}_{name}").to_numpy() for name in _END} for side in "ab"]
        ids = np.concatenate([_image_id(side) for side in sides])
        nodes, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        columns = {name: np.concatenate([side[name] for side in sides])[first] for name in _END}
        half = len(ids) // 2
        stands = survivors(np.stack([inverse[:half], inverse[half:]], axis=1), _rank(columns))
        lost = np.flatnonzero(stands != np.arange(len(nodes)))
        yield from self._both_ways(columns, lost, stands[lost])

    @staticmethod
    def _both_ways(columns: dict[str, np.ndarray], lost: np.ndarray, kept: np.ndarray) -> Iterator[tuple[int, bytes]]:
        for here, there, dropped in ((lost, kept, True), (kept, lost, False)):
            table = COPIES.table(
                {
                    "row": columns["row"][here],
                    "dropped": np.full(len(here), dropped),
                    "other_file": columns["file"][there],
                    "other_row": columns["row"][there],
                }
            )
            for file, part in split_by(table, columns["file"][here]):
                yield file, to_blob(part)


class WriteCopies(beam.DoFn):
    """(file, its copies) -> the file's copies on disk."""

    def __init__(self, folder: str, tasks: list[Task]) -> None:
        self.folder = folder
        self.tasks = tasks

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        blobs = [blob for blob in element[1] if blob]
        table = concat_blobs(blobs) if blobs else COPIES.empty()
        order = [(name, "ascending") for name in ("row", "other_file", "other_row")]
        COPIES.write(Path(self.folder) / "copies" / f"{self.tasks[element[0]].name}.parquet", table.sort_by(order))
        yield element[0]


def _image_id(side: dict[str, np.ndarray]) -> np.ndarray:
    ids: np.ndarray = (side["file"].astype(np.int64) << 40) | side["row"]
    return ids


def _rank(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Held-out images first (their copies must not be trained on), then the largest, then the longest text."""
    keys = (
        columns["tie"],
        -columns["text_length"].astype(np.int64),
        -columns["area"],
        1 - columns["held_out"].astype(np.int64),
    )
    rank = np.empty(len(columns["tie"]), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(rank))
    return rank


def _find_copies(job: Job, settings: DedupSettings, files: list[Path], folder: Path) -> None:
    tasks = [Task(n, path.stem, {"images": str(path)}) for n, path in enumerate(files)]

    def construct(pipeline: beam.Pipeline) -> None:
        listed = pipeline | "List files" >> beam.Create(tasks, reshuffle=False)
        copies = (
            listed
            | "Spread files" >> beam.Reshuffle()
            | "Send hashes" >> beam.ParDo(SendHashes(settings.max_distance)).with_output_types(tuple[int, bytes])
            | "Group hashes by key" >> beam.GroupByKey()
            | "Find pairs" >> beam.ParDo(FindPairs(settings.max_distance)).with_output_types(tuple[int, bytes])
            | "Gather pairs" >> beam.GroupByKey()
            | "Choose survivors" >> beam.ParDo(ChooseSurvivors()).with_output_types(tuple[int, bytes])
        )
        every_file = listed | "Name each file" >> beam.Map(with_nothing).with_output_types(tuple[int, bytes])
        _ = (
            (copies, every_file)
            | "Join copies and files" >> beam.Flatten()
            | "Group copies by file" >> beam.GroupByKey()
            | "Write copies" >> beam.ParDo(WriteCopies(str(folder), tasks))
        )

    with watching(job.console, "Find copies", folder, tasks, "images"):
        run_job(job.runner, folder, construct)


class KeepSurvivors(FileWork):
    """Applies the copies to one images file: survivors with their texts, and the pairs that leave."""

    def __init__(self, files: list[str], merge_texts: bool) -> None:
        self.files = files
        self.merge_texts = merge_texts

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        images = pq.read_table(task.payload["images"], columns=_METADATA).to_pylist()
        copies = COPIES.read(folder / "copies" / f"{task.name}.parquet").to_pylist()
        others = self._read_others(copies)
        drops: list[dict[str, Any]] = []
        lost: dict[int, str] = {}
        for copy in (c for c in copies if c["dropped"]):
            image, other = images[copy["row"]], others[copy["other_file"], copy["other_row"]]
            lost[copy["row"]] = DUPLICATE_BYTES if image["sha256"] == other["sha256"] else NEAR_DUPLICATE
            self._drop_texts(image, other, lost[copy["row"]], tally, drops)
        absorbed: dict[int, list[dict[str, Any]]] = {}
        for copy in (c for c in copies if not c["dropped"]):
            absorbed.setdefault(copy["row"], []).append(others[copy["other_file"], copy["other_row"]])
        kept = []
        for row, image in enumerate(images):
            tally.enter(IMAGES_STEP)
            if row in lost:
                tally.drop(IMAGES_STEP, lost[row])
                continue
            tally.leave(IMAGES_STEP)
            tally.enter(PAIRS_STEP, len(image["pairs"]))
            merged = self._merge(image, absorbed.get(row, []), tally, drops)
            tally.leave(PAIRS_STEP, len(merged))
            kept.append({**image, "pairs": merged, "duplicates": len(absorbed.get(row, [])), "source_row": row})
        return self._write(folder, task, kept, drops)

    def _read_others(self, copies: list[dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any]]:
        """The other end of each copy, without its image: read file by file, only the rows asked for."""
        wanted: dict[int, list[int]] = {}
        for copy in copies:
            wanted.setdefault(copy["other_file"], []).append(copy["other_row"])
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for file, rows in wanted.items():
            unique = sorted(set(rows))
            table = pq.read_table(self.files[file], columns=["url", "split", "sha256", "pairs"]).take(pa.array(unique))
            found.update(zip(((file, row) for row in unique), table.to_pylist(), strict=True))
        return found

    def _drop_texts(
        self, image: dict[str, Any], survivor: dict[str, Any], reason: str, tally: Tally, drops: list[dict[str, Any]]
    ) -> None:
        """Counts the pairs of a dropped image that do not go over to its survivor."""
        if survivor["split"] != image["split"]:
            reason = COPY_OF_HELD_OUT
        elif self.merge_texts:
            return  # counted where the survivor takes them over
        tally.enter(PAIRS_STEP, len(image["pairs"]))
        tally.drop(PAIRS_STEP, reason, len(image["pairs"]))
        drops += [_drop(pair, image["url"], reason, f"copy of {survivor['url']}") for pair in image["pairs"]]

    def _merge(
        self, image: dict[str, Any], copies: list[dict[str, Any]], tally: Tally, drops: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The texts of an image and of the copies it stands for, each text once, by priority."""
        if not self.merge_texts:
            return list(image["pairs"])
        merged = {normalise(pair["text"]): pair for pair in reversed(image["pairs"])}
        kept = list(image["pairs"])
        for copy in sorted((c for c in copies if c["split"] == image["split"]), key=lambda c: c["url"]):
            tally.enter(PAIRS_STEP, len(copy["pairs"]))
            for pair in copy["pairs"]:
                if normalise(pair["text"]) in merged:
                    tally.drop(PAIRS_STEP, SAME_TEXT)
                    drops.append(_drop(pair, copy["url"], SAME_TEXT, f"copy of {image['url']}"))
                else:
                    merged[normalise(pair["text"])] = pair
                    kept.append(pair)
        return sorted(kept, key=lambda pair: (pair["priority"], pair["pair_id"]))

    @staticmethod
    def _write(folder: Path, task: Task, kept: list[dict[str, Any]], drops: list[dict[str, Any]]) -> list[Path]:
        survivors_path = folder / "survivors" / f"{task.name}.parquet"
        SURVIVORS.write(survivors_path, pa.Table.from_pylist(kept, schema=SURVIVORS.arrow))
        drops_path = folder / "drops" / f"{task.name}.parquet"
        DROPS.write(drops_path, pa.Table.from_pylist(drops, schema=DROPS.arrow))
        return [survivors_path, drops_path]


def _drop(pair: dict[str, Any], url: str, reason: str, detail: str) -> dict[str, Any]:
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": reason, "detail": detail}
