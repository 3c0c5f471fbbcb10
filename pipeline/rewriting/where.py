"""Apply conditions and lists of uids to images that are not in a dataset yet."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.column_types import columns_of, type_named
from openwit.pipeline.dataset.sample import sample_rows
from openwit.pipeline.execution.files import checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.rewriting.conditions import parse_conditions
from openwit.pipeline.rewriting.selector import Selector, prepare_keep_list
from openwit.pipeline.rewriting.settings import WhereSettings
from openwit.pipeline.stages.base import Upstream
from openwit.pipeline.stages.sidecars import copy_examples, copy_query_counts
from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.samples import samples_with


@dataclass(frozen=True)
class SurvivorsFile:
    """A file of SURVIVORS."""

    path: str


class KeepWhere(FileTask[SurvivorsFile]):
    """Write the images of a file that are kept, and the drops."""

    def __init__(self, settings: WhereSettings, types: dict[str, str], step: str, keep: Path | None) -> None:
        self.settings = settings
        self.types = types
        self.step = step
        self.keep = keep

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_selector"}

    @cached_property
    def _selector(self) -> Selector:
        return Selector(self.settings, self.keep)

    def run(self, task: Task[SurvivorsFile], folder: Path, stats: TaskStats) -> list[Path]:
        images = SURVIVORS.read(checked(Path(task.payload.path)))
        found: list[tuple[str, str | None] | None] = [None] * images.num_rows
        splits = np.array(images.column("split").to_pylist(), object)
        for split in sorted(set(splits)):
            rows = np.flatnonzero(splits == split)
            samples = sample_rows(["" for _ in rows], images.take(pa.array(rows)), self.types)
            for row, why in zip(rows.tolist(), self._selector.verdicts(samples, split)[0], strict=True):
                found[row] = why
        stays = pa.array([why is None for why in found], pa.bool_())
        kept = images.filter(stays)
        lines = (f"{self.step}/images", f"{self.step}/pairs")
        drops = []
        stats.enter(lines[0], images.num_rows)
        stats.enter(lines[1], _pairs(images))
        stats.leave(lines[0], kept.num_rows)
        stats.leave(lines[1], _pairs(kept))
        gone = images.select(["url", "pairs"]).filter(pc.invert(stays)).to_pylist()
        for image, (reason, detail) in zip(gone, [why for why in found if why is not None], strict=True):
            stats.drop(lines[0], str(reason))
            stats.drop(lines[1], str(reason), len(image["pairs"]))
            for pair in image["pairs"]:
                about = {"url": image["url"], "text": pair["text"], "reason": str(reason), "detail": detail}
                drops.append({"pair_id": pair["pair_id"], **about})
        paths = [folder / where / f"{task.name}.parquet" for where in ("survivors", "drops")]
        SURVIVORS.write(paths[0], kept)
        DROPS.write(paths[1], pa.Table.from_pylist(drops, schema=DROPS.arrow))
        return paths


def _pairs(images: pa.Table) -> int:
    return int(pc.sum(pc.list_value_length(images.column("pairs"))).as_py() or 0)


def keep_where(job: Job, settings: WhereSettings, survivors: Upstream, folder: Path, step: str) -> StageResult:
    """Keep images; see `openwit.pipeline.rewriting.stages.Where`.

    Raises:
        RecipeError: a condition names a column that there is not.
        DataError: no image is left.
    """
    upstream = survivors.stage_manifest()
    history = [*upstream.history, upstream.record()]
    types = columns_of((record.step_name(), record.extra) for record in history)
    schema = samples_with((name, type_named(kind)) for name, kind in types.items()).arrow
    for condition in parse_conditions(settings.where):
        condition.check({field.name: field.type for field in schema})
    keep = prepare_keep_list(settings, folder)
    files = upstream.paths(survivors.folder, "survivors")
    tasks = [Task(n, path.stem, SurvivorsFile(str(path))) for n, path in enumerate(files)]
    results = job.run(folder, tasks, "Keep images", "images", KeepWhere(settings, types, step, keep))
    result = StageResult()
    result.add_results(results, [f"{step}/images", f"{step}/pairs"])
    result.files += [*copy_query_counts(survivors.folder, folder), *copy_examples(survivors.folder, folder)]
    images = survivors.folder / upstream.extra["images"]
    result.extra["images"] = os.path.relpath(images, folder)
    if not result.funnel[0].rows_out:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in result.funnel[0].reasons.items())
        raise DataError(f"no image is left: {reasons}")
    return result
