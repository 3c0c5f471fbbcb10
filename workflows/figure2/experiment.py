"""Run the experiment: train each objective with each seed, score every checkpoint; run again to go on."""

import datetime
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.cli.display import make_display
from openwit.training.config import TrainConfig
from openwit.training.run.loop import fit
from openwit.training.tokenizer.training import learn_tokenizer
from openwit.workflows.figure2.points import METRICS, chance_levels, checkpoints_of, open_subjects, score_run
from openwit.workflows.figure2.settings import Experiment

RECORD = "figure2.json"
POINTS = "points"
RUNS = "runs"


def run_experiment(experiment: Experiment, configs: Mapping[str, TrainConfig], console: Console) -> int:
    """Train and score what is missing; return 0, or 128 + the signal that stopped a training.

    Every part is resumed: trainings from their checkpoints, points by their files. Seeds are the outer loop, so that
    an experiment that is stopped early has whole seeds.

    Raises:
        RecipeError: settings that cannot be used, or a folder of another experiment.
        DataError: data are missing or damaged.
    """
    first = next(iter(configs.values()))
    if first.data.dataset is None:
        raise RecipeError("the configurations must name data.dataset")
    subjects = open_subjects(experiment, Path(first.data.dataset))
    out = experiment.out
    record = _begin(out, experiment, configs)
    tokenizer = _vocabulary(experiment, Path(first.data.dataset), out)
    names = [(seed, objective) for seed in experiment.seeds for objective in configs]
    for number, (seed, objective) in enumerate(names):
        config = _config_of(configs[objective], out / RUNS / f"{objective}-{seed}", seed, tokenizer)
        console.print(f"[{number + 1}/{len(names)}] {objective}, seed {seed}", markup=False)
        begun = time.perf_counter()
        display = make_display(console, config.log.line_seconds)
        try:
            outcome = fit(config, display=display)
        finally:
            display.close()
        if outcome.signal is not None:
            return 128 + outcome.signal
        trained = time.perf_counter()
        score_run(
            Path(config.run),
            out / POINTS,
            experiment,
            subjects,
            seed=seed,
            advance=lambda line: console.print(line, markup=False, soft_wrap=True),
        )
        if outcome.status != "already finished" or f"{objective}-{seed}" not in record["seconds"]:
            seconds = {"train": trained - begun, "score": time.perf_counter() - trained}
            record["seconds"][f"{objective}-{seed}"] = seconds
            _save(out, record)
    sizes = {
        "held_out": len(subjects.held_out),
        "labelled": 0 if subjects.labelled is None else len(subjects.labelled),
    }
    labelled = "" if subjects.labelled is None else subjects.labelled.title
    record |= {
        "chance": chance_levels(experiment, subjects),
        "sizes": sizes,
        "data": {"held_out": f"{subjects.held_out.name}/{subjects.held_out.split}", "labelled": labelled},
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
        "finished": True,
    }
    _save(out, record)
    console.print(f"finished: {out}; fill a page with: python -m openwit.workflows.figure2 report PAGE --out {out}")
    return 0


def _begin(out: Path, experiment: Experiment, configs: Mapping[str, TrainConfig]) -> dict[str, Any]:
    """Return the record of a run begun before, or a new one.

    Raises:
        RecipeError: the folder belongs to other settings.
    """
    settings = {
        "experiment": experiment.model_dump(mode="json", exclude={"out"}),
        "configurations": {name: config.model_dump(mode="json") for name, config in configs.items()},
    }
    path = out / RECORD
    if path.exists():
        record = read_record(out)
        if record["settings"] != settings:
            raise RecipeError(f"{out} holds an experiment of other settings: give another out")
        return {**record, "finished": False}
    record = {
        "settings": settings,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seconds": {},
        "finished": False,
    }
    (out / POINTS).mkdir(parents=True, exist_ok=True)
    _save(out, record)
    return record


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of an experiment.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{out} holds no experiment ({error}): make one with `python -m openwit.workflows.figure2 run`"
        ) from error
    if not isinstance(record, dict) or not {"settings", "seconds", "finished"} <= set(record):
        raise DataError(f"{out / RECORD} is no record of this experiment")
    return record


def read_points(out: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of a finished experiment, by objective in the order of its settings.

    Raises:
        DataError: it is not finished, or a point is missing.
    """
    if not record["finished"]:
        raise DataError(f"{out} is not finished: go on with `python -m openwit.workflows.figure2 run`")
    points: list[dict[str, Any]] = []
    for objective in record["settings"]["configurations"]:
        for seed in record["settings"]["experiment"]["seeds"]:
            run = out / RUNS / f"{objective}-{seed}"
            paths = [out / POINTS / f"{run.name}-{path.stem}.json" for path in checkpoints_of(run)]
            paths = paths or sorted((out / POINTS).glob(f"{run.name}-step-*.json"))
            try:
                points += [json.loads(path.read_text()) for path in paths]
            except (OSError, ValueError) as error:
                raise DataError(f"a point of {run.name} cannot be read ({error}): run the experiment again") from error
            if not paths:
                raise DataError(f"{out} holds no point of {run.name}: run the experiment again")
    if any(name not in METRICS for point in points for name in point["metrics"]):
        raise DataError(f"{out} holds points of another version: run the experiment in a new folder")
    return points


def _save(out: Path, record: Mapping[str, Any]) -> None:
    atomic_write(out / RECORD, json.dumps(record, indent=1) + "\n")


def _vocabulary(experiment: Experiment, dataset: Path, out: Path) -> Path | None:
    if experiment.vocabulary is None:
        return None
    path = out / "merges.txt"
    if not path.exists():
        learn_tokenizer(dataset, split="train", vocabulary=experiment.vocabulary, out=path)
    return path


def _config_of(config: TrainConfig, run: Path, seed: int, tokenizer: Path | None) -> TrainConfig:
    """Return the training of a seed, checked anew as the vocabulary follows from the tokenizer."""
    raw = config.model_dump(mode="json")
    raw |= {"run": str(run), "seed": seed}
    if tokenizer is not None:
        raw["model"] |= {"tokenizer": str(tokenizer), "vocabulary": None}
    return parse_settings(raw, TrainConfig, str(run))
