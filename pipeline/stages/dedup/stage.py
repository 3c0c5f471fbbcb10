"""Dedup: images that are copies of each other or of evaluation images, or that say nothing; the best copy stays.

The image bytes stay where fetch wrote them; what crosses a shuffle are keys.
"""

import os
import shutil
from pathlib import Path

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.stages.base import Inputs
from openwit.pipeline.stages.dedup.evaluation import prepare_evaluation, summarise
from openwit.pipeline.stages.dedup.examples import write_examples
from openwit.pipeline.stages.dedup.find_pass import ImagesFile, find_copies
from openwit.pipeline.stages.dedup.keep import (
    HANDED,
    IMAGES_STEP,
    PAIRS_STEP,
    HandOver,
    Keeping,
    KeepSurvivors,
    taken_by,
)
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.sidecars import carry_query_counts
from openwit.schemas.common.errors import OpenWITError


def removal_identity(settings: DedupSettings) -> dict[str, str]:
    """Identity of the removal list that the settings name."""
    return {} if settings.remove is None else {"remove": load_removal_list(Path(settings.remove)).sha256}


def deduplicate(job: Job, settings: DedupSettings, inputs: Inputs, folder: Path) -> StageResult:
    """Writes the images that are kept, with their texts, and the drops with their reasons."""
    fetched, upstream = inputs.one("images").folder, inputs.one("images").stage_manifest()
    result = StageResult()
    files = upstream.paths(fetched, "images")
    tasks = [Task(n, path.stem, ImagesFile(str(path))) for n, path in enumerate(files)]
    evaluation = prepare_evaluation(job, settings, upstream, folder, result)
    find_copies(job, settings, tasks, folder, evaluation)
    giving = [Task(task.number, f"hand-{task.name}", task.payload) for task in tasks]
    handed = job.run(folder, giving, "Hand over texts", "images", HandOver())
    taken = taken_by(folder, handed)
    keeping = [Task(t.number, t.name, Keeping(t.payload.images, tuple(taken.get(t.number, ())))) for t in tasks]
    results = job.run(folder, keeping, "Keep survivors", "images", KeepSurvivors(settings.merge_texts))
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    result.files += carry_query_counts(fetched, folder)
    result.files += write_examples(folder, files, results)
    if evaluation is not None:
        summarise([folder / f.path for f in result.files if f.path.startswith("excluded/")], result)
    # The path is relative, so that a build can be moved whole.
    result.extra["images"] = os.path.relpath(fetched, folder)
    shutil.rmtree(folder / HANDED, ignore_errors=True)
    if next(step for step in result.funnel if step.unit == "images").rows_out == 0:
        raise OpenWITError(f"no image is left of {fetched}: see the drops there and in {folder} for the reasons")
    return result
