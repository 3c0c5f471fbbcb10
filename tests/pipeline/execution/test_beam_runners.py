"""Names of runners, and the flags that each job gets."""

import json

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, WorkerOptions

from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.beam_runners import default_flags, job_flags, runner_class, stage_of
from openwit.pipeline.execution.dataflow_workers import WORKERS, flags_of_stage
from openwit.pipeline.execution.runners import RUNNER_NAMES, make_engine, short_name
from openwit.pipeline.stages import STAGES
from openwit.pipeline.stages.shard.stage import WriteShard
from openwit.schemas.common.errors import RecipeError


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("KafkaStreamsRunner", "apache_beam.runners.portability.kafka_streams_runner.KafkaStreamsRunner"),
        ("apache_beam.runners.portability.flink_runner.FlinkRunner",) * 2,
        ("dataflow", "DataflowRunner"),
    ],
)
def test_runners_that_beam_knows(given, found):
    assert runner_class(given) == found


def test_names_of_beam_are_ours_where_we_have_one():
    assert [short_name(name) for name in ("DataflowRunner", "FnApiRunner", "PRISM", "Other")] == [
        "dataflow",
        "beam",
        "prism",
        "Other",
    ]
    assert make_engine("FlinkRunner", "auto").name == "flink"
    assert set(RUNNER_NAMES) >= {"local", "ray", "dataflow"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nowhere", "unknown runner 'Nowhere'; known: local, ray, beam"),
        ("no.such.Runner", "no.such.Runner cannot be imported"),
        ("pathlib.Path", "pathlib.Path is no runner of Beam"),
        ("apache_beam.runners.portability.flink_runner.Nothing", "cannot be imported"),
        ("DirectRunner", "it downloads a program first: use --runner beam"),
        ("dask", "it loses rows silently"),
        ("apache_beam.runners.dask.dask_runner.DaskRunner", "it loses rows silently"),
    ],
)
def test_others_are_refused_in_a_sentence(name, message):
    with pytest.raises(RecipeError) as refused:
        BeamEngine(name)
    assert message in str(refused.value)


def test_nothing_is_staged_and_nobody_asks_pip(monkeypatch, tmp_path):
    from apache_beam.runners.portability import stager

    def no_process(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(stager.processes, "check_output", no_process)
    monkeypatch.setattr(stager.processes, "check_call", no_process)
    monkeypatch.setattr(stager.subprocess, "check_output", no_process, raising=False)
    for name in ("portable", "flink", "dataflow"):
        options = BeamEngine(name).options("Write shards", WriteShard("", ""))
        assert stager.Stager.create_job_resources(options, str(tmp_path)) == []


def test_a_process_environment_starts_our_program():
    flags = default_flags("flink", ["--environment_type=PROCESS"])
    assert json.loads(flags[-1].partition("=")[2])["command"].endswith("/wit-beam-worker")
    own = ["--environment_type=PROCESS", '--environment_config={"command": "/boot"}']
    assert not [flag for flag in default_flags("flink", own) if "environment_config" in flag]


def test_dataflow_gets_workers_by_stage_and_users_win():
    assert stage_of(WriteShard("", "")) == "shard"
    options = BeamEngine("dataflow").options("Write shards", WriteShard("", ""))
    workers = options.view_as(WorkerOptions)
    assert (workers.machine_type, workers.max_num_workers) == WORKERS["shard"][:2]
    assert options.get_all_options()["number_of_worker_harness_threads"] == 1
    assert options.get_all_options()["job_name"] == "openwit-shard-write-shards"
    assert "use_runner_v2" in options.view_as(DebugOptions).experiments
    own = BeamEngine("dataflow", flags=["--worker_machine_type=e2-small", "--max_num_workers=3"])
    workers = own.options("Write shards", WriteShard("", "")).view_as(WorkerOptions)
    assert (workers.machine_type, workers.max_num_workers, workers.disk_size_gb) == ("e2-small", 3, 100)
    assert job_flags("flink", [], "Write shards", WriteShard("", "")) == []


def test_every_stage_with_jobs_has_workers_and_flags_that_beam_knows():
    assert set(WORKERS) == set(STAGES) - {"card"}
    for stage in [*WORKERS, "own"]:
        parsed = PipelineOptions(flags_of_stage(stage)).get_all_options(drop_default=True)
        assert len(parsed) >= 5
        BeamEngine("dataflow", flags=flags_of_stage(stage))


@pytest.mark.parametrize("runner", ["ray", "portable", "prism", "flink", "spark"])
@pytest.mark.parametrize("cluster", ["localhost", "localhost:", ":80", "localhost:99999", "localhost:x"])
def test_a_cluster_without_a_port_is_refused(runner, cluster):
    with pytest.raises(RecipeError, match=f"^--cluster {cluster}: give "):
        make_engine(runner, "auto", cluster=cluster)


@pytest.mark.parametrize(
    ("runner", "cluster"),
    [
        ("flink", "[local]"),
        ("flink", "http://flink:8081/"),
        ("flink", "[::1]:8081"),
        ("spark", "spark://a:7077,b:7077"),
        ("spark", "local[4]"),
        ("spark", "yarn"),
        ("portable", "a:8099"),
        ("ray", "auto"),
        ("ray", "ray://head:10001"),
    ],
)
def test_addresses_of_clusters(runner, cluster):
    make_engine(runner, "auto", cluster=cluster)
