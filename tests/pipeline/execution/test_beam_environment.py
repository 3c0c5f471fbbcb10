"""Where a portable runner would run workers, and what it would start, is looked at before a job."""

import pytest

from openwit.pipeline.execution import beam_environment
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.beam_environment import environment_faults
from openwit.schemas.common.errors import RecipeError

AT = "--job_endpoint=127.0.0.1:8099"
CHOICES = "--environment_type=EXTERNAL with --environment_config=HOST:PORT of wit workers, LOOPBACK, or DOCKER"


@pytest.fixture
def no_docker(monkeypatch):
    monkeypatch.setattr(beam_environment.shutil, "which", lambda _: None)


def test_portable_needs_a_job_service():
    wanted = "--runner portable needs --cluster HOST:PORT of a job service"
    assert environment_faults("portable", ["--environment_type=LOOPBACK"]) == [wanted]
    with pytest.raises(RecipeError, match=wanted):
        BeamEngine("portable").check()
    for runner in ("flink", "spark", "prism", "beam", "dataflow"):
        assert environment_faults(runner, []) == []


@pytest.mark.parametrize(
    ("runner", "flags"),
    [
        ("portable", [AT]),
        ("portable", [AT, "--environment_type=DOCKER"]),
        ("portable", [AT, "--environment_type=beam:env:docker:v1"]),
        ("flink", ["--environment_type=DOCKER"]),
        ("spark", [AT, "--environment_type=DOCKER"]),
    ],
)
def test_beams_own_image_is_refused(runner, flags):
    (found,) = environment_faults(runner, flags)
    assert found.startswith(f"--runner {runner}: Beam's image for workers in DOCKER")
    assert CHOICES in found


@pytest.mark.usefixtures("no_docker")
def test_docker_is_looked_for_where_workers_start_here(monkeypatch):
    docker = ["--environment_type=DOCKER", "--environment_config=own/image"]
    for runner, flags in (
        ("portable", [AT]),
        ("portable", ["--job_endpoint=embed"]),
        ("flink", ["--flink_master=[local]"]),
    ):
        (found,) = environment_faults(runner, [*flags, *docker])
        assert f"--runner {runner}: --environment_type=DOCKER needs docker on the PATH" in found
    assert environment_faults("portable", ["--job_endpoint=cluster:8099", *docker]) == []
    assert environment_faults("flink", ["--flink_master=flink:8081", *docker]) == []
    monkeypatch.setattr(beam_environment.shutil, "which", lambda _: "/bin/docker")
    assert environment_faults("portable", [AT, *docker]) == []
    option = ["--environment_type=DOCKER", "--environment_options=docker_container_image=own/image"]
    assert environment_faults("portable", [AT, *option]) == []


@pytest.mark.parametrize("kind", ["LOOPBACK", "PROCESS"])
@pytest.mark.usefixtures("no_docker")
def test_other_places_are_accepted(kind):
    assert environment_faults("portable", [AT, f"--environment_type={kind}"]) == []


@pytest.mark.usefixtures("no_docker")
def test_a_runner_whose_job_service_cannot_be_started(tmp_path):
    (found,) = environment_faults("KafkaStreamsRunner", [])
    assert found.startswith("--runner KafkaStreamsRunner: The Kafka Streams runner is experimental")
    assert found.endswith("download: give --job_endpoint=HOST:PORT of a running job service after --")
    with pytest.raises(RecipeError, match="Kafka Streams runner is experimental"):
        BeamEngine("KafkaStreamsRunner").check()
    jar = tmp_path / "own.jar"
    jar.touch()
    (found,) = environment_faults("KafkaStreamsRunner", [f"--kafka_streams_job_server_jar={jar}"])
    assert "needs java on the PATH" in found
    assert environment_faults("KafkaStreamsRunner", [AT]) == []
    name = "apache_beam.runners.portability.portable_runner.PortableRunner"
    assert "You must specify a --job_endpoint" in environment_faults(name, ["--environment_type=LOOPBACK"])[0]
