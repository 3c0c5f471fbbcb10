"""Dedup, last passes: transfer the texts of dropped duplicates to their survivors, and write the files.

Texts are transferred through files, one per group of images files: the texts of a dropped image are one row for the
survivor's file, which reads its rows of each group (see `openwit.pipeline.execution.routed`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.execution.exchange import grouped
from openwit.pipeline.execution.files import STAGE, open_unchanged, read_columns
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.routed import RoutedWriter, read_all_routed
from openwit.pipeline.images.descriptor import have_same_colours, may_share_texts
from openwit.pipeline.stages.dedup import DedupPaths
from openwit.pipeline.stages.dedup.examples import ExamplePicker, KeptExamples
from openwit.pipeline.stages.dedup.find_pass import ImagesFile, copies_path
from openwit.pipeline.stages.dedup.reasons import (
    COPY_OF_HELD_OUT,
    EVALUATION_IMAGE,
    NEAR_DUPLICATE,
    NOT_SURELY_SAME,
    OTHER_COLOURS,
    SAME_TEXT,
)
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import COPIES, EXCLUDED, IMAGES, SURVIVORS

IMAGES_STEP = "dedup/images"
PAIRS_STEP = "dedup/pairs"
TRANSFERS = f"{STAGE}/handed"
_METADATA = [name for name in IMAGES.arrow.names if name != "image"]
_TEXTS = ["url", "split", "pairs", "fingerprint"]
_MOVED = pa.schema(
    [
        pa.field("to_row", pa.int64()),
        pa.field("file", pa.int32()),
        pa.field("reason", pa.string()),
        pa.field("distance", pa.int32()),
        pa.field("row", pa.int64()),
        *(IMAGES.arrow.field(name).remove_metadata() for name in _TEXTS),
    ]
)

Row = dict[str, Any]


@dataclass(frozen=True)
class ImagesGroup:
    """Neighbouring files of IMAGES, and the number of the first."""

    first: int
    images: tuple[str, ...]


def transfer_tasks(files: Sequence[Path]) -> list[Task[ImagesGroup]]:
    """Return the tasks of `TransferTexts`, one per group of files."""
    return [
        Task(n, f"transfer-{n:05d}", ImagesGroup(group.start, tuple(str(files[number]) for number in group)))
        for n, group in enumerate(grouped(len(files)))
    ]


def transfer_path(folder: Path, name: str) -> Path:
    """Return the path of the texts that a task of `TransferTexts` transfers."""
    return folder / TRANSFERS / f"{name}.rows"


class TransferTexts(FileTask[ImagesGroup]):
    """Write the texts of the dropped images of a group of files, for the files that have their survivors.

    Args:
        files: number of all images files.
    """

    def __init__(self, files: int) -> None:
        self.files = files

    def run(self, task: Task[ImagesGroup], folder: Path, stats: TaskStats) -> list[Path]:
        target = transfer_path(folder, task.name)
        with RoutedWriter(target, _MOVED, self.files) as routed:
            for number, images in enumerate(task.payload.images):
                copies = COPIES.read(copies_path(folder, Path(images).stem))
                moving = copies.filter(pc.is_valid(copies.column("other_file")))
                if moving.num_rows:
                    for rows in _moved(images, task.payload.first + number, moving):
                        routed.add(rows.drop_columns("other_file"), rows.column("other_file").to_numpy())
                stats.tick(number + 1, (number + 1) / len(task.payload.images))
        return [target]


def _moved(images: str, number: int, moving: pa.Table) -> Iterator[pa.Table]:
    """Yield the texts of dropped images per row group of their file, with the number of the survivor's file.

    Args:
        number: of the file.
        moving: verdicts with a survivor, by row.
    """
    rows, first = moving.column("row").to_numpy(), 0
    with open_unchanged(as_path(images)) as source, pq.ParquetFile(source) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            verdicts = moving.filter(pa.array((rows >= first) & (rows < first + count)))
            if verdicts.num_rows:
                texts = file.read_row_group(group, columns=_TEXTS)
                texts = texts.take(pa.array(verdicts.column("row").to_numpy() - first))
                columns = {"to_row": verdicts.column("other_row"), "file": pa.repeat(number, verdicts.num_rows)}
                columns |= {name: verdicts.column(name) for name in ("reason", "distance", "row")}
                table = pa.table(columns | {name: texts.column(name) for name in _TEXTS}).cast(_MOVED)
                yield table.append_column("other_file", verdicts.column("other_file"))
            first += count


class KeepSurvivors(FileTask[ImagesFile]):
    """Apply the verdicts to one images file: write survivors with their texts, and the dropped pairs.

    Args:
        merge_texts: whether survivors get the texts of their duplicates.
        transfers: names of the tasks that transferred texts.
        judged: whether there are verdicts; without, every image survives.
    """

    def __init__(self, merge_texts: bool, transfers: Sequence[str], *, judged: bool = True) -> None:
        self.merge_texts = merge_texts
        self.transfers = tuple(transfers)
        self.judged = judged

    def run(self, task: Task[ImagesFile], folder: Path, stats: TaskStats) -> list[Path]:
        images = read_columns(as_path(task.payload.images), _METADATA)
        copies = COPIES.read(copies_path(folder, task.name)) if self.judged else COPIES.empty()
        taken = self._incoming_images(task, folder)
        picker = ExamplePicker(task.number)
        drops: list[Row] = []
        excluded = self._drop_without_survivor(images, copies, stats, drops, picker)
        stats.enter(IMAGES_STEP, images.num_rows)
        for reason in copies.column("reason").to_pylist():
            stats.drop(IMAGES_STEP, reason)
        stays = np.ones(images.num_rows, bool)
        stays[copies.column("row").to_numpy()] = False
        stats.leave(IMAGES_STEP, int(stays.sum()))
        # Only the few images that get texts are handled one by one.
        stays[list(taken)] = False
        alone = _as_survivors(images, np.flatnonzero(stays))
        for count in (stats.enter, stats.leave):
            count(PAIRS_STEP, int(pc.sum(pc.list_value_length(alone.column("pairs"))).as_py() or 0))
        joined = []
        for image in _as_survivors(images, np.array(sorted(taken), np.int64)).to_pylist():
            absorbed = sorted(taken[image["source_row"]], key=lambda copy: str(copy["url"]))
            for copy in absorbed:
                standing = {**image, "file": task.number, "row": image["source_row"]}
                picker.offer(copy["reason"], copy, copy["distance"], standing)
            merged = self._merge(image, absorbed, stats, drops)
            joined.append({**image, "pairs": merged, "duplicates": len(absorbed)})
        kept = pa.concat_tables([alone, pa.Table.from_pylist(joined, schema=SURVIVORS.arrow)])
        stats.extra = KeptExamples(picker.chosen())
        return self._write(folder, task, kept.sort_by("source_row"), drops, excluded)

    def _incoming_images(self, task: Task[ImagesFile], folder: Path) -> dict[int, list[Row]]:
        """Return what the rows of a file receive: row to its dropped duplicates."""
        taken: dict[int, list[Row]] = {}
        paths = [transfer_path(folder, name) for name in self.transfers]
        for row in read_all_routed(paths, _MOVED, task.number).to_pylist():
            taken.setdefault(row["to_row"], []).append(row)
        return taken

    @staticmethod
    def _drop_without_survivor(
        images: pa.Table, copies: pa.Table, stats: TaskStats, drops: list[Row], picker: ExamplePicker
    ) -> list[Row]:
        """Drop the images without a survivor, with all their pairs; return the rows of the decontamination report."""
        alone = copies.filter(pc.is_null(copies.column("other_file")))
        excluded = []
        for image, verdict in zip(images.take(alone.column("row")).to_pylist(), alone.to_pylist(), strict=True):
            reason, detail, standing = verdict["reason"], "", None
            if reason == EVALUATION_IMAGE:
                facts = {name: verdict[name] for name in ("evaluation_image", "variant", "distance")}
                excluded.append({"url": image["url"], "text": image["pairs"][0]["text"], **facts})
                detail = f"{verdict['evaluation_image']} ({verdict['variant']})"
                standing = {"url": detail}
            stats.enter(PAIRS_STEP, len(image["pairs"]))
            stats.drop(PAIRS_STEP, reason, len(image["pairs"]))
            drops += [_drop(pair, image["url"], reason, detail) for pair in image["pairs"]]
            picker.offer(reason, {**image, "row": verdict["row"]}, verdict["distance"], standing)
        return excluded

    def _merge(self, image: Row, absorbed: list[Row], stats: TaskStats, drops: list[Row]) -> list[Row]:
        """Merge the texts of an image and of its duplicates, each text once, sorted by priority; drop the others."""
        known = {normalise(pair["text"]) for pair in image["pairs"]}
        kept = list(image["pairs"])
        stats.enter(PAIRS_STEP, len(kept))
        for copy in absorbed:
            misfit = _misfit(copy, image)
            stats.enter(PAIRS_STEP, len(copy["pairs"]))
            for pair in copy["pairs"]:
                reason = self._drop_reason(copy, image, normalise(pair["text"]) in known, misfit)
                if reason is None:
                    known.add(normalise(pair["text"]))
                    kept.append(pair)
                else:
                    stats.drop(PAIRS_STEP, reason)
                    drops.append(_drop(pair, copy["url"], reason, f"copy of {image['url']}"))
        if any(pair["text"] for pair in kept):
            for pair in (pair for pair in kept if not pair["text"]):
                stats.drop(PAIRS_STEP, SAME_TEXT)
                drops.append(_drop(pair, image["url"], SAME_TEXT, "without a text, beside others that have one"))
            kept = [pair for pair in kept if pair["text"]]
        stats.leave(PAIRS_STEP, len(kept))
        return sorted(kept, key=lambda pair: (pair["priority"], pair["pair_id"]))

    def _drop_reason(self, copy: Row, image: Row, same_text: bool, misfit: str | None) -> str | None:
        """Return why a text of a duplicate is dropped; None if the survivor gets it.

        Args:
            copy: the duplicate.
            image: its survivor.
            same_text: whether the survivor has the text.
            misfit: why texts of the duplicate may not fit the survivor; None if they do.
        """
        if copy["split"] != image["split"]:
            return COPY_OF_HELD_OUT
        if not self.merge_texts:
            return str(copy["reason"])
        return SAME_TEXT if same_text else misfit

    @staticmethod
    def _write(
        folder: Path, task: Task[ImagesFile], kept: pa.Table, drops: list[Row], excluded: list[Row]
    ) -> list[Path]:
        at = DedupPaths(folder)
        dropped = pa.Table.from_pylist(drops, schema=DROPS.arrow)
        tables = [(SURVIVORS, kept, at.survivors), (DROPS, dropped, at.drops)]
        if excluded:
            tables.append((EXCLUDED, pa.Table.from_pylist(excluded, schema=EXCLUDED.arrow), at.excluded))
        paths = []
        for schema, table, where in tables:
            path = where / f"{task.name}.parquet"
            schema.write(path, table)
            paths.append(path)
        return paths


def _misfit(copy: Row, image: Row) -> str | None:
    """Return why texts of a duplicate may not fit its survivor; None if they do."""
    descriptors = copy["fingerprint"], image["fingerprint"]
    if copy["reason"] != NEAR_DUPLICATE or may_share_texts(*descriptors):
        return None
    return NOT_SURELY_SAME if have_same_colours(*descriptors) else OTHER_COLOURS


def _as_survivors(images: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some images of a file as survivors without duplicates yet."""
    chosen = images.take(pa.array(rows))
    chosen = chosen.append_column("duplicates", pa.array(np.zeros(len(rows), np.int32)))
    return SURVIVORS.conform(chosen.append_column("source_row", pa.array(rows)))


def _drop(pair: Row, url: str, reason: str, detail: str) -> Row:
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": reason, "detail": detail}
