"""Worker processes: results, errors, logs, deaths of workers and of the driver."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from openwit.pipeline.execution import local_pool, pool_worker
from openwit.pipeline.execution.engine import default_workers
from openwit.pipeline.execution.local_pool import LocalPool
from openwit.schemas.common.errors import DataError, RecipeError, WorkerError

NAMES = [f"item {n}" for n in range(100)]


@pytest.fixture
def pool():
    made = LocalPool(2, cores=4)
    yield made
    made.close()


@dataclass
class Square:
    folder: Path

    def setup(self):
        (self.folder / f"setup-{os.getpid()}-{time.monotonic_ns()}").touch()

    def run(self, item):
        if item == "bad":
            raise DataError("the item is bad: take another")
        if item == "broken":
            raise Unpicklable(lambda: None)
        if item == "log":
            logging.getLogger("openwit.test").warning("seen %d", 7)
            return 0
        if item == "cores":
            return default_workers()
        return item * item


class Unpicklable(Exception):  # noqa: N818
    pass


def results(pool, work, items):
    return dict(pool.run(work, items, NAMES))


def test_every_item_is_done_once_and_workers_stay(pool, tmp_path):
    assert results(pool, Square(tmp_path), list(range(50))) == {n: n * n for n in range(50)}
    pids = {path.name.split("-")[1] for path in tmp_path.iterdir()}
    assert 1 <= len(pids) <= 2
    assert len(list(tmp_path.iterdir())) == len(pids)  # set up once per worker
    (tmp_path / "second").mkdir()
    assert results(pool, Square(tmp_path / "second"), list(range(50)))[7] == 49
    assert pids & {path.name.split("-")[1] for path in (tmp_path / "second").iterdir()}
    assert results(pool, Square(tmp_path), ["cores", "cores"]) == {0: 2, 1: 2}
    wide = LocalPool(4, cores=8)
    assert results(wide, Square(tmp_path), ["cores", "cores"]) == {0: 4, 1: 4}
    assert results(wide, Square(tmp_path), ["cores"] * 9)[8] == 2
    wide.close()


@dataclass
class Pause:
    def setup(self):
        pass

    def run(self, item):
        time.sleep(item)
        return os.getpid()


def test_a_second_worker_starts_with_a_job_that_takes_a_while_and_stays(pool, monkeypatch):
    monkeypatch.setattr(local_pool, "_ALONE_S", 1e9)
    assert len(set(results(pool, Pause(), [0.01] * 20).values())) == 1
    monkeypatch.setattr(local_pool, "_ALONE_S", 0)
    assert len(set(results(pool, Pause(), [0.05] * 40).values())) == 2
    # It is there now, so the next job uses it from the start.
    monkeypatch.setattr(local_pool, "_ALONE_S", 1e9)
    assert len(set(results(pool, Pause(), [0.05] * 40).values())) == 2


def test_an_error_ends_the_run_and_not_the_pool(pool, tmp_path):
    with pytest.raises(DataError, match="^the item is bad: take another$"):
        results(pool, Square(tmp_path), [1, 2, "bad", *range(20)])
    with pytest.raises(RuntimeError, match="Unpicklable"):
        results(pool, Square(tmp_path), [1, "broken"])
    assert results(pool, Square(tmp_path), [3, 4]) == {0: 9, 1: 16}


def test_what_workers_log_is_logged_here(pool, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "openwit"):
        results(pool, Square(tmp_path), ["log", 1])
    assert "seen 7" in caplog.messages


@dataclass
class Mortal:
    """Dies at an item as often as its file says, or always."""

    folder: Path
    times: int = 1

    def setup(self):
        pass

    def run(self, item):
        time.sleep(0.02)
        deaths = self.folder / f"deaths-{item}"
        if item % 10 == 5:
            died = len(deaths.read_text()) if deaths.exists() else 0
            if died < self.times:
                deaths.write_text("x" * (died + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return -item


@pytest.mark.parametrize("times", [1, 2])
def test_the_items_of_a_dead_worker_are_done_again(pool, tmp_path, times, caplog):
    began = time.monotonic()
    assert results(pool, Mortal(tmp_path, times), list(range(30))) == {n: -n for n in range(30)}
    assert "a worker process died" in caplog.text
    assert time.monotonic() - began < 30  # it does not wait for the dead


def test_an_item_that_kills_each_worker_is_named(pool, tmp_path):
    with pytest.raises(WorkerError, match=r"a worker process died 3 times while it ran only 'item 5': did "):
        results(pool, Mortal(tmp_path, 1000), list(range(8)))


class InMain:
    """Pretends to be defined in the main script."""

    def setup(self):
        pass

    def run(self, item):
        return item


def test_work_that_workers_cannot_import_is_refused(pool, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules["__main__"], "InMain", InMain, raising=False)
    monkeypatch.setattr(InMain, "__module__", "__main__")
    with pytest.raises(RecipeError, match="InMain is defined in the main script or a notebook"):
        results(pool, InMain(), [1, 2])
    with pytest.raises(RecipeError, match="cannot be sent to worker processes"):
        results(pool, Square(lambda: None), [1, 2])
    assert results(pool, InMain(), [1]) == {0: 1}  # one item runs here
    assert results(LocalPool(2, cores=2, required=False), InMain(), [1, 2]) == {0: 1, 1: 2}
    assert "InMain is defined in the main script" in caplog.text


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
print("main", flush=True)
from test_local_pool import Sleep
from openwit.pipeline.execution.local_pool import LocalPool
pool = LocalPool(2, cores=2)
print(sorted(dict(pool.run(Sleep(Path({folder!r}), {seconds}), [1, 2], ["a", "b"])).items()), flush=True)
"""


@dataclass
class Sleep:
    folder: Path
    seconds: float

    def setup(self):
        pass

    def run(self, item):
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds)
        return item


def script(folder, seconds):
    text = textwrap.dedent(SCRIPT).format(here=str(Path(__file__).parent), folder=str(folder), seconds=seconds)
    (folder / "main.py").write_text(text)
    return [sys.executable, str(folder / "main.py")]


def test_a_script_without_a_guard_runs_once(tmp_path):
    done = subprocess.run(script(tmp_path, 0.0), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "main\n[(0, 1), (1, 2)]\n"
    assert done.stderr == ""


def test_workers_end_with_a_killed_driver(tmp_path):
    with subprocess.Popen(script(tmp_path, 600.0), stdout=subprocess.PIPE, text=True) as driver:
        assert wait_for(lambda: len(pids(tmp_path)) == 2)
        workers = pids(tmp_path)
        driver.kill()
    assert wait_for(lambda: not any(map(runs, workers)))


def pids(folder):
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_nothing_runs_after_close(pool, tmp_path):
    results(pool, Square(tmp_path), [1, 2, 3])
    pids = [int(path.name.split("-")[1]) for path in tmp_path.iterdir()]
    pool.close()
    assert not any(map(runs, pids))
    assert pool_worker._current is None  # workers only


def test_the_fork_server_imports_libraries_before_there_is_work(tmp_path):
    code = (
        "import time; from multiprocessing import forkserver; "
        "from openwit.pipeline.execution.local_pool import LocalPool; pool = LocalPool(2, cores=2); pool.prepare(); "
        "pid = forkserver._forkserver._forkserver_pid; print(pid is not None); pool.prepare(); "
        "print(pid == forkserver._forkserver._forkserver_pid); pool.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["True", "True"]
