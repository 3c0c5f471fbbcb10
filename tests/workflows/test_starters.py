"""The recipes and configurations that `wit init` copies."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from openwit.pipeline.cli.main import app
from openwit.pipeline.recipe import Recipe, load_recipe
from openwit.schemas.common.errors import RecipeError, StorageError
from openwit.schemas.common.settings import load_settings
from openwit.training.config.train import TrainConfig
from openwit.training.evaluation.suite.plan import plan
from openwit.training.evaluation.suite.settings import SuiteSettings
from openwit.workflows.figure2.settings import load_experiment
from openwit.workflows.starters import copy_starter, starters

FILES = [path for starter in starters() for path in starter.files]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_every_file_is_a_recipe_or_a_training_configuration(path: Path) -> None:
    if path.stem.startswith("train"):
        assert load_settings(path, TrainConfig)
    elif path.stem == "experiment":
        assert load_experiment(path)
    elif path.stem == "suite":
        assert plan(load_settings(path, SuiteSettings).with_models([path]))
    else:
        assert isinstance(load_recipe(path, []), Recipe)


def test_each_has_a_name_and_a_sentence() -> None:
    found = {starter.name: starter for starter in starters()}
    assert {"demo", "pairs", "commoncrawl", "photos", "paper"} <= set(found)
    assert all(starter.about and starter.about[0].isupper() for starter in found.values())
    assert [path.name for path in found["demo"].files] == ["recipe.yaml", "train.yaml"]


def test_files_are_copied_and_never_overwritten(tmp_path: Path) -> None:
    written = copy_starter("demo", tmp_path / "mine")
    assert [path.name for path in written] == ["recipe.yaml", "train.yaml"]
    assert yaml.safe_load(written[0].read_text())["name"] == "openmoji-demo"
    written[1].unlink()
    written[0].write_text("mine")
    with pytest.raises(StorageError, match=r"recipe.yaml exists already"):
        copy_starter("demo", tmp_path / "mine")
    assert written[0].read_text() == "mine"
    assert not written[1].exists()


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no 'dmeo' to copy; there are: commoncrawl, demo, "):
        copy_starter("dmeo", tmp_path)


def test_the_command_lists_and_copies(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["init"])
    assert shown.exit_code == 0
    assert "commoncrawl  Build an English dataset from Common Crawl" in shown.stdout
    done = CliRunner().invoke(app, ["init", "paper", "--out", str(tmp_path / "paper")])
    assert done.exit_code == 0
    assert f"wrote {tmp_path / 'paper' / 'train-rn50.yaml'}" in done.stdout
