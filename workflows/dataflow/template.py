"""Start a build from Dataflow's flex template: a job of one step, whose worker runs `wit build`.

A template may submit one job and must not wait for it, and a build is many jobs, one after the other. So the job of
the template has one worker, which is the driver of the build: it submits the other jobs and waits for each. If the
worker is lost, Dataflow runs its step again, and the build resumes. Its service account needs the roles
`dataflow.developer` and `iam.serviceAccountUser`, besides those of a worker.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, WorkerOptions

_SAID = 2_000
# The driver waits most of the time.
_DRIVER = ("--num_workers=1", "--max_num_workers=1", "--machine_type=n2-standard-2")
_THREADS = "--number_of_worker_harness_threads=1"


@dataclass(frozen=True)
class Parameters:
    """What the template was started with; see metadata.json.

    Attributes:
        recipe, workdir, dataset: URLs.
        sets: overrides of settings, `STEP.KEY=VALUE`.
        flags: of Beam, for the jobs of the build.
    """

    recipe: str
    workdir: str
    dataset: str
    sets: tuple[str, ...]
    flags: tuple[str, ...]


def parse(arguments: Sequence[str]) -> tuple[Parameters, PipelineOptions]:
    """Read what the launcher passes: the parameters of the template, and Beam's options for its own job."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("recipe", "workdir", "worker_image"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("dataset", "sets", "beam_flags"):
        parser.add_argument(f"--{name}", default="")
    given, rest = parser.parse_known_args(list(arguments))
    options = PipelineOptions([*_DRIVER, _THREADS, f"--sdk_container_image={given.worker_image}", *rest])
    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    passed = {
        "project": cloud.project,
        "region": cloud.region,
        "temp_location": cloud.temp_location,
        "staging_location": cloud.staging_location,
        "service_account_email": cloud.service_account_email,
        "subnetwork": workers.subnetwork,
        "sdk_container_image": given.worker_image,
    }
    flags = [f"--{name}={value}" for name, value in passed.items() if value]
    sets, further = tuple(given.sets.split()), given.beam_flags.split()
    return Parameters(given.recipe, given.workdir, given.dataset, sets, (*flags, *further)), options


def command(parameters: Parameters, recipe: Path) -> list[str]:
    """Return the command of the build, with the recipe in a file."""
    words = ["build", str(recipe), "--workdir", parameters.workdir, "--runner", "dataflow"]
    if parameters.dataset:
        words += ["--dataset", parameters.dataset]
    for override in parameters.sets:
        words += ["--set", override]
    return [*words, "--", *parameters.flags]


class RunBuild(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """Parameters -> nothing, once the build is complete."""

    # Beam checks annotations at run time.
    def process(self, parameters: Any) -> Iterator[None]:
        from openwit.schemas.common.storage import as_path

        with tempfile.TemporaryDirectory() as folder:
            recipe = Path(folder, "recipe.yaml")
            recipe.write_bytes(as_path(parameters.recipe).read_bytes())
            words = [sys.executable, "-m", "openwit.pipeline", *command(parameters, recipe)]
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(done.stdout[-_SAID:], flush=True)
        if done.returncode:
            raise RuntimeError(f"wit build ended with {done.returncode}: {done.stdout[-_SAID:]}")
        yield None


def main(arguments: Sequence[str] | None = None) -> None:
    """Submit the job of the template; its launcher must not wait for the end."""
    parameters, options = parse(sys.argv[1:] if arguments is None else arguments)
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Recipe" >> beam.Create([parameters], reshuffle=False) | "Build" >> beam.ParDo(RunBuild())
    pipeline.run()


if __name__ == "__main__":
    main()
