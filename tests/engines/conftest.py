"""What builds on other engines share: an S3 server as the only place that all processes see."""

import os

import pytest
from support.s3_server import s3_server
from support.small_build import make_recipe, run
from support.trees import dataset_tree


@pytest.fixture(scope="session")
def s3():
    """A server; its environment is that of this process too."""
    with s3_server() as environment:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        yield environment
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A recipe, and the checksums of its dataset as the definition of an engine builds it."""
    folder = tmp_path_factory.mktemp("small")
    recipe = make_recipe(folder)
    run(recipe, folder / "w")
    return recipe, dataset_tree(folder / "w" / "dataset")
