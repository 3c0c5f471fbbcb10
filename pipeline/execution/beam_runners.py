"""Name Beam's runners, and set the flags that a build needs and its user did not give."""

import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineRunner

from openwit.pipeline.execution.dataflow_workers import flags_of_stage
from openwit.schemas.common.errors import RecipeError, one_line

RUNNERS: dict[str, str] = {
    "beam": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "portable": "PortableRunner",
    "prism": "apache_beam.runners.portability.prism_runner.PrismRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
"""Short names of runners that a build was written for."""
BOOT = "wit-beam-worker"
"""Program that starts a worker of a PROCESS environment; see `openwit.pipeline.execution.beam_pool`."""

_REFUSED = {
    "directrunner": "it downloads a program first: use --runner beam",
    "switchingdirectrunner": "it downloads a program first: use --runner beam",
    "daskrunner": "it loses rows silently: use --runner ray",
}


def runner_class(name: str) -> str:
    """Return the name by which Beam finds a runner: of a short name, of a name of Beam's, or of a class.

    Raises:
        RecipeError: there is no such runner, or builds on it lose rows.
    """
    if name in RUNNERS:
        return RUNNERS[name]
    last = name.rpartition(".")[2].lower()
    for refused, why in _REFUSED.items():
        if last in (refused, refused.removesuffix("runner")):
            raise RecipeError(f"--runner {name}: {why}")
    known = {path.rpartition(".")[2].lower(): path for path in StandardOptions.ALL_KNOWN_RUNNERS}
    path = known.get(last, known.get(f"{last}runner", name)) if "." not in name else name
    module, _, cls = path.rpartition(".")
    if not module:
        raise RecipeError(
            f"unknown runner {name!r}; known: local, ray, {', '.join(RUNNERS)}, a runner of Beam's by name "
            "(RenderRunner), or the class of one (package.module.Class)"
        )
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"--runner {name}: {path} cannot be imported ({one_line(error)})") from None
    if not (isinstance(found, type) and issubclass(found, PipelineRunner)):
        raise RecipeError(f"--runner {name}: {path} is no runner of Beam")
    return path


def portable_class(name: str) -> type[Any] | None:
    """Return the class of a runner that sends jobs to a job service; None for another."""
    if name in ("beam", "dataflow"):
        return None
    path = runner_class(name)
    path = {known.rpartition(".")[2]: known for known in StandardOptions.ALL_KNOWN_RUNNERS}.get(path, path)
    module, _, last = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), last)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) and issubclass(found, PortableRunner) else None


def default_flags(name: str, flags: Sequence[str]) -> list[str]:
    """Return flags for every job of a runner, apart from those that the user gave.

    Nothing is staged, because workers have OpenWIT installed, so no job runs `pip freeze` or asks a package index.
    """
    if name == "beam":
        return []
    made = ["--experiments=disable_logging_submission_environment"]
    given = PipelineOptions(list(flags)).view_as(PortableOptions)
    if given.environment_type == "PROCESS" and not given.environment_config and not given.environment_options:
        command = os.path.join(os.path.dirname(sys.executable), BOOT)
        made.append(f"--environment_config={json.dumps({'command': command})}")
    return made


def job_flags(name: str, flags: Sequence[str], label: str, work: object) -> list[str]:
    """Return flags for one job, apart from those that the user gave: its name, and Dataflow's workers by stage.

    Args:
        name: of the runner.
        flags: of the user.
        label: of the job.
        work: what its tasks run; its module tells the stage.
    """
    if name != "dataflow" or not label:
        return []
    stage = stage_of(work)
    given = {flag.partition("=")[0] for flag in flags}
    slug = re.sub(r"[^a-z0-9]+", "-", f"openwit-{stage}-{label}".lower()).strip("-")[:60].rstrip("-")
    return [
        flag for flag in (f"--job_name={slug}", *flags_of_stage(stage)) if not given & _aliases(flag.partition("=")[0])
    ]


def stage_of(work: object) -> str:
    """Return the name of the stage that defines what a job runs; empty for one from elsewhere."""
    found = re.match(r"openwit\.pipeline\.stages\.([a-z]+)(\.|$)", type(work).__module__)
    return found.group(1) if found else ""


def _aliases(flag: str) -> set[str]:
    """Return the names of a flag: its own, and another that means the same."""
    return {flag, "--worker_machine_type"} if flag == "--machine_type" else {flag}
