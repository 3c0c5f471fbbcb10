"""Batches made by processes: those of threads, and nothing left however they end."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import DataError, OpenWITError, RecipeError, WorkerError
from openwit.training.config import DataSettings
from openwit.training.config.zoo import InputSpec
from openwit.training.data.captioned_files import captioned_folder
from openwit.training.data.loader import Batch, Loader
from openwit.training.data.parts import PartLoader
from openwit.training.data.sources import open_loader, open_source, open_steps
from openwit.training.tokenizer.bpe import clip_tokenizer

ROOT = Path(__file__).parents[3]
INPUTS = InputSpec(image_size=16, context_length=8)


def settings(folder: Path, **more: Any) -> DataSettings:
    return DataSettings.model_validate(
        {"dataset": folder, "batch_size": 10, "workers": 2, "crop": "random_resized_crop", **more}
    )


def loader(data: DataSettings, start: int = 0) -> Any:
    source = open_source(data, seed=3, report=lambda _: None)
    return open_loader(source, data, inputs=INPUTS, tokenizer=clip_tokenizer(), seed=3, start=start, total=None)


def pids(made: Any) -> list[int]:
    pool = made._maker.pool
    assert pool is not None
    return list(pool.pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def mixed(dataset: Path) -> Iterator[tuple[Path, Any, list[Batch]]]:
    """A loader of two processes in use, with its first batches."""
    with loader(settings(dataset, workers_in="processes")) as made:
        yield dataset, made, list(islice(made, 7))


def test_batches_are_those_of_threads(mixed: tuple[Path, Any, list[Batch]]) -> None:
    dataset, _, batches = mixed
    with loader(settings(dataset)) as threads:
        for batch, wanted in zip(batches, threads, strict=False):
            assert batch.keys == wanted.keys
            assert torch.equal(batch.images, wanted.images)
            assert torch.equal(batch.tokens, wanted.tokens)
            assert batch.images.stride() == wanted.images.stride()
            assert (batch.seen, batch.rows, batch.corrupt) == (wanted.seen, wanted.rows, wanted.corrupt)


def test_they_load_no_torch_and_leave_no_name(mixed: tuple[Path, Any, list[Batch]]) -> None:
    _, made, _ = mixed
    for pid in pids(made):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "openwit-batches (deleted)" in maps
    assert not [path for path in Path("/dev/shm").glob("*") if "openwit" in path.name]


def test_a_killed_process_is_one_sentence_and_the_others_end(mixed: tuple[Path, Any, list[Batch]]) -> None:
    _, made, _ = mixed
    numbers = pids(made)
    os.kill(numbers[0], signal.SIGKILL)
    wanted = r"^a process that prepares batches was killed \(SIGKILL\), usually because the machine .* data\.workers"
    with pytest.raises(WorkerError, match=wanted):
        list(islice(made, 40))
    made.__exit__()
    assert not any(alive(pid) for pid in numbers)


@pytest.mark.slow
def test_parts_errors_and_every_local_source(factory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = [factory.coloured(number, "s") for number in range(12)]
    spoiled[5] = factory.Made("bad", b"no image", ("text",))
    folder = factory.write_dataset(tmp_path / "d", {"train": spoiled})
    (tmp_path / "own.py").write_text("def broken(image, rng):\n    raise KeyError('own')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for more in ({"dataset": None, "tars": [str(folder / "train")]}, {"dataset": str(folder)}):
        both = []
        for where in ("threads", "processes"):
            data = settings(folder, workers=1, workers_in=where, **{"batch_size": 12, **more})
            source = open_source(data, seed=3, report=lambda _: None)
            with open_steps(
                source, data, chunk=5, inputs=INPUTS, tokenizer=clip_tokenizer(), seed=3, start=0, total=24
            ) as steps:
                assert isinstance(steps, PartLoader)
                both.append([part for _ in range(2) for part in next(steps)])
        assert [(one.keys, one.corrupt, one.rows) for one in both[0]] == [
            (one.keys, one.corrupt, one.rows) for one in both[1]
        ]
        assert all(torch.equal(one.images, other.images) for one, other in zip(*both, strict=True))
        assert sum(len(one.corrupt) for one in both[1]) == 2
    own = settings(folder, workers=1, workers_in="processes", augment=[{"name": "own.broken"}])
    with loader(own) as made, pytest.raises(RecipeError, match="own.broken' failed: KeyError: 'own'"):
        assert isinstance(made, Loader)
        next(made)


def test_sources_travel(tmp_path: Path, factory: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.jpg").write_bytes(factory.coloured(1, "s").image)
    classes = captioned_folder(tmp_path, class_caption="a {}", report=lambda _: None)
    (tmp_path / "a" / "one.txt").write_text("words")
    beside = captioned_folder(tmp_path, class_caption="a {}", report=lambda _: None)
    for source in (classes, beside):
        again = pickle.loads(pickle.dumps(source))
        assert [again.sample(number) for number in range(len(source))] == [
            source.sample(number) for number in range(len(source))
        ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"workers": 0}, "workers_in: processes needs workers"),
        ({"dataset": "s3://b/d", "remote": "stream"}, "workers_in: processes cannot share one stream"),
        ({"dataset": None, "tars": ["s3://b/1.tar"], "samples": 9}, "workers_in: processes cannot share one stream"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(tmp_path, workers_in="processes", **more)


LOADING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_worker_pool as here
with here.loader(here.settings(Path(sys.argv[1]), workers=1, workers_in="processes")) as made:
    next(made)
    print(*here.pids(made), flush=True)
    while True:
        next(made)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_a_run_that_is_killed_or_interrupted(dataset: Path, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOADING, str(dataset), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        numbers = [int(pid) for pid in child.stdout.readline().split()]
        assert len(numbers) == 1
        child.send_signal(how)
        child.communicate(timeout=30)
    until = time.monotonic() + 20
    while any(alive(pid) for pid in numbers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in numbers)
    assert not [path for path in Path("/dev/shm").glob("*") if "openwit" in path.name]


def test_an_error_keeps_its_kind_and_tells_where_and_why_it_was_raised() -> None:
    from openwit.training.data.worker_process import _portable

    try:
        try:
            int("seven")
        except ValueError as error:
            raise DataError("the shard is damaged") from error
    except DataError as error:
        found = pickle.loads(pickle.dumps(_portable(error)))
    assert type(found) is DataError
    assert str(found) == "the shard is damaged"
    [note] = found.__notes__
    assert 'int("seven")' in note
    assert "ValueError" in note


def test_an_error_that_cannot_travel_has_its_text() -> None:
    from openwit.training.data.worker_process import _portable

    class OddError(OpenWITError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    try:
        raise OddError(1, 2)
    except OddError as error:
        found = _portable(error)
    assert isinstance(found, RuntimeError)
    assert "1 2" in str(found)
