"""Dedup, before the other passes: find duplicates of evaluation images, which no image of the dataset may be."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.decontamination.files import EvaluationPiece, list_pieces
from openwit.pipeline.decontamination.images import EVALUATION_IMAGES, EVALUATION_REASONS, HASHED, IMAGES, hash_piece
from openwit.pipeline.decontamination.index import EvaluationIndex, Nearest
from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats, counting
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult, file_inputs
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.stages.dedup import EVALUATION_UNIT, DedupPaths
from openwit.pipeline.stages.dedup.reasons import EVALUATION_IMAGE
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.images import COPIES

STEP = f"dedup/{EVALUATION_UNIT}"
SAME_BYTES, SAME_PIXELS = "same_bytes", "same_pixels"


class EvaluationLookup:
    """Find duplicates of evaluation images; the index is built at its first use, once per worker.

    Args:
        paths: files of EVALUATION_IMAGES, in order.
        max_distance: bits in which the hashes may differ.
    """

    def __init__(self, paths: Sequence[str], max_distance: int) -> None:
        self._paths = tuple(paths)
        self._max_distance = max_distance

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_max_distance": self._max_distance}

    @cached_property
    def _table(self) -> pa.Table:
        return pa.concat_tables(EVALUATION_IMAGES.read(Path(path)) for path in self._paths).combine_chunks()

    @cached_property
    def _index(self) -> EvaluationIndex:
        return EvaluationIndex(self._table, self._max_distance)

    def verdicts(self, images: pa.Table) -> pa.Table:
        """Return COPIES of the images that are duplicates of evaluation images."""
        found = self._nearest(images)
        rows = np.flatnonzero(found.rows >= 0)
        named = self._table.select(["file", "member"]).take(pa.array(found.rows[rows])).to_pylist()
        return COPIES.table(
            {
                "row": rows,
                "reason": [EVALUATION_IMAGE] * len(rows),
                "distance": found.distances[rows],
                "evaluation_image": [" ".join(filter(None, (name["file"], name["member"]))) for name in named],
                "variant": [found.variants[row] for row in rows],
                **dict.fromkeys(("other_file", "other_row"), [None] * len(rows)),
            }
        )

    def _nearest(self, images: pa.Table) -> Nearest:
        found = self._index.lookup(images.column("phash").to_numpy())
        # Equal bytes are stronger evidence than equal hashes, and the only evidence where many images share a hash.
        for column, name in (("pixels_hash", SAME_PIXELS), ("sha256", SAME_BYTES)):
            same = self._index.lookup_checksums(images.column(column).to_pylist(), column)
            for at in np.flatnonzero(same >= 0):
                found.rows[at], found.distances[at], found.variants[at] = same[at], 0, name
        return found


class HashEvaluationImages(FileTask[EvaluationPiece]):
    """Hash one piece of the evaluation images."""

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings

    def run(self, task: Task[EvaluationPiece], folder: Path, stats: TaskStats) -> list[Path]:
        target = DedupPaths(folder).evaluation / f"{task.name}.parquet"
        stats.enter(STEP, 0)
        count = counting(stats, STEP, IMAGES, EVALUATION_REASONS, left=HASHED)
        EVALUATION_IMAGES.write(target, hash_piece(task.payload, self.settings, count=count))
        return [target]


def evaluation_inputs(settings: DedupSettings) -> dict[str, str]:
    """Return the identity of the evaluation images, as an input of the stage."""
    if not settings.exclude:
        return {}
    paths = [path for piece in list_pieces(settings.exclude) for path in piece.paths]
    listed = "\n".join(f"{name} {identity}" for name, identity in file_inputs(paths).items())
    return {"exclude": hashlib.sha256(listed.encode()).hexdigest()}


def prepare_evaluation(
    job: Job, settings: DedupSettings, upstream: StageManifest, folder: Path, result: StageResult
) -> EvaluationLookup | None:
    """Hash the evaluation images; return None if nothing is to be excluded.

    Raises:
        DataError: a source does not exist, or holds no readable image.
    """
    if not settings.exclude:
        return None
    fetched = upstream.find("fetch")
    image = ImageSettings.model_validate(fetched.settings.get("image", {}) if fetched else {})
    hashing = [Task(n, f"evaluation-{n:05d}", piece) for n, piece in enumerate(list_pieces(settings.exclude))]
    results = job.run(folder, hashing, "Hash evaluation images", "images", HashEvaluationImages(image))
    result.add_results(results, [STEP])
    if result.funnel[-1].rows_out == 0:
        raise DataError(f"no image could be read in what is to be excluded: {', '.join(settings.exclude)}")
    paths = [str(folder / entry.path) for task in results for entry in task.files]
    return EvaluationLookup(paths, settings.exclude_distance)


def summarise(excluded: Sequence[Path], result: StageResult) -> None:
    """Count how many images were dropped as duplicates of how many evaluation images, and by which variant."""
    variants: Counter[str] = Counter()
    names: set[str] = set()
    for path in excluded:
        table = read_columns(path, ["evaluation_image", "variant"])
        names.update(table.column("evaluation_image").to_pylist())
        variants.update(table.column("variant").to_pylist())
    result.extra["excluded"] = {
        "images": variants.total(),
        "evaluation_images": len(names),
        "by_variant": dict(sorted(variants.items())),
    }
