"""Flags that nobody knows are refused, and a cluster that is not there is reported before anything runs."""

import socket

import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from openwit.pipeline.execution import beam_flags, beam_parts
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.schemas.common.errors import NetworkError, RecipeError


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("runner", ["beam", "dataflow"])
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--num_worker=3"], "Beam's flags: --num_worker is unknown to the runner {}; did you mean --num_workers?"),
        (["--region=x", "--zzzz"], "Beam's flags: --zzzz is unknown to the runner {}"),
        (["words"], "Beam's flags: 'words' is not a flag"),
        (["--max_num_workers=x"], "Beam's flags: argument --max_num_workers: invalid int value: 'x'"),
    ],
)
def test_unknown_flags_are_refused(runner, flags, sentence):
    with pytest.raises(RecipeError) as refused:
        BeamEngine(runner, flags=flags)
    assert str(refused.value) == sentence.format(runner)


def test_known_flags_of_every_kind_are_accepted():
    flags = [
        "--project=p",
        "--region=r",
        "--experiments=a",
        "--experiments=b",
        "--save_main_session",
        "--max_num_workers=2",
    ]
    assert BeamEngine("dataflow", flags=flags).options().get_all_options()["max_num_workers"] == 2


def test_options_of_the_job_service_count_as_known(monkeypatch, tmp_path):
    service = LocalJobServicer(str(tmp_path))
    port = service.start_grpc_server(0)
    endpoint = f"--job_endpoint=localhost:{port}"
    try:
        engine = BeamEngine("portable", flags=[endpoint, "--environment_type=LOOPBACK"])
        engine.check()
        with pytest.raises(RecipeError, match="--parallelisme is unknown to the runner portable"):
            BeamEngine("portable", flags=[endpoint, "--parallelisme=3"])
        monkeypatch.setattr(beam_flags, "job_service_options", lambda _: frozenset({"parallelisme"}))
        BeamEngine("portable", flags=[endpoint, "--parallelisme=3"])
    finally:
        service.stop()


@pytest.mark.parametrize(("runner", "flag"), [("portable", "--job_endpoint"), ("flink", "--flink_master")])
def test_a_cluster_that_is_not_there_is_reported(runner, flag, monkeypatch):
    monkeypatch.setattr(beam_flags, "ANSWER_SECONDS", 0.3)
    engine = BeamEngine(runner, flags=[f"{flag}=127.0.0.1:{closed_port()}"])
    with pytest.raises(NetworkError, match=f"^{flag}=127.0.0.1:[0-9]+: "):
        engine.check()


def test_an_endpoint_that_is_no_job_service_is_reported(monkeypatch):
    monkeypatch.setattr(beam_flags, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = BeamEngine("spark", flags=[f"--job_endpoint=127.0.0.1:{silent.getsockname()[1]}"])
        with pytest.raises(NetworkError, match="job service"):
            engine.check()


@pytest.mark.parametrize("master", ["[auto]", "[local]"])
def test_flink_that_beam_starts_itself_is_not_asked(master, monkeypatch):
    monkeypatch.setattr(beam_parts, "_check_job_server", lambda *_: None)  # of another test
    BeamEngine("flink", flags=[f"--flink_master={master}"]).check()


def test_flink_needs_host_and_port():
    with pytest.raises(RecipeError, match=r"--flink_master=somewhere: must look like HOST:PORT"):
        BeamEngine("flink", flags=["--flink_master=somewhere"]).check()


def test_a_master_of_spark_is_asked(monkeypatch):
    monkeypatch.setattr(beam_flags, "ANSWER_SECONDS", 0.3)
    with pytest.raises(NetworkError, match="--spark_master_url=127.0.0.1:[0-9]+: does not answer"):
        BeamEngine("spark", flags=[f"--spark_master_url=spark://127.0.0.1:{closed_port()}"]).check()


def test_a_job_endpoint_needs_a_port():
    with pytest.raises(RecipeError, match="--job_endpoint=localhost: give HOST:PORT"):
        BeamEngine("portable", flags=["--job_endpoint=localhost"]).check()
