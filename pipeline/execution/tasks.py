"""Run file tasks that survive a kill: a task writes its files whole, and its result once all of them are written.

A task whose result exists is not run again. Output is named by the task, so an interrupted and an uninterrupted run
write the same bytes. Engines run `run_file_task` in their workers and the whole job inside `user_errors_of`.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from openwit.pipeline.execution.files import STAGE, file_entry, is_intact
from openwit.pipeline.execution.jobs import FileTask, Task, TaskResult, TaskStats
from openwit.schemas.common import errors
from openwit.schemas.common.atomic import TEMPORARY_PREFIX, atomic_write, version_of
from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.sealed import seal, unseal
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.common.storage_faults import storage_error, storage_faults
from openwit.schemas.manifest import FileEntry

RESULTS = f"{STAGE}/results"
PROGRESS = f"{STAGE}/progress"
FAILURES = f"{STAGE}/failures"

_WHOLE = "[!.]*.json"
"""Not what a killed process left half written."""
_RESULT = pydantic.TypeAdapter(TaskResult)
_IN_TRACEBACK = re.compile(rf"^{re.escape(errors.__name__)}\.(\w+): (.+?)(?: \[while running .*)?$", re.MULTILINE)


def task_stats(folder: Path, name: str) -> TaskStats:
    """Return the statistics of a task that report its progress below the folder."""
    return TaskStats(folder / PROGRESS / f"{name}.json")


def run_file_task(folder: Path, task: Task[Any], file_task: FileTask[Any]) -> TaskResult:
    """Run a task unless its result exists, and record its result; a user's error is recorded for the driver.

    Raises:
        OpenWITError: the task met bad input.
    """
    stop_if_asked()
    result = read_result(folder, task.name)
    if result is not None and (
        is_store(folder) or all(is_intact(folder / entry.path, entry) for entry in result.files)
    ):
        return result
    stats = task_stats(folder, task.name)
    try:
        with storage_faults(folder, only_os_errors=True):
            paths = file_task.run(task, folder, stats)
            files = [path if isinstance(path, FileEntry) else file_entry(folder, path) for path in paths]
            result = stats.result(task.name, files)
            result = write_result(folder, result)
    except OpenWITError as error:
        # Engines wrap what a worker raises; the sentence for the user is passed by a file instead.
        with contextlib.suppress(OSError):  # on a full disk it is found in what the engine raises
            atomic_write(folder / FAILURES / f"{task.name}.json", json.dumps(_failure(error)))
        raise
    return result


def write_result(folder: Path, result: TaskResult, where: str = RESULTS) -> TaskResult:
    """Record the result of a finished task, or below another folder of a finished part of one, by its name.

    Returns:
        The result, with the versions of its files if they are in a store.
    """
    if is_store(folder):
        versions = {entry.path: version_of(folder / entry.path) for entry in result.files}
        result = replace(result, versions=versions)
    text = json.dumps(_RESULT.dump_python(result, mode="json"), sort_keys=True)
    atomic_write(folder / where / f"{result.task}.json", seal(text))
    return result


def read_result(folder: Path, name: str, where: str = RESULTS) -> TaskResult | None:
    """Return the result of a finished task, or None when the task must be run (again); see `write_result`.

    Its files are there and have their sizes, in a store also their versions or bytes; `run_file_task` compares the
    bytes of local files too, so that a task whose files were damaged since is run again.
    """
    path = folder / where / f"{name}.json"
    try:
        result = _RESULT.validate_json(unseal(path.read_bytes(), path))
    except (FileNotFoundError, ValueError):
        return None
    complete = all(_is_there(folder / entry.path, entry, result) for entry in result.files)
    return result if complete else None


def finished_results(folder: Path) -> Iterator[TaskResult]:
    """Return the results of all finished tasks of a folder, in order of name."""
    for path in sorted((folder / RESULTS).glob(_WHOLE)):
        result = read_result(folder, path.stem)
        if result is not None:
            yield result


def _is_there(path: Path, entry: FileEntry, result: TaskResult) -> bool:
    if is_store(path):
        return is_intact(path, entry, result.versions.get(entry.path, ""))
    try:
        return path.stat().st_size == entry.bytes
    except FileNotFoundError:
        return False


def results_of(folder: Path, tasks: Sequence[Task[Any]]) -> list[TaskResult]:
    """Return the results of finished tasks, in task order."""
    results = []
    for task in tasks:
        result = read_result(folder, task.name)
        if result is None:
            raise StorageError(f"{folder} lost what task {task.name} wrote: run the same command")
        results.append(result)
    return results


@contextmanager
def user_errors_of(folder: Path) -> Iterator[None]:
    """Run a job whose tasks write below `folder`; turn what an engine raises into the user's error behind it.

    Raises:
        OpenWITError: a task raised it, with its own message.
        StorageError: the disk is full.
    """
    failures = folder / FAILURES
    for old in failures.glob(_WHOLE):
        old.unlink()
    try:
        yield
    except Exception as error:
        stop_if_asked()
        for failure in sorted(failures.glob(_WHOLE)):
            raise _error_of(json.loads(failure.read_text())) from error
        cause = _error_in(str(error)) or storage_error(error, folder)
        if cause is None:
            raise
        raise cause from error


def _error_in(text: str) -> OpenWITError | None:
    """Return the user's error that a traceback in a message ends with."""
    found = _IN_TRACEBACK.findall(text)
    return None if not found else _error_of({"error": found[-1][0], "message": found[-1][1]})


def _failure(error: OpenWITError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _error_of(failure: dict[str, str]) -> OpenWITError:
    kind: type[OpenWITError] = getattr(errors, failure["error"], OpenWITError)
    return kind(failure["message"])


def clean_partials(folder: Path) -> None:
    """Remove files that killed tasks wrote in part, anywhere below a stage's folder."""
    if is_store(folder):  # what is sent appears when it is whole
        return
    for root, _, names in os.walk(folder):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                Path(root, name).unlink(missing_ok=True)
