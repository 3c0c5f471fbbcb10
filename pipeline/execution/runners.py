"""Name the engines that jobs can run on, and make them; no engine's library is imported before it is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from openwit.pipeline.execution.addresses import host_port
from openwit.pipeline.execution.engine import default_workers
from openwit.schemas.common.errors import RecipeError

if TYPE_CHECKING:
    from openwit.pipeline.execution.engine import Engine

RUNNER_NAMES = ("local", "ray", "beam", "portable", "prism", "flink", "spark", "dataflow")
"""Runners that a build was written for; Beam's others are named as Beam names them."""
_CLUSTER_FLAGS = {
    "portable": "--job_endpoint",
    "prism": "--job_endpoint",
    "flink": "--flink_master",
    "spark": "--spark_master_url",
}
WorkerCount = int | Literal["auto"]
"""Number of worker processes; `auto` for one per core that this process may use."""


def make_engine(runner: str, workers: WorkerCount, flags: Sequence[str] = (), *, cluster: str | None = None) -> Engine:
    """Make the engine of a runner.

    Args:
        runner: one of `RUNNER_NAMES`, or a Beam runner by Beam's name or by its class (`package.module.Class`).
        workers: processes of the runners `local` and `beam`; for `beam`, `auto` runs in this process.
        flags: Beam's flags.
        cluster: address of the cluster: Ray's head (None for the cluster that this machine belongs to), Flink's or
            Spark's master, or the job service of a portable runner.

    Raises:
        RecipeError: the runner is unknown, the number of workers is wrong, or flags do not belong to the runner.
    """
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise RecipeError(f"workers must be auto or a number from 1, got {workers!r}")
    runner = short_name(runner)
    if cluster is not None and runner != "ray" and runner not in _CLUSTER_FLAGS:
        raise RecipeError(f"--cluster is for {', '.join(['ray', *_CLUSTER_FLAGS])}; the runner is {runner}")
    if cluster is not None:
        _check_cluster(runner, cluster)
    if runner in ("local", "ray") and flags:
        raise RecipeError(f"{flags[0]} is a flag of Beam, which --runner {runner} does not use: name a Beam runner")
    if runner == "ray":
        from openwit.pipeline.execution.pool_engine import PoolEngine
        from openwit.pipeline.execution.ray_pool import RayPool

        return PoolEngine(RayPool(cluster or "auto"), elsewhere=True)
    if runner != "local":
        from openwit.pipeline.execution.beam_engine import BeamEngine

        of_cluster = [] if cluster is None else [f"{_CLUSTER_FLAGS[runner]}={cluster}"]
        return BeamEngine(runner, 1 if workers == "auto" else workers, (*of_cluster, *flags))
    from openwit.pipeline.execution.local_pool import LocalPool
    from openwit.pipeline.execution.pool import InProcessPool
    from openwit.pipeline.execution.pool_engine import PoolEngine

    cores = default_workers()
    count = cores if workers == "auto" else workers
    return PoolEngine(InProcessPool() if count == 1 else LocalPool(count, cores=cores, required=workers != "auto"))


def _check_cluster(runner: str, cluster: str) -> None:
    """Raise a RecipeError for an address that cannot be one of the runner's clusters."""
    if runner == "ray":
        wanted, wrong = "auto, HOST:PORT or ray://HOST:PORT", cluster != "auto"
        address = cluster.removeprefix("ray://")
    elif runner == "flink":
        wanted, wrong = "HOST:PORT, [auto] or [local]", not cluster.startswith("[")
        address = cluster.removeprefix("http://").removeprefix("https://").rstrip("/")
    elif runner == "spark":
        wanted, wrong = "spark://HOST:PORT or local[N]", re.match(r"local$|local\[|yarn|k8s://", cluster) is None
        address = cluster.rpartition(",")[2].removeprefix("spark://") if cluster.startswith("spark://") else ""
    else:
        wanted, wrong, address = "HOST:PORT", True, cluster
    if wrong and host_port(address) is None:
        raise RecipeError(f"--cluster {cluster}: give {wanted}")


def short_name(runner: str) -> str:
    """Return our name of a runner that is given by Beam's: `dataflow` for `DataflowRunner`; any other as it is."""
    short = runner.lower().removesuffix("runner")
    return "beam" if short == "fnapi" else short if short in RUNNER_NAMES else runner


def parse_workers(text: str) -> WorkerCount:
    """Read a number of workers as the command line gives it.

    Raises:
        ValueError: it is neither `auto` nor a number from 1.
    """
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is neither auto nor a number from 1")
    return int(text)
