"""Progress of a job: rows of every task once, at a cost that does not grow with the tasks that ended."""

import json

import pytest

from openwit.pipeline.execution import progress
from openwit.pipeline.execution.progress import JobProgress
from openwit.pipeline.execution.tasks import PROGRESS, RESULTS


def write(folder, name, rows, fraction=None, reasons=None):
    (folder / PROGRESS).mkdir(parents=True, exist_ok=True)
    state = {"rows": rows, "fraction": fraction, "reasons": reasons or {}}
    (folder / PROGRESS / f"{name}.json").write_text(json.dumps(state))


def finish(folder, name):
    (folder / RESULTS).mkdir(parents=True, exist_ok=True)
    (folder / RESULTS / f"{name}.json").write_text("{}")


def test_rows_and_fractions_of_running_and_finished_tasks(tmp_path):
    job = JobProgress(tmp_path, ["a", "b", "c", "d"])
    assert job.look() == progress.Snapshot(0.0, 0, 0, {})
    write(tmp_path, "a", 10, 0.5, {"dead": 2})
    write(tmp_path, "other job", 99, 0.5)
    seen = job.look()
    assert (seen.fraction, seen.tasks_done, seen.rows, seen.reasons) == (0.125, 0, 10, {"dead": 2})
    write(tmp_path, "a", 20, 1.0, {"dead": 3})
    finish(tmp_path, "a")
    finish(tmp_path, "c")  # ended before it reported
    write(tmp_path, "b", 5, None)
    for _ in range(3):
        seen = job.look()
        assert (seen.fraction, seen.tasks_done, seen.rows, seen.reasons) == (0.5, 2, 25, {"dead": 3})


@pytest.mark.parametrize("tasks", [100, 200, 400])
def test_the_cost_does_not_grow_with_finished_tasks(tmp_path, monkeypatch, tasks):
    names = [f"{n:05d}" for n in range(tasks)]
    for name in names[:-2]:
        write(tmp_path, name, 1)
        finish(tmp_path, name)
    for name in names[-2:]:
        write(tmp_path, name, 1)
    reads = []
    real = progress._read
    monkeypatch.setattr(progress, "_read", lambda path: reads.append(path) or real(path))
    job = JobProgress(tmp_path, names)
    assert job.look().rows == tasks
    assert len(reads) == tasks
    for _ in range(10):
        job.look()
    assert len(reads) == tasks + 10 * 2
