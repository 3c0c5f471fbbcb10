"""What a runner raises is one sentence; our errors and bugs in steps go through."""

import apache_beam as beam
import pytest
from grpc import RpcError, StatusCode

from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.runner_faults import runner_faults
from openwit.schemas.common.errors import DataError, NetworkError, RecipeError, WorkerError

LOST = """Pipeline job-1 failed in state FAILED: Error running pipeline.
Traceback (most recent call last):
  File "data_plane.py", line 594, in input_elements
RuntimeError: Channel closed prematurely.
"""


class GoneError(RpcError):
    def code(self):
        return StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (
            RuntimeError(LOST),
            WorkerError,
            "a worker of the runner portable was lost (RuntimeError: Channel closed prematurely.): "
            "run the same command to resume",
        ),
        (
            GoneError(),
            NetworkError,
            "the job service of the runner portable was lost (UNAVAILABLE): "
            "start it and run the same command to resume",
        ),
        (
            OSError("no\nroom"),
            WorkerError,
            "the runner portable failed (no room): run the same command to resume",
        ),
    ],
)
def test_a_fault_of_the_runner_is_one_sentence(error, kind, sentence):
    with pytest.raises(kind) as raised, runner_faults("portable"):
        raise error
    assert type(raised.value) is kind
    assert str(raised.value) == sentence


@pytest.mark.parametrize("error", [DataError("x"), TypeError("x [while running 'Read']"), MemoryError()])
def test_other_errors_go_through(error):
    with pytest.raises(type(error)) as raised, runner_faults("beam"):
        raise error
    assert raised.value is error


def test_a_job_that_fails_in_the_runner(tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError(LOST)

    monkeypatch.setattr(beam.Pipeline, "run", fail)
    with pytest.raises(WorkerError, match="a worker of the runner beam was lost"):
        BeamEngine()._run(tmp_path, lambda _: None, BeamEngine().options())


def test_a_runner_that_cannot_be_made(monkeypatch):
    def fail(*_, **__):
        raise ValueError("Pipeline has validation errors:\nno region")

    monkeypatch.setattr(beam.Pipeline, "__init__", fail)
    wanted = r"--runner beam cannot be used \(Pipeline has validation errors: no region\)"
    with pytest.raises(RecipeError, match=wanted):
        BeamEngine().check()
