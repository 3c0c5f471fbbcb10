"""Parts of a Beam runner that are missing: one sentence before anything runs."""

import socket
import threading

import pytest

from openwit.pipeline.execution import beam_parts
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.schemas.common.errors import NetworkError, OpenWITError, RecipeError


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def refusal(runner, *flags):
    with pytest.raises(OpenWITError) as refused:
        BeamEngine(runner, flags=flags).check()
    return type(refused.value), str(refused.value)


def test_a_worker_pool_that_is_not_there(closed_port):
    flags = ["--job_endpoint=embed", "--environment_type=EXTERNAL", f"--environment_config=127.0.0.1:{closed_port}"]
    kind, message = refusal("portable", *flags)
    assert kind is NetworkError
    assert message.startswith(f"--environment_config=127.0.0.1:{closed_port}: no worker pool answers")
    assert refusal("portable", "--job_endpoint=embed", "--environment_type=EXTERNAL") == (
        RecipeError,
        "--environment_type=EXTERNAL needs --environment_config=HOST:PORT of a worker pool",
    )


def test_prism_is_taken_from_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no prism on the PATH" in refusal("prism")[1]
    program = tmp_path / "prism"
    program.write_text("#!/bin/sh\n")
    assert "no prism on the PATH" in refusal("prism")[1]
    program.chmod(0o755)
    engine = BeamEngine("prism")
    engine.check()
    assert f"--prism_location={program}" in engine.flags
    assert BeamEngine("prism", flags=["--prism_location=/other"]).flags == ("--prism_location=/other",)
    assert refusal("prism", "--prism_location=/none")[1] == "--prism_location=/none: there is no program of this name"


@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_a_job_server_needs_java_and_its_jar(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(beam_parts.JavaJarServer, "JAR_CACHE", str(tmp_path))
    monkeypatch.setattr(beam_parts.shutil, "which", lambda _: None)
    assert "which needs java on the PATH" in refusal(runner)[1]
    monkeypatch.setattr(beam_parts.shutil, "which", lambda _: "/usr/bin/java")

    def offline(*_, **__):
        raise beam_parts.urllib.error.URLError("no network")

    monkeypatch.setattr(beam_parts.urllib.request, "urlopen", offline)
    kind, message = refusal(runner)
    assert kind is NetworkError
    assert f"job-server-{beam_version()}.jar cannot be fetched" in message
    assert f"--{runner}_job_server_jar=FILE" in message
    name = message.partition(": ")[2].partition(" cannot")[0]
    (tmp_path / name).touch()
    BeamEngine(runner).check()
    gone = f"--{runner}_job_server_jar=/none.jar"
    assert refusal(runner, gone)[0] is RecipeError
    (tmp_path / "own.jar").touch()
    BeamEngine(runner, flags=[f"--{runner}_job_server_jar={tmp_path}/own.jar"]).check()


def beam_version():
    import apache_beam

    return apache_beam.__version__


def test_dataflow_names_what_it_needs():
    assert refusal("dataflow", "--region=r")[1] == (
        "--runner dataflow needs --project, --temp_location after --: see docs/dataflow.md"
    )


def test_a_worker_pool_that_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        flags = ["--job_endpoint=embed", "--environment_type=EXTERNAL", f"--environment_config={address}"]
        BeamEngine("portable", flags=flags).check()
