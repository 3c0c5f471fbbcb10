"""Builds on Beam's Python job service whose workers are processes in another folder."""

import pytest
from support.beam_services import beam_services
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    with beam_services(tmp_path_factory.mktemp("elsewhere")) as started:
        yield started


def test_a_build_has_the_same_bytes(services, small, tmp_path):
    recipe, expected = small
    flags = ["--environment_type=EXTERNAL", f"--environment_config={services.pool}"]
    engine = make_engine("portable", "auto", flags, cluster=services.job)
    engine.check()
    build(recipe, tmp_path / "w", Job(engine))
    assert dataset_tree(tmp_path / "w" / "dataset") == expected
