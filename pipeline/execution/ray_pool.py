"""Run items of work on a Ray cluster: Ray places them, and runs them again when a worker or a node is lost."""

import contextlib
import importlib
import logging
import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openwit.pipeline.execution.addresses import connect, host_port
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
_NODE_LOST = re.compile(r"node with node id: (\w+).*marked dead", re.DOTALL)
_TASK_LOST = re.compile(r"Task \w+ failed. There are \d+ retries remaining")

_log = logging.getLogger(__name__)


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
        address = auto_address() if self._address == "auto" else self._address
        _check_address(address, said="" if address == self._address else f" (--cluster {self._address})")
        _tell_of_losses()
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except ConnectionError:
            raise NetworkError(
                f"--cluster {self._address}: no Ray cluster answers: start one with ray start --head"
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            raise NetworkError(f"--cluster {self._address}: {one_line(error, 200)}") from error
        self._connected = True
        return ray


def auto_address() -> str:
    """Return the address of the cluster that this machine belongs to, as Ray finds it, if one answers.

    Ray itself waits for a minute for a head that is gone.

    Raises:
        NetworkError: no address is known, or none that is known answers.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != "auto":
        return named
    written, heads = _written_address(), _heads_here()
    known = list(dict.fromkeys([*heads, written] if len(heads) == 1 else [written, *heads]))
    tried = [address for address in known if address]
    for address in tried:
        found = host_port(address)
        with contextlib.suppress(OSError):
            if found is not None:
                connect(*found, seconds=_ANSWER_S / len(tried))
                return address
    which = f"the last one known, {tried[0]}, does not answer" if tried else "this machine belongs to none"
    raise NetworkError(
        f"--cluster auto: no Ray cluster was found ({which}): start one with ray start --head, or give HOST:PORT"
    )


def _written_address() -> str:
    """Return the address that the last `ray start` on this machine wrote; empty if there is none."""
    temporary = os.environ.get("RAY_TMPDIR") or (os.environ.get("TMPDIR") if sys.platform == "linux" else "") or "/tmp"
    try:
        return (Path(temporary) / "ray" / "ray_current_cluster").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _heads_here() -> list[str]:
    """Return the addresses of the heads that run on this machine."""
    try:
        return sorted(importlib.import_module("ray._private.services").find_gcs_addresses())
    except Exception:  # Ray's own, which other versions may not have
        return []


def _check_address(address: str, *, said: str = "") -> None:
    """Refuse an address that is wrong, or where nothing listens: Ray itself would wait for minutes."""
    found = host_port(address.removeprefix("ray://"))
    if found is None:
        raise RecipeError(f"--cluster {address}{said}: must be auto, HOST:PORT or ray://HOST:PORT")
    try:
        connect(*found, seconds=_ANSWER_S)
    except OSError as error:
        raise NetworkError(f"--cluster {address}{said}: does not answer ({one_line(error)})") from None


def _tell_of_losses() -> None:
    """Replace what Ray prints of lost nodes and workers, with pages of their logs, by a line of ours for each."""
    import ray._private.worker as printing

    if hasattr(printing, "print_to_stdstream"):
        printing.print_to_stdstream = Losses().tell


class Losses:
    """Say once of each node that it was lost, and of each task that it is done again."""

    def __init__(self) -> None:
        self._nodes: set[str] = set()

    def tell(self, data: dict[str, Any], *_: Any, **__: Any) -> None:
        """Take a message as Ray gives it to its own printer; what tells of no loss is for the debug log."""
        text = "\n".join(map(str, data.get("lines") or ()))
        node = _NODE_LOST.search(text)
        if node is not None:
            if node.group(1) not in self._nodes:
                self._nodes.add(node.group(1))
                _log.warning("a node of the cluster was lost; its tasks are done again")
        elif _TASK_LOST.search(text) and "the node it was running on is dead" not in text:
            _log.warning("a worker of the cluster was lost; its task is done again")
        else:
            _log.debug("%s", text)


# What follows runs in the workers.


def _installed_version() -> str:
    from importlib.metadata import version

    return version("openwit")


def _serve(job: str, payload: bytes, item: bytes) -> Outcome:
    limit_cores(1)
    quiet_logs()
    return serve(job, lambda: payload, item)
