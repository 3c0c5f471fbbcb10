"""Run items of work on a Ray cluster: Ray places them, and runs them again when a worker or a node is lost."""

import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from openwit.pipeline.execution.engine import limit_cores
from openwit.pipeline.execution.pool import Work
from openwit.pipeline.execution.pool_worker import Outcome, pickled, quiet_logs, serve
from openwit.schemas.common.errors import NetworkError, RecipeError, WorkerError, one_line
from openwit.schemas.common.stopping import stop_if_asked

_ANSWER_S = 5.0
_FREE_WORKER_S = 60.0
_POLL_S = 0.5
_QUEUED_PER_CPU = 2
_RETRIES = 5


class RayPool:
    """Run items on the nodes of a Ray cluster; see `openwit.pipeline.execution.pool.Pool`.

    Every node has this version of OpenWIT installed. Items take one CPU each.

    Args:
        address: `auto` for the cluster that this machine belongs to, HOST:PORT of its head, or ray://HOST:PORT of a
            Ray Client server.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connected = False

    def check(self) -> None:
        """Connect, and run an empty item on a worker.

        Raises:
            RecipeError: Ray is not installed, or the address is wrong.
            NetworkError: the cluster does not answer, or has no free worker.
            WorkerError: a worker has another version of OpenWIT.
        """
        ray = self._connect()
        remote = ray.remote(num_cpus=1, max_retries=0)(_installed_version)
        try:
            found = ray.get(remote.remote(), timeout=_FREE_WORKER_S)
        except ray.exceptions.GetTimeoutError:
            raise NetworkError(
                f"--cluster {self._address}: no worker was free within {_FREE_WORKER_S:.0f} s: wait, or add nodes"
            ) from None
        except ray.exceptions.RayError as error:
            raise WorkerError(
                f"--cluster {self._address}: its workers cannot import openwit ({one_line(error, 200)}): install the "
                "same version on each node"
            ) from None
        if found != _installed_version():
            raise WorkerError(
                f"--cluster {self._address}: its workers have openwit {found}, this machine has "
                f"{_installed_version()}: install the same version"
            )

    def run(self, work: Work, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """See `Pool`.

        Raises:
            WorkerError: workers or nodes were lost again and again.
        """
        if not items:
            return
        ray = self._connect()
        payload, job = ray.put(pickled(work)), uuid.uuid4().hex
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(_serve)
        limit = max(int(ray.cluster_resources().get("CPU", 1)), 1) * _QUEUED_PER_CPU
        waiting = iter(range(len(items)))
        running: dict[Any, int] = {}
        try:
            while True:
                stop_if_asked()
                while len(running) < limit and (index := next(waiting, None)) is not None:
                    running[remote.remote(job, payload, pickled(items[index]))] = index
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
                for reference in done:
                    index = running[reference]
                    outcome = self._outcome(ray, reference, names[index])
                    del running[reference]
                    yield index, outcome.value()
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    def prepare(self) -> None:
        """Do nothing: see `Pool`."""

    def close(self) -> None:
        """Leave the cluster."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False

    def _outcome(self, ray: Any, reference: Any, name: str) -> Outcome:
        try:
            outcome: Outcome = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise WorkerError(
                f"workers or nodes of the cluster were lost {_RETRIES + 1} times while they ran {name!r} "
                f"({one_line(error, 200)}): run the same command to resume"
            ) from error
        return outcome

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise RecipeError(
                "--runner ray needs a package that is not installed: pip install 'openwit[ray]'"
            ) from None
        if self._connected or ray.is_initialized():
            self._connected = True
            return ray
        _check_address(self._address)
        try:
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except ConnectionError:
            raise NetworkError(
                f"--cluster {self._address}: no Ray cluster answers: start one with ray start --head"
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            raise NetworkError(f"--cluster {self._address}: {one_line(error, 200)}") from error
        self._connected = True
        return ray


def _check_address(address: str) -> None:
    """Refuse an address that is wrong, or where nothing listens: Ray itself would wait for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise RecipeError(f"--cluster {address}: must be auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise NetworkError(f"--cluster {address}: does not answer ({one_line(error)})") from None


# What follows runs in the workers.


def _installed_version() -> str:
    from importlib.metadata import version

    return version("openwit")


def _serve(job: str, payload: bytes, item: bytes) -> Outcome:
    limit_cores(1)
    quiet_logs()
    return serve(job, lambda: payload, item)
