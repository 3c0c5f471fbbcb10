"""A whole build on each engine of this machine: the same bytes."""

import pytest
from support.small_build import make_recipe, run
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job


@pytest.fixture(scope="module")
def defined(tmp_path_factory):
    """A recipe, and the checksums of its dataset as the definition of an engine builds it."""
    folder = tmp_path_factory.mktemp("defined")
    recipe = make_recipe(folder)
    run(recipe, folder / "w")
    return recipe, dataset_tree(folder / "w" / "dataset")


@pytest.mark.parametrize(("runner", "workers"), [("beam", 1), ("local", 1), ("local", 2)])
def test_the_bytes_are_those_of_the_definition(defined, tmp_path, runner, workers):
    recipe, expected = defined
    engine = make_engine(runner, workers)
    build(recipe, tmp_path / "w", Job(engine))
    engine.close()
    assert dataset_tree(tmp_path / "w" / "dataset") == expected


def test_a_build_begun_on_one_engine_goes_on_with_another(defined, tmp_path):
    recipe, expected = defined

    def stop(step):
        if step.name == "candidates":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, tmp_path / "w", Job(make_engine("beam", 1)), on_step=stop)
    done = build(recipe, tmp_path / "w", Job(make_engine("local", 1)))
    assert [step.executed for step in done.steps[:2]] == [False] * 2
    assert dataset_tree(tmp_path / "w" / "dataset") == expected
