"""Run Beam's workers: a pool for EXTERNAL environments, and the program that a PROCESS environment starts.

    wit workers --port 50000                      serves as Beam's worker pool does
    wit-beam-worker --id=… --control_endpoint=…       is one worker, started by a runner

Beam's own pool starts a program called `python` that imports everything for each worker of each job. Here a fork
server imports it once, and a worker is a copy of it.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)

from openwit.schemas.common.errors import NetworkError, one_line

_PRELOADED = ["openwit.pipeline.execution.preloaded", "openwit.pipeline.execution.beam_preloaded"]
_ENDPOINTS = ("control", "provision", "logging")
_ANSWER_S = 60
_GRACE_S = 10.0
_LOOK_S = 0.5
_RESTARTS = 3
"""A runner waits without an end for a worker that dies before it has connected, so a dead one is started again."""

_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    """A worker that a runner asked for: its process, and how often that was started again."""

    process: BaseProcess
    endpoints: dict[str, str]
    restarts: int = 0


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc, unused-ignore]
    """Start and stop worker processes as a runner asks for them."""

    def __init__(self) -> None:
        self._context: Any = multiprocessing.get_context("forkserver" if sys.platform.startswith("linux") else "spawn")
        if hasattr(self._context, "set_forkserver_preload"):
            self._context.set_forkserver_preload(_PRELOADED)
        self._workers: dict[str, _Worker] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Start a worker that connects to the runner's endpoints."""
        endpoints = {name: getattr(request, f"{name}_endpoint").url for name in _ENDPOINTS}
        try:
            process = self._start(request.worker_id, endpoints)
        except Exception as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"the worker pool cannot start a worker: {error}")
        with self._lock:
            self._workers[request.worker_id] = _Worker(process, endpoints)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Stop a worker; one that has ended is forgotten."""
        with self._lock:
            worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _end(worker.process)
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Stop all workers."""
        self._closed.set()
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            _end(worker.process)

    def _start(self, name: str, endpoints: dict[str, str]) -> BaseProcess:
        process: BaseProcess = self._context.Process(target=_serve_pool, args=(name, endpoints))
        process.start()
        return process

    def _watch(self) -> None:
        """Start workers again that died."""
        while not self._closed.wait(_LOOK_S):
            with self._lock:
                for name, worker in list(self._workers.items()):
                    if worker.process.exitcode is None:
                        continue
                    if worker.process.exitcode == 0 or worker.restarts == _RESTARTS:
                        del self._workers[name]
                        continue
                    _log.warning("worker %s died (exit code %d): it is started again", name, worker.process.exitcode)
                    with contextlib.suppress(OSError):
                        worker.process = self._start(name, worker.endpoints)
                    worker.restarts += 1


def start_pool(port: int) -> tuple[int, WorkerPool, Any]:
    """Start a pool at a port, 0 for a free one; return the port, the pool and its server."""
    from concurrent.futures import ThreadPoolExecutor

    # Runners ask whether the connection lives more often than gRPC's servers like.
    options = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    pool = WorkerPool()
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    bound = server.add_insecure_port(f"[::]:{port}")
    server.start()
    return bound, pool, server


def _end(worker: BaseProcess) -> None:
    worker.terminate()
    worker.join(_GRACE_S)
    if worker.is_alive():
        worker.kill()
        worker.join()


def _serve_pool(worker: str, endpoints: Mapping[str, str]) -> None:
    """Be a worker of a pool: end with it, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_pool, daemon=True).start()
    serve(worker, endpoints)


def _end_with_pool() -> None:
    pool = multiprocessing.parent_process()
    assert pool is not None, "a worker has a parent"
    pool.join()
    os._exit(1)


def serve(worker: str, endpoints: Mapping[str, str]) -> None:
    """Be a worker of a runner until it closes the connection.

    Args:
        worker: its identifier.
        endpoints: addresses of the runner: `control`, and `provision` and `logging` where it has them.
    """
    from apache_beam.runners.worker import sdk_worker_main

    environment = {
        "WORKER_ID": worker,
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{endpoints["control"]}"',
        **_provisions(worker, endpoints.get("provision", "")),
    }
    if endpoints.get("logging"):
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = f'url: "{endpoints["logging"]}"'
    handler, harness, _ = sdk_worker_main.create_harness(environment)
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("openwit").setLevel(logging.WARNING)
    try:
        harness.run()
    finally:
        if handler is not None:
            handler.close()


def _provisions(worker: str, address: str) -> dict[str, str]:
    """Ask the runner for the job's options and its capabilities; none where it does not say."""
    if not address:
        return {}
    from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]

    with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
        answer = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel).GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            timeout=_ANSWER_S,
            wait_for_ready=True,
            metadata=[("worker_id", worker)],
        )
        return {
            "PIPELINE_OPTIONS": json_format.MessageToJson(answer.info.pipeline_options),
            "RUNNER_CAPABILITIES": " ".join(answer.info.runner_capabilities),
        }
    return {}


def boot(arguments: Sequence[str] | None = None) -> None:
    """Be the program of a PROCESS environment, with the arguments of Beam's container contract."""
    parser = argparse.ArgumentParser(prog="wit-beam-worker", description="Run one worker for a Beam runner.")
    parser.add_argument("--id", required=True, help="identifier of the worker")
    for name in (*_ENDPOINTS, "artifact"):
        parser.add_argument(f"--{name}_endpoint", default="", required=name == "control", help="HOST:PORT")
    given, _ = parser.parse_known_args(arguments)
    serve(given.id, {name: getattr(given, f"{name}_endpoint") for name in _ENDPOINTS})


def serve_pool(port: int) -> None:
    """Serve as a worker pool until the process is ended.

    Raises:
        NetworkError: the port is taken.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        _, pool, server = start_pool(port)
    except RuntimeError as error:
        raise NetworkError(f"--port {port}: cannot be used ({one_line(error)})") from None
    print(f"workers are started at port {port}", flush=True)
    ended.wait()
    server.stop(0)
    pool.close()
