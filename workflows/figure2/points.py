"""Score the checkpoints of a run: zero-shot, retrieval where it is defined, a choice that all make."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.files import FOLDER, load_checkpoint
from openwit.training.checkpoints.load import load_model
from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.prompts import read_prompts
from openwit.training.evaluation.retrieval_report import evaluate_retrieval
from openwit.training.evaluation.zero_shot_report import evaluate_zero_shot
from openwit.training.evaluation.zero_shot_result import ZeroShotResult
from openwit.workflows.figure2.matching import measure
from openwit.workflows.figure2.settings import Experiment

METRICS = {
    "zero_shot": "zero-shot accuracy",
    "text_to_image": "recall@1, text to image",
    "image_to_text": "recall@1, image to text",
    "choice_text_to_image": "choice, image of a text",
    "choice_image_to_text": "choice, text of an image",
}
"""Metrics of a point, all of them shares."""


@dataclass(frozen=True)
class Subjects:
    """What checkpoints are scored on.

    Attributes:
        held_out: split for retrieval and the choice.
        labelled: images for zero-shot; None without.
        templates: of zero-shot.
        key: JSON data that differ whenever a score could.
    """

    held_out: ShardedDataset
    labelled: ClassificationSet | None
    templates: tuple[str, ...]
    key: dict[str, Any]


def open_subjects(experiment: Experiment, dataset: Path) -> Subjects:
    """Open the data once, before anything is trained.

    Raises:
        DataError: data or prompts are missing or not usable.
    """
    held_out = ShardedDataset(dataset, experiment.split)
    labelled, templates, checksum = None, tuple[str, ...](), ""
    if experiment.zero_shot is not None:
        templates = read_prompts(experiment.prompts)
        labelled = open_classification(LabelledData(experiment.zero_shot)).limited(experiment.zero_shot_limit)
        if labelled.truth is not None:
            raise DataError(
                f"the images of {experiment.zero_shot} have several classes: choose a set of one class each"
            )
        checksum = sha256_of(experiment.zero_shot) if experiment.zero_shot.is_file() else _names(labelled)
    key = {
        "held_out": [held_out.manifest_sha256, experiment.split, experiment.retrieval_limit, experiment.choice],
        "zero_shot": [checksum, experiment.zero_shot_limit, list(templates)],
    }
    return Subjects(held_out, labelled, templates, key)


def _names(labelled: ClassificationSet) -> str:
    return hashlib.sha256("\0".join(labelled.keys).encode()).hexdigest()


def chance_levels(experiment: Experiment, subjects: Subjects) -> dict[str, float]:
    """Return the chance level of each metric that is measured."""
    gallery = min(len(subjects.held_out), experiment.retrieval_limit or len(subjects.held_out))
    found = {"text_to_image": 1 / gallery, "image_to_text": 1 / gallery}
    if subjects.labelled is not None:
        found["zero_shot"] = 1 / len(subjects.labelled.classes)
    if experiment.choice:
        found |= dict.fromkeys(("choice_text_to_image", "choice_image_to_text"), 1 / experiment.choice)
    return found


def checkpoints_of(run: Path) -> list[Path]:
    """Return the checkpoints of a run, in order of step."""
    return sorted((run / FOLDER).glob("step-*.pt"))


def score_run(
    run: Path,
    folder: Path,
    experiment: Experiment,
    subjects: Subjects,
    *,
    seed: int,
    advance: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Score each checkpoint of a run that has no point yet; a point is one file, written whole.

    Args:
        run: folder of the run.
        folder: of the points.
        experiment: limits.
        subjects: what is scored on.
        seed: of the run.
        advance: receives a sentence per checkpoint that was scored.
    """
    points = []
    for path in checkpoints_of(run):
        target = folder / f"{run.name}-{path.stem}.json"
        key = {**subjects.key, "checkpoint": sha256_of(path)}
        found = _stored(target, key)
        if found is None:
            found = {"key": key, "seed": seed, **_score(path, experiment, subjects)}
            atomic_write(target, json.dumps(found, indent=1) + "\n")
            advance(f"{run.name}: {_sentence(found)}")
        points.append(found)
    return points


def _stored(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


def _score(path: Path, experiment: Experiment, subjects: Subjects) -> dict[str, Any]:
    model = load_model(path)
    assert model.checkpoint is not None
    metrics: dict[str, float] = {}
    if subjects.labelled is not None:
        result = evaluate_zero_shot(model, subjects.labelled, templates=subjects.templates)
        assert isinstance(result, ZeroShotResult)
        metrics["zero_shot"] = result.top1.value
    if model.embeds:
        recalls = evaluate_retrieval(model, subjects.held_out, limit=experiment.retrieval_limit).result
        for direction in ("text_to_image", "image_to_text"):
            metrics[direction] = recalls.at(direction, "strict", 1).value
    if experiment.choice:
        point = measure(path.stem, load_checkpoint(path), subjects.held_out, experiment.choice)
        metrics |= {"choice_text_to_image": point.text_to_image, "choice_image_to_text": point.image_to_text}
    return {"objective": model.objective_name, "samples": model.checkpoint.info.samples, "metrics": metrics}


def _sentence(point: dict[str, Any]) -> str:
    shown = ", ".join(f"{METRICS[name]} {100 * value:.1f}%" for name, value in point["metrics"].items())
    return f"{point['samples']:,} samples seen: {shown}"
