"""Arguments of workers; tests/engines runs builds on them."""

import threading

import pytest

from openwit.pipeline.execution import beam_pool


def test_a_process_environment_passes_its_endpoints(monkeypatch):
    served = []
    monkeypatch.setattr(beam_pool, "serve", lambda worker, endpoints: served.append((worker, endpoints)))
    endpoints = "--logging_endpoint=a:1 --artifact_endpoint=a:2 --provision_endpoint=a:3 --control_endpoint=a:4"
    beam_pool.boot(["--id=1", *endpoints.split(), "--semi_persist_dir=/tmp"])
    assert served == [("1", {"control": "a:4", "provision": "a:3", "logging": "a:1"})]


def test_a_worker_needs_a_runner():
    with pytest.raises(SystemExit) as ended:
        beam_pool.boot(["--id=1"])
    assert ended.value.code == 2


def test_a_pool_that_cannot_start_a_worker_says_so(monkeypatch):
    from apache_beam.portability.api import beam_fn_api_pb2

    pool = beam_pool.WorkerPool()

    def failing(**_):
        raise OSError("no memory")

    monkeypatch.setattr(pool, "_context", type("Context", (), {"Process": staticmethod(failing)}))
    answer = pool.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id="1"), None)
    assert answer.error == "the worker pool cannot start a worker: no memory"
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1"), None)


def test_a_port_that_is_taken_is_one_sentence(monkeypatch):
    from openwit.schemas.common.errors import NetworkError

    def taken(_):
        raise RuntimeError("bind failed")

    monkeypatch.setattr(beam_pool, "start_pool", taken)
    monkeypatch.setattr(beam_pool.signal, "signal", lambda *_: None)
    with pytest.raises(NetworkError, match=r"--port 1: cannot be used \(bind failed\)"):
        beam_pool.serve_pool(1)


def test_a_worker_that_died_is_started_again_a_few_times(monkeypatch):
    from apache_beam.portability.api import beam_fn_api_pb2

    started, enough = [], threading.Event()

    class Dead:
        """A process that dies at once."""

        exitcode = -9

        def __init__(self, **about):
            started.append(about["args"])
            if len(started) == 1 + beam_pool._RESTARTS:
                enough.set()

        def start(self):
            pass

        def terminate(self):
            pass

        def join(self, _timeout=None):
            pass

        def is_alive(self):
            return False

    monkeypatch.setattr(beam_pool, "_LOOK_S", 0.01)
    pool = beam_pool.WorkerPool()
    monkeypatch.setattr(pool, "_context", type("Context", (), {"Process": Dead}))
    pool.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id="w1"), None)
    assert enough.wait(30)
    pool.close()
    assert [name for name, _ in started] == ["w1"] * (1 + beam_pool._RESTARTS)
