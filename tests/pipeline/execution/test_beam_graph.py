"""Tasks travel in files of the work folder, also where that is a store."""

import pytest

from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.beam_graph import TASKS, _ReadTasks, listed_tasks, write_tasks
from openwit.pipeline.execution.jobs import FileTask, Task
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.storage import as_path


class WriteName(FileTask):
    """Write the name of a task."""

    def run(self, task, folder, stats):
        stats.enter("names/tasks")
        atomic_write(folder / task.name, task.name)
        return [folder / task.name]


def test_a_job_in_a_store():
    folder = as_path("memory://of-beam/work")
    tasks = [Task(n, f"task-{n}", None) for n in range(3)]
    results = BeamEngine().run_tasks(folder, tasks, "Write names", WriteName())
    assert [result.files[0].path for result in results] == ["task-0", "task-1", "task-2"]
    assert not list((folder / TASKS).glob("*"))


def test_files_of_tasks_are_named_without_the_tasks(tmp_path):
    tasks = [Task(n, f"{n}", None) for n in range(1001)]
    listed = write_tasks(tmp_path, tasks)
    assert listed == listed_tasks(tmp_path, 1001)
    assert len(listed) == 2
    assert [task for path in listed for task in _ReadTasks().process(path)] == tasks


@pytest.mark.parametrize("folder", ["memory://of-beam/nothing", "/nowhere"])
def test_a_worker_that_does_not_see_the_folder_says_so(folder):
    (path,) = listed_tasks(as_path(folder), 1)
    with pytest.raises(StorageError, match=f"does not see {folder}: give "):
        list(_ReadTasks().process(path))
