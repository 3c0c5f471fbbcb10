"""Look for what a Beam runner starts or reaches, before a job: each missing part is one sentence within seconds.

Beam itself prints a traceback after half a minute of downloads, or waits for ever for a worker that does not come.
"""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
)
from apache_beam.utils.subprocess_server import JavaJarServer

from openwit.pipeline.execution.addresses import connect
from openwit.pipeline.execution.beam_environment import environment_faults, pool_of
from openwit.schemas.common.errors import NetworkError, RecipeError, one_line

ANSWER_SECONDS = 5.0
_JARS = {"flink": "--flink_job_server_jar", "spark": "--spark_job_server_jar"}
_IN_CLOUD = ("project", "region", "temp_location")


def check_parts(runner: str, flags: Sequence[str], *, has_job_service: bool) -> None:
    """Check that the parts of a runner are there.

    Args:
        runner: short name.
        flags: Beam's flags.
        has_job_service: the flags name a running job service, so that nothing needs to be started for it.

    Raises:
        RecipeError: a program, a file or a flag is missing.
        NetworkError: a worker pool does not answer, or the job server cannot be fetched.
    """
    options = PipelineOptions(list(flags))
    if runner == "dataflow":
        _check_dataflow(flags)
        return
    for sentence in missing_flags(runner, flags):
        raise RecipeError(sentence)
    _check_worker_pool(options)
    if has_job_service:
        return
    if runner == "prism":
        _check_prism(options)
    if runner in _JARS:
        _check_job_server(runner, options)


def prism_flags(flags: Sequence[str]) -> list[str]:
    """Return the flag for the `prism` on the PATH, unless the flags name one; none if there is none."""
    if PipelineOptions(list(flags)).view_as(PrismRunnerOptions).prism_location:
        return []
    found = shutil.which("prism")
    return [] if found is None else [f"--prism_location={found}"]


def missing_flags(runner: str, flags: Sequence[str]) -> list[str]:
    """Return a sentence for what a runner cannot do without and the flags do not give; nothing is asked of others."""
    if runner == "dataflow":
        options = PipelineOptions(list(flags))
        given = options.view_as(GoogleCloudOptions)
        missing = [f"--{name}" for name in _IN_CLOUD if not getattr(given, name)]
        found = [f"--runner dataflow needs {', '.join(missing)} after --: see docs/dataflow.md"] if missing else []
        if given.temp_location and not given.temp_location.startswith("gs://"):
            found.append(f"--temp_location={given.temp_location}: must be a folder of Google's store (gs://BUCKET/…)")
        return found
    return environment_faults(runner, flags)


def _check_dataflow(flags: Sequence[str]) -> None:
    for sentence in missing_flags("dataflow", flags):
        raise RecipeError(sentence)
    try:
        import google.auth  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from google.auth.exceptions import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            DefaultCredentialsError,
        )
    except ImportError:
        raise RecipeError("--runner dataflow needs packages that are missing: pip install 'openwit[gcp]'") from None
    try:
        google.auth.default()
    except DefaultCredentialsError:
        raise RecipeError(
            "--runner dataflow finds no credentials of Google Cloud: run gcloud auth application-default login"
        ) from None


def _check_worker_pool(options: PipelineOptions) -> None:
    """Connect to the worker pool of an EXTERNAL environment: without one, a job waits for ever."""
    given = options.view_as(PortableOptions)
    found = pool_of(given)
    if given.environment_type != "EXTERNAL" or found is None:
        return
    try:
        connect(*found, seconds=ANSWER_SECONDS)
    except OSError as error:
        raise NetworkError(
            f"--environment_config={given.environment_config}: no worker pool answers ({one_line(error)}): "
            "start one with wit workers --port PORT"
        ) from None


def _check_prism(options: PipelineOptions) -> None:
    location = options.view_as(PrismRunnerOptions).prism_location
    if not location:
        raise RecipeError(
            "--runner prism finds no prism on the PATH: put Beam's binary there, or give "
            "--prism_location=FILE after --"
        )
    if "://" not in location and not os.access(location, os.X_OK):
        raise RecipeError(f"--prism_location={location}: there is no program of this name")


def _check_job_server(runner: str, options: PipelineOptions) -> None:
    """Check for Java and for the job server, which Beam starts from a jar file."""
    if runner == "flink" and "[" not in options.view_as(FlinkRunnerOptions).flink_master and _is_uber_jar(options):
        return
    if shutil.which("java") is None:
        raise RecipeError(
            f"--runner {runner} starts Beam's job server, which needs java on the PATH: install a Java 11 or newer, "
            "or give --cluster and --job_endpoint of a running one"
        )
    try:
        jar = _server(runner, options).path_to_jar()
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"--runner {runner}: {one_line(error, 300)}") from None
    name = os.path.basename(jar)
    if "://" not in jar:
        return
    if os.path.exists(os.path.join(JavaJarServer.JAR_CACHE, name)):
        return
    try:
        request = urllib.request.Request(jar, method="HEAD")
        urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
    except (urllib.error.URLError, OSError) as error:
        raise NetworkError(
            f"--runner {runner}: {name} cannot be fetched ({one_line(error)}): download it from Maven Central and "
            f"give {_JARS[runner]}=FILE after --, or --job_endpoint=HOST:PORT of a running job server"
        ) from None


def _is_uber_jar(options: PipelineOptions) -> bool:
    return bool(options.view_as(FlinkRunnerOptions).flink_submit_uber_jar)


def _server(runner: str, options: PipelineOptions) -> Any:
    if runner == "flink":
        from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

        return FlinkJarJobServer(options)
    from apache_beam.runners.portability.spark_runner import SparkJarJobServer

    return SparkJarJobServer(options)
