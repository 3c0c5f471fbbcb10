"""Dedup: keep the best image of each group of duplicates; drop evaluation images and images of one colour.

The image bytes are not copied; only keys cross a shuffle.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.stages.base import Inputs
from openwit.pipeline.stages.dedup.evaluation import prepare_evaluation, summarise
from openwit.pipeline.stages.dedup.examples import write_examples
from openwit.pipeline.stages.dedup.find_pass import ImagesFile, find_copies
from openwit.pipeline.stages.dedup.keep import (
    IMAGES_STEP,
    PAIRS_STEP,
    TRANSFERS,
    KeepSurvivors,
    TransferTexts,
    transfer_tasks,
)
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.sidecars import copy_query_counts
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.manifest import FunnelStep

_REASONS_NAMED = 3


def removal_identity(settings: DedupSettings) -> dict[str, str]:
    """Return the identity of the removal list that the settings name."""
    return {} if settings.remove is None else {"remove": load_removal_list(Path(settings.remove)).sha256}


def is_judging(settings: DedupSettings) -> bool:
    """Return whether any image may be dropped, so that the images must be looked at."""
    alone = settings.exclude or settings.remove is not None or settings.plain == "drop"
    return settings.duplicates == "drop" or bool(alone)


def deduplicate(job: Job, settings: DedupSettings, inputs: Inputs, folder: Path) -> StageResult:
    """Write the kept images with their texts, and the drops with their reasons.

    Raises:
        DataError: no image is kept, or an evaluation image or the removal list cannot be read.
    """
    fetched, upstream = inputs.one("images").folder, inputs.one("images").stage_manifest()
    result = StageResult()
    files = upstream.paths(fetched, "images")
    tasks = [Task(n, path.stem, ImagesFile(str(path))) for n, path in enumerate(files)]
    evaluation = prepare_evaluation(job, settings, upstream, folder, result)
    judged = is_judging(settings)
    if judged:
        find_copies(job, settings, tasks, folder, evaluation)
    giving = transfer_tasks(files) if settings.duplicates == "drop" else []
    if giving:
        job.run(folder, giving, "Transfer texts", "files", TransferTexts(len(files)))
    keep = KeepSurvivors(settings.merge_texts, [task.name for task in giving], judged=judged)
    results = job.run(folder, tasks, "Keep survivors", "images", keep)
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    result.files += copy_query_counts(fetched, folder)
    result.files += write_examples(folder, files, results)
    if evaluation is not None:
        summarise([folder / f.path for f in result.files if f.path.startswith("excluded/")], result)
    # A relative path, so that a build can be moved as a whole.
    result.extra["images"] = os.path.relpath(fetched, folder)
    remove_tree(folder / TRANSFERS)
    if next(step for step in result.funnel if step.unit == "images").rows_out == 0:
        reasons = _reasons([*upstream.funnel, *result.funnel])
        raise DataError(f"no image of {fetched} is kept{reasons}: see the drop reasons there and in {folder}")
    return result


def _reasons(funnel: Sequence[FunnelStep]) -> str:
    """Return why images were dropped, the most frequent reasons first, in brackets; empty if none was."""
    dropped = Counter[str]()
    for step in funnel:
        if step.unit == "images":
            dropped.update(step.reasons)
    worst = ", ".join(f"{reason} {n:,}" for reason, n in dropped.most_common(_REASONS_NAMED))
    return f" ({worst})" if worst else ""
