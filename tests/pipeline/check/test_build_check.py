"""What `wit build --check` finds: each kind of fault is planted once."""

from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from openwit.pipeline.check import build_check
from openwit.pipeline.check.build_check import GRAPH_BYTES, check_build
from openwit.pipeline.check.engine import TASK_BYTES, GraphEngine, JobGraph
from openwit.pipeline.cli.main import app
from openwit.pipeline.execution import beam_graph
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.beam_facts import GraphFacts, untyped
from openwit.pipeline.execution.jobs import Emitter, Grouping, KeyedBlob, Round, RoundsJob, Task
from openwit.pipeline.recipe import Recipe

FLAGS = ("--project=p", "--region=r", "--temp_location=gs://bucket/tmp")
CAPTION = b"a red kite above the field"


@dataclass(frozen=True)
class Payload:
    data: bytes


@dataclass
class Send(Emitter):
    """Send what a task holds."""

    blob: bytes = b""
    held: tuple = ()

    def emit(self, task):
        yield KeyedBlob("numbers", task.number, self.blob)


class Pass(Grouping):
    """Send a blob on."""

    def process(self, key, streams):
        yield KeyedBlob("passed", key, streams["numbers"][0])


def rounds_job(emitter, data=b"", tasks=2):
    numbers = [Task(n, f"{n}", Payload(data)) for n in range(tasks)]
    rounds = [Round("one", ("numbers",), Pass(), ("passed",)), Round("two", ("passed",), Grouping())]
    rounds[1].grouping.process = lambda *_: iter(())
    return RoundsJob("Job", numbers, emitter, ("numbers",), rounds)


def graph_of(folder, job):
    engine = GraphEngine(BeamEngine("dataflow", flags=FLAGS).options, [CAPTION], lambda at: (at, "step"))
    engine.run_rounds(folder, job)
    return engine.graphs[0]


def test_a_job_of_keys_passes(tmp_path):
    graph = graph_of(tmp_path, rounds_job(Send(b"1234")))
    assert graph.faults == []
    assert [shuffle.elements for shuffle in graph.facts.shuffles if shuffle.name.startswith("Group for")] == [
        "KV[int, bytes]"
    ] * 2
    assert not list(untyped(graph.facts))


def test_texts_in_a_shuffle_are_found_in_every_round(tmp_path):
    graph = graph_of(tmp_path, rounds_job(Send(b"..." + CAPTION + b"...")))
    assert graph.faults == ["stream numbers shuffles texts or images", "stream passed shuffles texts or images"]


def test_texts_in_tasks_and_large_tasks_are_found(tmp_path):
    graph = graph_of(tmp_path, rounds_job(Send(), CAPTION + bytes(TASK_BYTES)))
    assert graph.faults[0].endswith(f"more than {TASK_BYTES:,}")
    assert graph.faults[1] == "tasks hold texts or images"


def test_pickled_elements_of_a_round_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(beam_graph.beam.ParDo, "with_output_types", lambda self, _: self)
    found = list(untyped(graph_of(tmp_path, rounds_job(Send())).facts))
    assert found[0].name.startswith("Group for one")
    assert "pickled" in found[0].elements


def test_a_graph_that_grows_with_its_tasks_is_found(tmp_path):
    graphs = []
    for tasks in (4, 16):
        # What compresses no better than names of files with checksums.
        held = tuple(f"{hash((n, 'x')) & (1 << 60) - 1:015x}" for n in range(tasks))
        graphs.append(graph_of(tmp_path / str(tasks), rounds_job(Send(held=held), tasks=tasks)))
    (judged,) = build_check._judge([graphs[0]], [graphs[1]])
    assert judged.bytes > GRAPH_BYTES
    assert "more with each task" in judged.faults[0]
    (steady,) = build_check._judge([graphs[0]], [graphs[0]])
    assert steady.faults == ()


def test_a_large_graph_is_found():
    graph = JobGraph("step", "job", 1, GraphFacts(GRAPH_BYTES + 1, 1, []))
    (judged,) = build_check._judge([graph], [graph])
    assert judged.faults == (f"the graph has more than {GRAPH_BYTES:,} bytes",)


def recipe(**candidates):
    steps = [
        {"queries": {"tables": ["here/queries.txt"]}},
        {"candidates": {"inputs": ["gs://bucket/pairs-*.parquet"], **candidates}},
    ]
    return Recipe.parse({"name": "pairs", "steps": steps}, "recipe")


def test_a_recipe_is_graphed_without_its_inputs(monkeypatch):
    from openwit.pipeline.check import places

    monkeypatch.setattr(places, "_is_installed", lambda _: False)
    checked = check_build(recipe(), "gs://bucket/build", BeamEngine("dataflow", flags=FLAGS))
    assert checked.passed
    assert [(job.step, job.job) for job in checked.jobs] == [
        ("candidates", "Look at large inputs"),
        ("candidates", "Read inputs"),
    ]
    assert all(10_000 < job.bytes < GRAPH_BYTES and job.shuffles == 1 for job in checked.jobs)
    assert [note.partition(" ")[0] for note in checked.notes] == ["gcsfs", "google.auth"]


def test_what_workers_do_not_see_and_missing_flags(monkeypatch):
    monkeypatch.setattr(build_check, "_rehearse", lambda *_: ([], [], "it ended"))
    local = recipe(inputs=["here/pairs.parquet"], filters={"adult_words": "words.txt"})
    checked = check_build(local, "out/pairs", BeamEngine("dataflow", flags=["--temp_location=/tmp/x"]))
    assert not checked.passed
    assert checked.problems[:2] == [
        "--runner dataflow needs --project, --region after --: see docs/dataflow.md",
        "--temp_location=/tmp/x: must be a folder of Google's store (gs://BUCKET/…)",
    ]
    named = [problem.partition(":")[0] for problem in checked.problems[2:5]]
    assert named == ["--workdir", "candidates.inputs", "candidates.filters.adult_words"]
    assert checked.problems[5:] == ["it ended"]
    shared = check_build(local, "/shared/pairs", BeamEngine("portable"))
    assert "must be shared by all workers" in shared.notes[0]


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_an_engine_without_graphs_refuses(runner, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("name: a\nsteps:\n- queries: {tables: [q.txt]}\n")
    done = CliRunner().invoke(app, ["build", str(file), "--runner", runner, "--check"])
    assert f"--runner {runner} gets none" in str(done.exception)


@pytest.mark.parametrize(("workdir", "code"), [("gs://bucket/build", 0), ("out/build", 2)])
def test_the_exit_code_tells(workdir, code, tmp_path, monkeypatch):
    monkeypatch.setattr(build_check, "_rehearse", lambda *_: ([], [], ""))
    file = tmp_path / "recipe.yaml"
    file.write_text("name: a\nsteps:\n- queries: {tables: [q.txt]}\n")
    words = ["build", str(file), "--workdir", workdir, "--runner", "dataflow", "--check", "--", *FLAGS]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    assert ("Wrong: --workdir" in done.output) == bool(code)


@pytest.mark.engines
def test_every_stage_has_its_jobs_checked():
    steps = [
        {"queries": {"wikipedia": ["gs://b/w"], "pageviews": ["gs://b/v"], "wordnet": "builtin"}},
        {"candidates": {"inputs": ["gs://b/*.warc.gz"], "language": {"languages": ["de"]}}},
        {"select": {"target_pairs": 400_000_000, "oversample": 1.5}},
        {"fetch": {"engine": "img2dataset"}},
        {"dedup": {"exclude": ["gs://b/imagenet"]}},
        {"redraw": {}},
        {"shard": {}},
        {"card": {}},
    ]
    whole = Recipe.parse({"name": "all", "steps": steps}, "recipe")
    checked = check_build(whole, "gs://bucket/build", BeamEngine("dataflow", flags=FLAGS))
    assert checked.passed, checked
    jobs = {job.step: 0 for job in checked.jobs}
    assert set(jobs) == {"queries", "candidates", "select", "fetch", "dedup", "redraw", "shard"}
    assert len(checked.jobs) == 18
