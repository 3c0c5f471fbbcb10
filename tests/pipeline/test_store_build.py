"""Whole builds whose folders are in a store: the same bytes as in local folders, and nothing left on this machine."""

import tempfile

import fsspec
import pytest
from support.small_build import make_recipe, run
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.cli.main import main
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage import as_path


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    recipe = make_recipe(folder)
    run(recipe, folder / "w")
    return recipe, dataset_tree(folder / "w" / "dataset")


@pytest.fixture
def work():
    yield as_path("memory://bucket/birds")
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_the_bytes_are_those_of_a_local_build(local, work, tmp_path, monkeypatch):
    recipe, expected = local
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    job = Job(make_engine("local", 1))
    assert build(recipe, work, job).where == "memory://bucket/birds/dataset"
    assert dataset_tree(work / "dataset") == expected
    assert verify_dataset(str(work / "dataset")) == []
    # What is read again and again is kept for this process only.
    assert {path.name for path in scratch.iterdir() if not path.name.startswith("openwit-")} == set()
    assert not build(recipe, work, job).executed
    [kept], _ = explain(str(work / "dataset"), "0000000000")
    assert kept.key == "0000000000"


def test_an_interrupted_build_goes_on(local, work):
    recipe, expected = local

    def stop(step):
        if step.name == "fetch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, work, Job(make_engine("local", 1)), on_step=stop)
    # Other processes would not see this store.
    done = build(recipe, work, Job(make_engine("local", 2)))
    assert [step.executed for step in done.steps[:4]] == [False] * 4
    assert dataset_tree(work / "dataset") == expected


def test_damage_between_stages_is_noticed(local, work):
    recipe, _ = local

    def damage(step):
        if step.name == "candidates":
            [first, *_] = sorted((work / "stages" / "candidates" / "candidates").glob("*.parquet"))
            data = bytearray(first.read_bytes())
            data[len(data) // 2] ^= 1
            first.write_bytes(bytes(data))

    with pytest.raises(
        Exception, match=r"memory://bucket/birds/stages/candidates/.* has changed since it was written"
    ):
        build(recipe, work, Job(make_engine("local", 1)), on_step=damage)


def test_a_folder_of_something_else_is_refused(local, work):
    recipe, _ = local
    (work / "stages" / "queries" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="memory://bucket/birds holds stages/ or dataset/ of something else"):
        build(recipe, work, Job(make_engine("local", 1)))


def test_two_builds_do_not_meet(local, work, monkeypatch):
    from openwit.schemas.common.storage import leases

    recipe, _ = local
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    with hold_lock(work / ".lock", "busy"), pytest.raises(StorageError, match="another build is running in memory://"):
        build(recipe, work, Job(make_engine("local", 1)))


def test_a_url_with_a_password_is_refused_by_commands(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["wit", "card", "s3://me:secret@bucket/x"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    monkeypatch.setattr("sys.argv", ["wit", "build", "r.yaml", "--workdir", "s3://me:secret@bucket/x"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "secret" not in capsys.readouterr().err


def test_images_that_were_replaced_between_stages_are_noticed(local, work):
    recipe, _ = local

    def damage(step):
        if step.name == "fetch":
            [first, *_] = sorted((work / "stages" / "fetch" / "images").glob("*.parquet"))
            data = bytearray(first.read_bytes())
            data[len(data) // 2] ^= 1
            first.write_bytes(bytes(data))

    with pytest.raises(DataError, match=r"stages/fetch/images/.* has changed since it was written"):
        build(recipe, work, Job(make_engine("local", 1)), on_step=damage)


def test_a_copied_work_folder_goes_on(local, work):
    recipe, expected = local
    there = as_path("memory://bucket/copied")

    def stop(step):
        if step.name == "fetch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, work, Job(make_engine("local", 1)), on_step=stop)
    fsspec.filesystem("memory").copy(str(work), str(there), recursive=True)
    done = build(recipe, there, Job(make_engine("local", 1)))
    assert [step.executed for step in done.steps[:4]] == [False] * 4
    assert dataset_tree(there / "dataset") == expected
