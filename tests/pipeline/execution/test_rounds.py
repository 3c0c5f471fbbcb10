"""Jobs of rounds: the same files and sums from Beam and from the plain definition in `support.serial_engine`."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from support.serial_engine import SerialEngine

from openwit.pipeline.execution.blobs import concat_blobs, split_by, to_blob
from openwit.pipeline.execution.jobs import (
    Addend,
    Emitter,
    FileTask,
    Grouping,
    KeyedBlob,
    Round,
    RoundsJob,
    Task,
    VectorSum,
)
from openwit.pipeline.execution.runners import make_engine
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError

LENGTH = 10


@dataclass(frozen=True)
class Numbers:
    """`count` numbers from `first` on."""

    first: int
    count: int


class WriteCount(FileTask[Numbers]):
    def run(self, task, folder, stats):
        stats.enter("numbers/rows", task.payload.count)
        atomic_write(folder / "counts" / f"{task.name}.txt", str(task.payload.count))
        return [folder / "counts" / f"{task.name}.txt"]


class SendNumbers(Emitter[Numbers]):
    def __init__(self, bad=None):
        self.bad = bad

    def setup(self):
        self.modulus = LENGTH

    def emit(self, task):
        if task.number == self.bad:
            raise DataError("the numbers are wrong: take others")
        yield KeyedBlob("files", task.number, b"")
        numbers = np.arange(task.payload.first, task.payload.first + task.payload.count)
        yield Addend("seen", np.bincount(numbers % self.modulus, minlength=LENGTH))
        table = pa.table({"file": np.full(len(numbers), task.number), "number": numbers})
        for key, part in split_by(table, numbers % self.modulus):
            yield KeyedBlob("numbers", key, to_blob(part))


class Smallest(Grouping):
    """Keeps the smallest number of a key, and sends it to its file and to the bucket of its half."""

    def process(self, key, streams):
        table = concat_blobs(streams["numbers"]).sort_by("number")
        yield KeyedBlob("halves", key // 2, to_blob(table.slice(0, 1)))
        yield KeyedBlob("winners", table.column("file")[0].as_py(), to_blob(table.slice(0, 1)))
        yield Addend("won", np.bincount([key], minlength=LENGTH))


class Halves(Grouping):
    """Joins two streams: the winners of a half, and the numbers of a key that is equal to it."""

    def process(self, key, streams):  # noqa: ARG002
        if streams["halves"] and streams["numbers"]:
            table = concat_blobs([*streams["halves"], *streams["numbers"]]).sort_by("number")
            yield KeyedBlob("winners", table.column("file")[-1].as_py(), to_blob(table.slice(table.num_rows - 1)))


class WriteWinners(Grouping):
    def __init__(self, folder):
        self.folder = folder

    def process(self, key, streams):
        rows = concat_blobs(streams["winners"]).sort_by("number").to_pylist() if streams["winners"] else []
        assert streams["files"] == [b""]
        atomic_write(self.folder / "winners" / f"{key}.txt", "\n".join(str(row["number"]) for row in rows))
        return iter(())


def job(folder, bad=None):
    tasks = [
        Task(n, f"{n:05d}", Numbers(first, count)) for n, (first, count) in enumerate([(0, 37), (90, 25), (7, 0)])
    ]
    return RoundsJob(
        "Count",
        tasks,
        SendNumbers(bad),
        ("numbers", "files"),
        [
            Round("Take the smallest", ("numbers",), Smallest(), ("winners", "halves")),
            Round("Join halves", ("halves", "numbers"), Halves(), ("winners",)),
            Round("Write winners", ("winners", "files"), WriteWinners(folder)),
        ],
        file_task=WriteCount(),
        sums=(VectorSum("seen", LENGTH), VectorSum("won", LENGTH), VectorSum("nobody's", 3)),
    )


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outputs(folder):
    return {path: data for path, data in files(folder).items() if path.parts[:2] != (".stage", "sums")}


@pytest.fixture(scope="module", params=[("local", 1), ("local", 2), ("beam", 1)], ids=str)
def engine(request):
    made = make_engine(*request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def defined(tmp_path_factory):
    """The sums and files of the definition."""
    folder = tmp_path_factory.mktemp("defined")
    return SerialEngine().run_rounds(folder, job(folder)), outputs(folder)


def test_an_engine_gives_what_the_definition_gives(engine, defined, tmp_path):
    for again in ("first", "second"):
        sums = engine.run_rounds(tmp_path / again, job(tmp_path / again))
        assert {name: vector.tolist() for name, vector in sums.items()} == {
            n: v.tolist() for n, v in defined[0].items()
        }
        assert outputs(tmp_path / again) == defined[1]
    assert sums["seen"].sum() == 37 + 25
    assert sums["won"].tolist() == [1] * LENGTH
    assert sums["nobody's"].tolist() == [0, 0, 0]
    assert len(files(tmp_path / again / "winners")) == 3


def test_the_order_of_tasks_and_blobs_does_not_matter(defined, tmp_path):
    for seed in range(1, 5):
        folder = tmp_path / str(seed)
        sums = SerialEngine(seed).run_rounds(folder, job(folder))
        assert {name: vector.tolist() for name, vector in sums.items()} == {
            n: v.tolist() for n, v in defined[0].items()
        }
        assert outputs(folder) == defined[1]


def test_an_error_in_an_emitter_is_the_users_own(engine, tmp_path):
    with pytest.raises(DataError, match="^the numbers are wrong: take others$"):
        engine.run_rounds(tmp_path, job(tmp_path, bad=1))
    assert not (tmp_path / ".stage" / "exchange").exists()


def test_the_definition_raises_the_users_own_error(tmp_path):
    with pytest.raises(DataError, match="^the numbers are wrong: take others$"):
        SerialEngine().run_rounds(tmp_path, job(tmp_path, bad=1))


def test_a_job_whose_streams_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="round 'early' reads late, which no step writes"):
        RoundsJob("x", [], SendNumbers(), ("a",), [Round("early", ("late",), Smallest(), ("late",))])
    with pytest.raises(ValueError, match="two rounds are called 'same'"):
        RoundsJob("x", [], SendNumbers(), ("a",), [Round("same", ("a",), Smallest())] * 2)


def test_a_graph_of_beam_holds_no_tasks(tmp_path):
    """Graphs are limited by runners: with ten times the tasks a graph is a few file names larger."""
    import apache_beam as beam

    from openwit.pipeline.execution.beam_graph import build_rounds, write_tasks

    sizes = []
    for tasks in (1_000, 10_000):
        numbers = [Task(n, f"task-{n:05d}", Numbers(n, 1)) for n in range(tasks)]
        job = RoundsJob("Sum numbers", numbers, SendNumbers(), ("files", "numbers"), [], sums=())
        pipeline = beam.Pipeline()
        folder = tmp_path / str(tasks)
        build_rounds(pipeline, folder, job, write_tasks(folder, numbers))
        sizes.append(len(pipeline.to_runner_api().SerializeToString()))
    assert sizes[1] < sizes[0] + 9 * 500
