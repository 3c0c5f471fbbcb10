"""The recipes that users copy are valid."""

from pathlib import Path

import pytest

from openwit.pipeline.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "workflows").rglob("*.yaml"))


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if not p.name.startswith("train")], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_recipes_of_workflows_load(path):
    assert load_recipe(path, []).name
