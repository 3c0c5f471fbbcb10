"""Turn what a Beam runner raises of its own into one sentence; errors of ours and bugs in steps go through."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from openwit.schemas.common.errors import NetworkError, OpenWITError, RecipeError, WorkerError, one_line

_log = logging.getLogger(__name__)
_LIMIT = 200
_IN_STEP = "[while running '"
_TRACEBACK = "Traceback (most recent call last)"
_WORKER_LOST = ("Channel closed prematurely", "SDK harness", "SDK Harness", "sdk_harness", "worker_handler")
_SERVICE_LOST = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED", "Socket closed")


@contextmanager
def runner_faults(name: str) -> Iterator[None]:
    """Run a job on a runner.

    Args:
        name: of the runner.

    Raises:
        WorkerError: the runner lost a worker, or failed.
        NetworkError: its job service was lost.
    """
    try:
        yield
    except (OpenWITError, MemoryError):
        raise
    except Exception as error:
        if _IN_STEP in str(error):
            raise
        _log.debug("the runner %s failed", name, exc_info=True)
        raise _fault(name, error) from error


@contextmanager
def refused_runner(name: str) -> Iterator[None]:
    """Make a pipeline for a runner, before anything runs.

    Raises:
        RecipeError: the runner refuses it.
    """
    try:
        yield
    except OpenWITError:
        raise
    except Exception as error:
        _log.debug("the runner %s cannot be used", name, exc_info=True)
        raise RecipeError(f"--runner {name} cannot be used ({_last_line(error)})") from error


def _fault(name: str, error: Exception) -> OpenWITError:
    text = str(error)
    if any(mark in text for mark in _WORKER_LOST):
        return WorkerError(
            f"a worker of the runner {name} was lost ({_last_line(error)}): run the same command to resume"
        )
    if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError) or any(mark in text for mark in _SERVICE_LOST):
        code = error.code().name if hasattr(error, "code") and hasattr(error.code(), "name") else "no answer"
        return NetworkError(
            f"the job service of the runner {name} was lost ({code}): start it and run the same command to resume"
        )
    return WorkerError(f"the runner {name} failed ({_last_line(error)}): run the same command to resume")


def _last_line(error: BaseException) -> str:
    """Return the line that names the cause: the last one of a message with a traceback in it."""
    text = str(error).strip()
    if _TRACEBACK not in text:
        return one_line(error, _LIMIT)
    return text.splitlines()[-1].strip()[:_LIMIT]
