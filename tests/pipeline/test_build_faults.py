"""Disks that are full, limited, read-only or broken, at any write of a build: one sentence, and the build goes on."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from support.faults import FAULTS, FailingWrites, read_only
from support.serial_engine import SerialEngine
from support.small_build import make_recipe, run
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job, locked_stage
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.select import Select
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.command import user_errors
from openwit.schemas.common.errors import StorageError

STAGES = {"queries", "candidates", "select", "fetch", "dedup", "redraw"}
# Which write fails next: the last passes what a stage writes that is not resumed task by task.
NEXT = (2, 5, 9, 14, 48)
WIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from openwit.pipeline.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("built")
    recipe = make_recipe(folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    run(recipe, folder / "w")
    return recipe, folder / "w", dataset_tree(folder / "w" / "dataset")


def command(recipe: Recipe, workdir: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Build as a command does; return its exit code and what it printed on stderr."""
    code = 0
    try:
        with user_errors("wit"):
            run(recipe, workdir)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, capsys.readouterr().err


def test_a_fault_at_any_write_is_one_sentence_and_the_build_goes_on(built, tmp_path, monkeypatch, capsys):
    recipe, _, dataset = built
    faults = FailingWrites(monkeypatch)
    hit: list[Path] = []
    for attempt in range(100):
        faults.at(NEXT[attempt % len(NEXT)], FAULTS[attempt % len(FAULTS)])
        code, err = command(recipe, tmp_path / "w", capsys)
        if faults.failed is None:
            break
        hit.append(faults.failed.relative_to(tmp_path / "w"))
        assert code == 2
        assert err.startswith("wit: ")
        assert err.count("\n") == 1
        assert str(tmp_path) in err
        assert not list((tmp_path / "w").rglob(".partial-*"))
    assert (code, err) == (0, "")
    assert dataset_tree(tmp_path / "w" / "dataset") == dataset
    assert verify_dataset(tmp_path / "w" / "dataset") == []
    assert {path.parts[1] for path in hit if path.parts[0] == "stages"} == STAGES
    assert "dataset" in {path.parts[0] for path in hit}


@pytest.mark.parametrize("number", FAULTS)
def test_the_first_write_of_a_build_may_fail(built, tmp_path, monkeypatch, capsys, number):
    FailingWrites(monkeypatch).at(1, number)
    code, err = command(built[0], tmp_path / "w", capsys)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("limit", [6_000, 40_000])
def test_a_limit_on_the_size_of_files_is_one_sentence_of_the_command(built, tmp_path, limit):
    """With Beam's engine in another process: nothing of its log or of a traceback, and no file cut in silence."""
    recipe, whole, dataset = built
    shutil.copytree(whole, tmp_path / "w", ignore=shutil.ignore_patterns("card.*"))
    stages = ["queries", "candidates", "select", "fetch", "dedup", "redraw", "shard"]
    first = {6_000: "candidates", 40_000: "shard"}[limit]
    for stage in stages[stages.index(first) :]:
        shutil.rmtree(tmp_path / "w" / "stages" / stage, ignore_errors=True)
    shutil.rmtree(tmp_path / "w" / "dataset")
    arguments = ["build", str(whole.parent / "recipe.yaml"), "--workdir", str(tmp_path / "w")]
    done = subprocess.run(
        [sys.executable, "-c", WIT, str(limit), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("wit: no space is left on the disk of ")
    assert done.stderr.count("\n") == 1
    run(recipe, tmp_path / "w")
    assert dataset_tree(tmp_path / "w" / "dataset") == dataset


def test_a_finished_build_on_a_read_only_disk_has_nothing_to_do(built):
    recipe, whole, _ = built
    with read_only(whole):
        with pytest.raises(OSError, match="Read-only"):
            (whole / "x").write_text("")
        done = build(recipe, whole, Job(SerialEngine()))
        assert not done.executed
    with read_only(whole), pytest.raises(StorageError, match="Read-only file system"):
        Select().run(
            Job(SerialEngine()),
            SelectSettings(),
            {"candidates": whole / "stages" / "candidates", "queries": whole / "stages" / "queries"},
            whole / "stages" / "other",
        )


def test_an_unfinished_build_on_a_read_only_disk_is_one_sentence(built, tmp_path, capsys):
    recipe, whole, _ = built
    shutil.copytree(whole, tmp_path / "w")
    (tmp_path / "w" / "stages" / "dedup" / ".stage" / "manifest.json").unlink()
    with read_only(tmp_path / "w"):
        code, err = command(recipe, tmp_path / "w", capsys)
    assert (code, err.count("\n"), "Read-only file system" in err) == (2, 1, True)


def test_two_stage_commands_in_one_folder_do_not_meet(built):
    _, whole, _ = built
    folder = whole / "stages" / "select"
    with locked_stage(folder), pytest.raises(StorageError, match=f"another command is running in {folder}"):
        Select().run(
            Job(SerialEngine()),
            SelectSettings(),
            {"candidates": whole / "stages" / "candidates", "queries": whole / "stages" / "queries"},
            folder,
        )


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with locked_stage(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RuntimeError), locked_stage(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


GARBAGE = {"empty": b"", "binary": bytes(range(256)), "latin": b"name: \xe9t\xe9\n", "deep": b"[" * 100_000}
STATE = (
    "recipe.yaml",
    "stages/queries/.stage/claim.json",
    "stages/queries/.stage/manifest.json",
    "stages/select/.stage/manifest.json",
    "dataset/manifest.json",
    "dataset/.stage/manifest.json",
    "dataset/card.json",
    "dataset/card.sha256",
)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_the_files_of_a_build_is_one_sentence_or_made_anew(built, tmp_path, garbage, capsys):
    recipe, whole, dataset = built
    for name in STATE:
        work = tmp_path / "w"
        shutil.copytree(whole, work)
        (work / name).write_bytes(garbage)
        code, err = command(recipe, work, capsys)
        if code:
            assert (code, err.count("\n")) == (2, 1), name
            assert name.rpartition("/")[2] in err
        else:
            assert dataset_tree(work / "dataset") == dataset, name
        shutil.rmtree(work)


def test_a_signal_ends_a_build_that_goes_on_without_an_error(built, tmp_path, monkeypatch, capsys):
    """The exception of the signal is swallowed in the middle of a stage, as in a finaliser."""
    recipe, _, dataset = built
    rename, sent = os.replace, []

    def swallow(source, target):
        rename(source, target)
        if Path(target).parts[-3:-1] == ("select", "verdicts") and not sent:
            sent.append(True)
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("openwit.schemas.common.atomic.os.replace", swallow)
    code, err = command(recipe, tmp_path / "w", capsys)
    assert (code, err) == (130, "wit: stopped; run the same command to resume\n")
    assert not (tmp_path / "w" / "stages" / "fetch").exists()
    monkeypatch.undo()
    run(recipe, tmp_path / "w")
    assert dataset_tree(tmp_path / "w" / "dataset") == dataset


def test_long_paths_and_paths_through_files_are_one_sentence(built, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / ("a" * 300), tmp_path / "file" / "w", tmp_path / "/".join(["b" * 200] * 30)):
        code, err = command(built[0], workdir, capsys)
        assert (code, err.count("\n")) == (2, 1)
        assert len(err) < 600


def test_errors_of_the_system_are_user_errors(capsys):
    for error in (OSError(errno.EIO, "I/O", "f"), OSError("Couldn't deserialize thrift"), FileNotFoundError(2, "No")):
        with pytest.raises(SystemExit) as ended, user_errors("wit"):
            raise error
        assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
