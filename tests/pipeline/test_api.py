"""The builder as Python functions: a build, its stages one by one, and what is done with the result."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support.pictures import picture

import openwit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four pictures, queries and a build of them."""
    folder = tmp_path_factory.mktemp("api")
    rows = [{"url": f"http://a.org/{n}.png", "image": picture(n), "text": f"a red kite {n}"} for n in range(4)]
    pd.DataFrame(rows).to_parquet(folder / "birds.parquet")
    (folder / "queries.txt").write_text("kite\nred kite\n")
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> openwit.BuildResult:
    (folder / "recipe.yaml").write_text(
        f"""
name: birds
steps:
- queries: {{tables: [{folder}/queries.txt]}}
- candidates: {{inputs: [{folder}/birds.parquet]}}
- select: {{}}
- fetch: {{image: {{size: 64, min_size: 16}}}}
- dedup: {{}}
- shard: {{}}
- card: {{}}
"""
    )
    seen: list[str] = []
    result = openwit.build(
        folder / "recipe.yaml",
        folder / "out",
        overrides=["select.cap=100"],
        on_step=lambda step: seen.append(step.name),
    )
    assert seen == ["queries", "candidates", "select", "fetch", "dedup", "shard", "card"]
    return result


def test_a_build_returns_the_manifest_and_can_be_run_again(folder: Path, built: openwit.BuildResult) -> None:
    assert built.dataset is not None
    assert built.dataset.samples("train") == 4
    assert openwit.verify(built.where) == []
    again = openwit.build(openwit.load_recipe(folder / "recipe.yaml", ["select.cap=100"]), folder / "out")
    assert not again.executed


def test_a_dataset_is_locked_and_fetched_again(tmp_path: Path) -> None:
    pd.DataFrame([{"image": picture(n), "text": f"a red kite {n}"} for n in range(4)]).to_parquet(
        tmp_path / "a.parquet"
    )
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: birds
steps:
- candidates: {{inputs: [{tmp_path}/a.parquet]}}
- fetch: {{image: {{size: 64, min_size: 16}}}}
- shard: {{}}
"""
    )
    result = openwit.build(tmp_path / "recipe.yaml", tmp_path / "out", workers=1)
    notes = openwit.lock(result.where, tmp_path / "birds.lock.parquet")
    assert (notes.samples, notes.without_url) == (4, 4)
    seen: list[str] = []
    done = openwit.rehydrate(
        tmp_path / "birds.lock.parquet", tmp_path / "again", workers=1, on_step=lambda name, _: seen.append(name)
    )
    assert (done.statuses, done.samples) == ({"same": 4}, 4)
    assert seen == ["locked", "fetch", "verify", "rehydrate", "shard"]
    assert openwit.verify(tmp_path / "again") == []
    with pytest.raises(openwit.RecipeError, match="rounds is 0"):
        openwit.rehydrate(tmp_path / "birds.lock.parquet", tmp_path / "again", rounds=0)


def test_a_build_of_another_recipe_is_refused(folder: Path, built: openwit.BuildResult) -> None:
    assert built.executed
    with pytest.raises(openwit.RecipeError, match="another recipe's build"):
        openwit.build(folder / "recipe.yaml", folder / "out")


def test_a_sample_is_explained(built: openwit.BuildResult) -> None:
    kept, dropped = openwit.explain(built.where, "http://a.org/2.png")
    assert [text.text for sample in kept for text in sample.texts] == ["a red kite 2"]
    assert dropped == []


def test_a_stage_is_a_function(folder: Path) -> None:
    settings = {"tables": [str(folder / "queries.txt")]}
    manifest = openwit.run_stage("queries", folder / "alone", settings=settings)
    assert manifest.funnel[0].rows_out == 2
    assert len(pd.read_parquet(folder / "alone" / "queries.parquet")) == 2
    with pytest.raises(openwit.RecipeError, match="did you mean 'queries'"):
        openwit.run_stage("querys", folder / "alone")


def test_images_are_removed_by_a_list_of_urls_and_domains(built: openwit.BuildResult) -> None:
    plan = openwit.remove(built.where, ["http://a.org/1.png"], dry_run=True)
    assert [sample.url for sample in plan.gone()] == ["http://a.org/1.png"]
    assert openwit.verify(built.where) == []
    openwit.remove(built.where, ["http://a.org/1.png"])
    assert openwit.explain(built.where, "http://a.org/1.png")[0] == []
    assert openwit.verify(built.where) == []
    assert (Path(built.where) / "card.html").is_file()
    with pytest.raises(openwit.OpenWITError, match="the list of what to remove: line 2"):
        openwit.remove(built.where, ["a.org", "what is this"])


def test_the_library_prints_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("kite\n")
    code = "import openwit; openwit.run_stage('queries', 'out', settings={'tables': ['words.txt']})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
