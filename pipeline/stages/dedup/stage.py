"""Dedup: images that are copies of each other or of evaluation images, or that say nothing; the best copy stays.

The image bytes stay where fetch wrote them; what crosses a shuffle are keys.
"""

import os
import shutil
from pathlib import Path

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult, run_stage, stage_input
from openwit.pipeline.stages.dedup.evaluation import evaluation_inputs, prepare_evaluation, summarise
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

NAME = "dedup"
VERSION = 3


def run(job: Job, settings: DedupSettings, fetched: Path, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished fetch folder."""
    upstream = StageManifest.load(fetched, "fetch")
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        {"fetch": stage_input(fetched), **evaluation_inputs(settings), **_removal_inputs(settings)},
        lambda: _execute(job, settings, upstream, fetched, folder),
        [upstream],
    )


def _removal_inputs(settings: DedupSettings) -> dict[str, str]:
    return {} if settings.remove is None else {"remove": load_removal_list(Path(settings.remove)).sha256}


def _execute(job: Job, settings: DedupSettings, upstream: StageManifest, fetched: Path, folder: Path) -> StageResult:
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
