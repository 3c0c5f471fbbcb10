"""Look at where a portable runner runs its workers, and at the job service that it starts, before a job."""

import shutil
from collections.abc import Sequence
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions, SetupOptions
from apache_beam.runners.portability.job_server import JavaJarJobServer
from apache_beam.runners.portability.portable_runner import PortableRunner

from openwit.pipeline.execution.addresses import host_port, is_here
from openwit.pipeline.execution.beam_runners import RUNNERS, portable_class
from openwit.schemas.common.errors import one_line

_CHOICES = (
    "give --environment_type=EXTERNAL with --environment_config=HOST:PORT of wit workers, LOOPBACK, or DOCKER with "
    "--environment_config=IMAGE that has OpenWIT"
)
_EMBEDDED = "embed"


def environment_faults(runner: str, flags: Sequence[str]) -> list[str]:
    """Return a sentence for each thing without which a portable runner cannot run workers or a job service.

    Args:
        runner: short name.
        flags: Beam's flags.
    """
    cls = portable_class(runner)
    if cls is None:
        return []
    options = PipelineOptions(list(flags))
    given = options.view_as(PortableOptions)
    found = [] if given.job_endpoint else _without_job_service(runner, cls, options)
    kind = given.environment_type or _default_environment(cls)
    if kind == "EXTERNAL" and pool_of(given) is None:
        found.append("--environment_type=EXTERNAL needs --environment_config=HOST:PORT of a worker pool")
    if kind in ("DOCKER", "beam:env:docker:v1"):
        found += _docker_faults(runner, options)
    return found


def pool_of(given: Any) -> tuple[str, int] | None:
    """Return the address of the worker pool that the flags name; None if they name none."""
    return host_port(str(given.environment_config or ""))


def _default_environment(cls: type[Any]) -> str:
    """Return where a runner runs workers if no flag says: Beam's own, or what its class sets instead."""
    return "DOCKER" if cls.default_environment is PortableRunner.default_environment else "LOOPBACK"


def _docker_faults(runner: str, options: PipelineOptions) -> list[str]:
    given = options.view_as(PortableOptions)
    image = given.lookup_environment_option("docker_container_image") or given.environment_config
    if not image and not options.view_as(SetupOptions).prebuild_sdk_container_engine:
        said = "" if given.environment_type else ", which Beam chooses if no flag says where they run,"
        return [f"--runner {runner}: Beam's image for workers in DOCKER{said} has no OpenWIT in it: {_CHOICES}"]
    if _runs_here(runner, options) and shutil.which("docker") is None:
        return [f"--runner {runner}: --environment_type=DOCKER needs docker on the PATH: install it, or {_CHOICES}"]
    return []


def _runs_here(runner: str, options: PipelineOptions) -> bool:
    """Return whether workers are surely started on this machine; others may have Docker where this has none."""
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint:
        return endpoint == _EMBEDDED or (runner == "portable" and is_here(endpoint))
    if runner == "flink":
        return bool(options.view_as(FlinkRunnerOptions).flink_master.startswith("["))
    return runner == "prism"


def _without_job_service(runner: str, cls: type[Any], options: PipelineOptions) -> list[str]:
    """Ask a runner for the job service that it starts itself; those of short names are looked at elsewhere."""
    if runner == "portable":
        return ["--runner portable needs --cluster HOST:PORT of a job service"]
    if runner in RUNNERS:
        return []
    remedy = "give --job_endpoint=HOST:PORT of a running job service after --"
    try:
        server = cls().default_job_server(options)
        server = getattr(server, "_job_server", server)
        if isinstance(server, JavaJarJobServer):
            server.path_to_jar()
    except Exception as error:
        return [f"--runner {runner}: {one_line(error).partition('. ')[0].rstrip('.')[:300]}: {remedy}"]
    if isinstance(server, JavaJarJobServer) and shutil.which("java") is None:
        return [f"--runner {runner} starts a job server, which needs java on the PATH: install it, or {remedy}"]
    return []
