"""A changed bit, a cut or a missing file between two stages: refused in a sentence or made anew, never taken over."""

import os
import shutil
from pathlib import Path

import pytest
from support.small_build import make_recipe, run
from support.trees import dataset_tree

from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.recipe import Recipe
from openwit.schemas.common.errors import OpenWITError

STAGES = ("queries", "candidates", "select", "fetch", "dedup", "redraw", "shard")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("built")
    recipe = make_recipe(folder)
    run(recipe, folder / "w")
    return recipe, folder / "w", dataset_tree(folder / "w" / "dataset")


def kinds(stage: Path) -> list[Path]:
    """Return one file of each kind that a stage wrote: of each subfolder and suffix the last."""
    files = [path for path in sorted(stage.rglob("*")) if path.is_file() and path.name != "lock"]
    numbered = {(path.parent, path.suffix, "" if path.stem[-1].isdigit() else path.name): path for path in files}
    return list(numbered.values())


def spoil(path: Path, way: int) -> None:
    """Change a bit (its place depends on `way`), cut or delete a file; a hard link elsewhere stays as it was."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if way % 5 == 4:
        return
    if way % 5 == 3:
        data = data[: len(data) // 2]
    elif data:
        data[(len(data) - 1) * (way % 5) // 2] ^= 1 << way % 8
    path.write_bytes(data)


@pytest.mark.parametrize("number", range(len(STAGES) - 1), ids=STAGES[:-1])
def test_damage_between_two_stages_never_reaches_the_dataset(built, tmp_path, number):
    recipe, whole, dataset = built
    stage = whole / "stages" / STAGES[number]
    outputs = (
        stage,
        stage / ".stage",
        stage / "candidates",
        stage / "selected",
        stage / "images",
        stage / "survivors",
        stage / "drops",
    )
    read = [[file] for file in kinds(stage) if file.parent in outputs]
    # What no later stage reads is damaged all at once.
    unread = [file for file in kinds(stage) if file.parent not in outputs]
    outcomes = []
    for n, files in enumerate([*read, unread]):
        work = tmp_path / f"{n}"
        shutil.copytree(whole, work, copy_function=os.link, ignore=shutil.ignore_patterns(*STAGES[number + 1 :]))
        shutil.rmtree(work / "dataset")
        for m, file in enumerate(files):
            spoil(work / file.relative_to(whole), n + m + number)
        outcomes.append(outcome(recipe, work))
        if outcomes[-1] is None:
            assert dataset_tree(work / "dataset") == dataset, files
        else:
            assert "\n" not in outcomes[-1]
            assert str(work) in outcomes[-1]
    assert outcomes[-1] is None
    assert any(outcomes)


def outcome(recipe: Recipe, work: Path) -> str | None:
    """Return what the build says; None if it ends well."""
    try:
        run(recipe, work)
    except OpenWITError as error:
        return str(error)
    return None


def test_the_remedy_makes_only_what_is_damaged(built, tmp_path):
    recipe, whole, dataset = built
    work = tmp_path / "w"
    shutil.copytree(whole, work, ignore=shutil.ignore_patterns("dedup", "redraw", "shard", "dataset"))
    image = work / "stages" / "fetch" / "images" / "00001.parquet"
    other = image.with_name("00000.parquet")
    before = other.stat().st_mtime_ns
    spoil(image, 1)
    with pytest.raises(OpenWITError, match=r"00001.parquet has changed since it was written: delete .*manifest.json"):
        run(recipe, work)
    (work / "stages" / "fetch" / ".stage" / "manifest.json").unlink()
    run(recipe, work)
    assert dataset_tree(work / "dataset") == dataset
    assert other.stat().st_mtime_ns == before


@pytest.mark.parametrize("way", range(5))
def test_damage_of_a_dataset_is_found(built, tmp_path, way):
    _, whole, dataset = built
    assert verify_dataset(whole / "dataset") == []
    for n, name in enumerate(dataset):
        folder = tmp_path / f"{n}"
        shutil.copytree(whole / "dataset", folder, copy_function=os.link)
        spoil(folder / name, way)
        try:
            problems = verify_dataset(folder)
        except OpenWITError as error:
            problems = [str(error)]
        assert problems, name
        assert all("\n" not in problem for problem in problems)
        assert any(name in problem for problem in problems)
        shutil.rmtree(folder)


@pytest.mark.parametrize("remote", [False, True])
def test_links_hidden_files_and_strangers_are_found(built, tmp_path, remote):
    _, whole, _ = built
    folder = tmp_path / "d"
    shutil.copytree(whole / "dataset", folder)
    (folder / ".hidden").write_text("")
    (folder / "train" / ".deep" / "er").mkdir(parents=True)
    (folder / "train" / ".deep" / "er" / "x.tar").write_text("")
    (folder / "notes.txt").write_text("")
    (folder / ".stage" / "more").write_text("")
    (folder / "duplicates.parquet.bak").write_text("")
    strangers = {".hidden", "train/.deep/er/x.tar", "notes.txt", ".stage/more", "duplicates.parquet.bak"}
    links = set()
    if not remote:
        tar = folder / "train" / "00000.tar"
        tar.rename(tmp_path / "away.tar")
        tar.symlink_to(tmp_path / "away.tar")
        (folder / "val" / "broken").symlink_to("nowhere")
        (folder / "folder").symlink_to(tmp_path)
        os.mkfifo(folder / "pipe")
        links = {"train/00000.tar", "val/broken", "folder", "pipe"}
    problems = verify_dataset(f"file://{folder}" if remote else folder)
    assert {problem.partition(": ")[0] for problem in problems} == strangers | links


def test_a_card_is_checked_and_written_again(built, tmp_path):
    recipe, whole, dataset = built
    folder = tmp_path / "w"
    shutil.copytree(whole, folder)
    names = {"card.html": "bytes have changed", "card.json": "bytes have", "card.sha256": "damaged"}
    for name, said in {**names, "README.md": "bytes have", "croissant.json": "bytes have"}.items():
        (folder / "dataset" / name).write_bytes(b"destroyed")
        assert any(problem.startswith(name) and said in problem for problem in verify_dataset(folder / "dataset"))
        (folder / "dataset" / name).unlink()
        assert any(problem.startswith(f"{name}: missing") for problem in verify_dataset(folder / "dataset"))
        run(recipe, folder)
        assert dataset_tree(folder / "dataset") == dataset
        assert verify_dataset(folder / "dataset") == []
