"""Check Beam's flags before a job starts: unknown flags are refused, and an endpoint must answer within seconds.

Beam itself ignores flags that it does not know, and waits minutes for a job service that is not there.
"""

import argparse
import difflib
import functools
from collections.abc import Sequence
from typing import NoReturn

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
)
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from openwit.pipeline.execution.addresses import connect, host_port
from openwit.pipeline.execution.beam_parts import check_parts
from openwit.pipeline.execution.beam_runners import portable_class
from openwit.schemas.common.errors import NetworkError, RecipeError

ANSWER_SECONDS = 5.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"Beam's flags: {message}")


def check_flags(runner: str, flags: Sequence[str]) -> None:
    """Refuse flags that neither Beam nor the job service of a portable runner knows.

    Args:
        runner: short name of the runner.
        flags: Beam's flags.

    Raises:
        RecipeError: a flag is unknown or has a wrong value; the message suggests the most similar one.
    """
    if not flags:
        return
    parser = _Parser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    for options in {str(options): options for options in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(flags))
    if not unknown:
        return
    known = {option for action in parser._actions for option in action.option_strings}
    portable = portable_class(runner) is not None
    endpoint = job_endpoint(flags) if portable else None
    if portable:
        # The runner's own options are only known to its job service; without one Beam starts it with the job.
        if endpoint is None:
            return
        known |= {f"--{name}" for name in job_service_options(endpoint)}
    for flag in unknown:
        name = flag.partition("=")[0]
        if not name.startswith("-"):
            raise RecipeError(f"Beam's flags: {flag!r} is not a flag")
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise RecipeError(f"Beam's flags: {name} is unknown to the runner {runner}{hint}")


def check_endpoint(runner: str, flags: Sequence[str]) -> None:
    """Check that the parts of a runner are there and that its cluster answers.

    Args:
        runner: short name of the runner.
        flags: Beam's flags.

    Raises:
        NetworkError: its job service, Flink's master or a worker pool does not answer within `ANSWER_SECONDS`.
        RecipeError: a program, a file or a flag is missing.
    """
    if runner == "beam":
        return
    options = PipelineOptions(list(flags))
    endpoint = job_endpoint(flags)
    if endpoint is not None:
        job_service_options(endpoint)
    elif runner == "flink":
        master = options.view_as(FlinkRunnerOptions).flink_master
        if not master.startswith("["):
            _connect(master.removeprefix("http://").removeprefix("https://").rstrip("/"), "--flink_master")
    elif runner == "spark":
        master = options.view_as(SparkRunnerOptions).spark_master_url
        if master.startswith("spark://") and "," not in master:
            _connect(master.removeprefix("spark://"), "--spark_master_url")
    check_parts(runner, flags, has_job_service=endpoint is not None)


def job_endpoint(flags: Sequence[str]) -> str | None:
    """Return the address of the job service that the flags name; None if Beam starts one itself."""
    endpoint = PipelineOptions(list(flags)).view_as(PortableOptions).job_endpoint
    return None if endpoint in (None, "", "embed") else str(endpoint)


@functools.lru_cache(maxsize=8)
def job_service_options(endpoint: str) -> frozenset[str]:
    """Ask a job service for the names of its options.

    Raises:
        NetworkError: it does not answer.
        RecipeError: the endpoint has no port.
    """
    if host_port(endpoint) is None:
        raise RecipeError(f"--job_endpoint={endpoint}: give HOST:PORT")
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
            answer = beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions(
                beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=ANSWER_SECONDS
            )
        except grpc.FutureTimeoutError:
            raise NetworkError(
                f"--job_endpoint={endpoint}: no job service answered within {ANSWER_SECONDS:.0f} s"
            ) from None
        except grpc.RpcError as error:
            raise NetworkError(f"--job_endpoint={endpoint}: is not a Beam job service ({error.code().name})") from None
    return frozenset(option.name for option in answer.options)


def _connect(address: str, flag: str) -> None:
    found = host_port(address)
    if found is None:
        raise RecipeError(f"{flag}={address}: must look like HOST:PORT, or be [auto] or [local]")
    try:
        connect(*found, seconds=ANSWER_SECONDS)
    except OSError as error:
        raise NetworkError(f"{flag}={address}: does not answer ({error})") from None
