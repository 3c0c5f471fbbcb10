"""Where the demo's steps take their files and commands from."""

from pathlib import Path

import pytest
from rich.console import Console

from openwit.schemas.common.errors import OpenWITError
from openwit.workflows import demo
from openwit.workflows.demo.job import CONFIG, RECIPE, Places, _step


def test_recipe_and_configuration_come_from_the_package() -> None:
    assert {CONFIG.parent, RECIPE.parent} == {Path(demo.__file__).parent}
    assert CONFIG.is_file()
    assert RECIPE.is_file()


def test_a_step_is_not_shadowed_by_a_folder_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openwit", "pipeline", "schemas", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.chdir(tmp_path)
    _step(Console(quiet=True), "wit", ["--version"])
    _step(Console(quiet=True), "wit-train", ["--version"])
    with pytest.raises(OpenWITError, match="`wit verify` ended with exit code 2"):
        _step(Console(quiet=True), "wit", ["verify", "nothing-here"])


def test_another_folder_is_put_in_place_of_the_recipes(tmp_path: Path) -> None:
    assert Places(Path("out/demo")).overrides() == {"wit": [], "wit-train": []}
    overrides = Places(tmp_path).overrides()
    assert f"candidates.inputs=[{tmp_path}/crawl/*.warc.gz]" in overrides["wit"]
    assert f"run={tmp_path}/run" in overrides["wit-train"]
