import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass

import pytest

from openwit.pipeline.execution.jobs import FileTask, Task
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageResult, run_stage
from openwit.pipeline.execution.tasks import FAILURES, read_result
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError


@dataclass(frozen=True)
class Text:
    text: str


class Shout(FileTask):
    """Writes its text in capitals; refuses some texts; leaves a mark each time it is called."""

    def run(self, task, folder, stats):
        with (folder / "calls").open("a") as calls:
            calls.write(f"{task.name}\n")
        text = task.payload.text
        if text == "forbidden":
            raise OpenWITError("the text 'forbidden' is not allowed: take another")
        stats.enter("shout/texts", 2)
        stats.leave("shout/texts")
        stats.drop("shout/texts", "whisper")
        target = folder / "out" / f"{task.name}.txt"
        atomic_write(target, text.upper())
        return [target]


def tasks(*texts):
    return [Task(n, f"{n:05d}", Text(text)) for n, text in enumerate(texts)]


def calls(folder):
    return Counter((folder / "calls").read_text().split())


@pytest.fixture(scope="module", params=[("local", 1), ("local", 2), ("beam", 1)], ids=str)
def engine(request):
    made = make_engine(*request.param)
    yield made
    made.close()


def test_done_tasks_are_not_done_again(engine, tmp_path):
    results = engine.run_tasks(tmp_path, tasks("a", "b"), "Shout", Shout())
    assert [asdict(r.steps["shout/texts"]) for r in results] == [
        {"rows_in": 2, "rows_out": 1, "reasons": {"whisper": 1}}
    ] * 2
    assert engine.run_tasks(tmp_path, tasks("a", "b", "c"), "Shout", Shout())[:2] == results
    assert calls(tmp_path) == {"00000": 1, "00001": 1, "00002": 1}


def test_a_task_whose_file_is_gone_or_cut_is_done_again(engine, tmp_path):
    engine.run_tasks(tmp_path, tasks("a", "bb"), "Shout", Shout())
    (tmp_path / "out" / "00001.txt").write_text("B")
    assert read_result(tmp_path, "00001") is None
    engine.run_tasks(tmp_path, tasks("a", "bb"), "Shout", Shout())
    assert (tmp_path / "out" / "00001.txt").read_text() == "BB"


def test_a_users_error_comes_out_of_the_runner_as_itself(engine, tmp_path):
    with pytest.raises(OpenWITError, match="^the text 'forbidden' is not allowed: take another$"):
        engine.run_tasks(tmp_path, tasks("a", "forbidden"), "Shout", Shout())
    assert list((tmp_path / FAILURES).iterdir())
    engine.run_tasks(tmp_path, tasks("a", "fine"), "Shout", Shout())
    assert not list((tmp_path / FAILURES).iterdir())


def test_worker_processes_give_the_same_files(tmp_path):
    for runner, workers in (("local", 1), ("local", 2), ("beam", 2)):
        engine = make_engine(runner, workers)
        engine.run_tasks(tmp_path / f"{runner}{workers}", tasks("a", "b", "c"), "Shout", Quiet())
        engine.close()
    for name in ("00000", "00001", "00002"):
        first, *others = ((folder / "out" / f"{name}.txt").read_bytes() for folder in sorted(tmp_path.iterdir()))
        assert others == [first] * 2


class Quiet(Shout):
    def run(self, task, folder, stats):
        folder.mkdir(parents=True, exist_ok=True)
        return super().run(task, folder, stats)


def test_unknown_runner_is_named():
    with pytest.raises(OpenWITError, match="nowhere.*local.*beam"):
        make_engine("nowhere", 1)
    with pytest.raises(OpenWITError, match="--runner dask: it loses rows silently: use --runner ray"):
        make_engine("dask", 1)


def job(replace=False):
    return Job(make_engine("local", 1), replace=replace)


def body(folder, counted):
    def run():
        counted.append(1)
        atomic_write(folder / "out.txt", "x")
        return StageResult()

    return run


def test_a_stage_is_run_once_and_refuses_other_settings(tmp_path):
    folder, counted = tmp_path / "s", []

    def stage(settings, replace=False):
        return run_stage(job(replace), folder, "s", 1, settings, {"in": "1"}, body(folder, counted))

    first, did = stage({"cap": 1})
    assert did
    assert stage({"cap": 1}) == (first, False)
    refused = r"another recipe or input \(settings.cap was 1, now 2\).*or set replace to rebuild this one"
    with pytest.raises(OpenWITError, match=refused):
        stage({"cap": 2})
    assert (folder / "out.txt").exists()
    assert stage({"cap": 2}, replace=True)[1]
    assert len(counted) == 2


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OpenWITError, match="is not empty and was not made by this stage"):
        run_stage(job(), tmp_path, "s", 1, {}, {}, body(tmp_path, []))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpenWITError, match="cannot be written"):
        run_stage(job(), tmp_path / "file" / "s", "s", 1, {}, {}, body(tmp_path, []))


SLOW = """
import sys, time
from pathlib import Path
from openwit.pipeline.execution.jobs import FileTask, Task
from openwit.pipeline.execution.runners import make_engine
from openwit.schemas.common.atomic import atomic_path

class Slow(FileTask):
    def run(self, task, folder, stats):
        target = folder / "out" / f"{task.name}.txt"
        with atomic_path(target) as path, path.open("w") as file:
            for n in range(20):
                file.write(f"{task.name} {n}\\n"); file.flush(); time.sleep(0.02)
        return [target]

def main():
    tasks = [Task(n, f"{n:05d}", None) for n in range(4)]
    make_engine(sys.argv[2], int(sys.argv[3])).run_tasks(Path(sys.argv[1]), tasks, "Slow", Slow())
"""


@pytest.mark.parametrize("where", [("local", 1), ("local", 2), ("beam", 1)], ids=str)
def test_a_kill_loses_nothing_that_was_done_and_leaves_nothing_half(where, tmp_path):
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    folder = tmp_path / "killed"

    def command(folder, runner, workers):
        return [sys.executable, "-c", "import slow; slow.main()", str(folder), runner, str(workers)]

    process = subprocess.Popen(command(folder, *where), env=environment)
    results = folder / ".stage" / "results"
    # The runner takes the tasks in an order of its own.
    while len(list(results.glob("0*.json"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.stem: (folder / "out" / f"{path.stem}.txt").stat().st_mtime_ns for path in results.glob("0*.json")}
    assert 2 <= len(done) <= 4
    subprocess.run(command(folder, *where), env=environment, check=True)
    subprocess.run(command(tmp_path / "undisturbed", "local", 1), env=environment, check=True)
    whole = sorted((tmp_path / "undisturbed" / "out").glob("*.txt"))
    assert [path.name for path in whole] == ["00000.txt", "00001.txt", "00002.txt", "00003.txt"]
    for path in whole:
        assert path.read_bytes() == (folder / "out" / path.name).read_bytes()
    for name, written in done.items():
        assert (folder / "out" / f"{name}.txt").stat().st_mtime_ns == written
