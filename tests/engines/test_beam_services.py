"""Builds on Beam's Python job service whose workers are processes in another folder."""

import sys
from dataclasses import replace

import pytest
from support.beam_services import BEAMS_POOL, OUR_POOL, beam_services
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job

pytestmark = pytest.mark.engines
BOOT = "from openwit.pipeline.execution.beam_pool import boot; boot()"


def job_of(services):
    flags = ["--environment_type=EXTERNAL", f"--environment_config={services.pool}"]
    engine = make_engine("portable", "auto", flags, cluster=services.job)
    engine.check()
    return Job(engine)


def test_a_build_has_the_same_bytes(small, tmp_path):
    recipe, expected = small
    with beam_services(tmp_path, OUR_POOL) as services:
        build(recipe, tmp_path / "w", job_of(services))
    assert dataset_tree(tmp_path / "w" / "dataset") == expected


def test_a_step_runs_on_workers_that_a_program_starts(small, tmp_path):
    """A PROCESS environment starts a program: Beam's own pool does it here, as Flink's and Spark's job services do."""
    recipe, _ = small
    program = tmp_path / "wit-beam-worker"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{BOOT}' \"$@\"\n")
    program.chmod(0o755)
    steps = replace(recipe, steps=recipe.steps[:2])
    pool = [BEAMS_POOL[0], f"--container_executable={program}", BEAMS_POOL[1]]
    with beam_services(tmp_path, pool) as services:
        assert build(steps, tmp_path / "w", job_of(services)).executed
    build(steps, tmp_path / "here", Job(make_engine("local", 1)))
    made = [dataset_tree(tmp_path / work / "stages") for work in ("w", "here")]
    assert made[0] == made[1]
