"""Nothing grows with files x files: twice as many files of the same size cost at most about twice as much.

With files of a few rows there are fewer files than groups, so groups are made few here.
"""

import dataclasses
import os
import random

import pytest
from support.growth import Growth, counted
from support.pictures import picture
from support.rows import candidate
from support.survivors import QUERIES, finished_dedup, survivor

from openwit.pipeline.execution import exchange
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.dedup import Dedup
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.select import Select
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.shard import Shard
from openwit.pipeline.stages.shard.settings import ShardSettings

FILES = (6, 12, 24)
ROWS = 24
GROUPS = 3
OPEN_FILES = 20


def cut(rows):
    """Rows in files of as many rows each, at random."""
    rows = random.Random(0).sample(rows, len(rows))
    return [rows[first : first + ROWS] for first in range(0, len(rows), ROWS)]


@pytest.fixture(autouse=True)
def few_groups(monkeypatch):
    monkeypatch.setattr(exchange, "MAX_GROUPS", GROUPS)


@pytest.fixture
def select(make_candidates, make_queries):
    def run(job, folder, files):
        rows = [
            candidate(f"http://host{n % 9}.org/{n % (20 * files)}.jpg", f"a {QUERIES[n % 3]} no. {n % (22 * files)}")
            for n in range(files * ROWS)
        ]
        source = make_candidates(folder / "candidates", cut(rows))
        queries = make_queries(folder / "queries", [*QUERIES, *(f"query {n}" for n in range(2_000))])
        return lambda: Select().run(
            job, SelectSettings(cap=5), {"candidates": [source], "queries": queries}, folder / "selected"
        )

    return run


@pytest.fixture
def dedup():
    def run(job, folder, files):
        # Of three images two are duplicates of the first, mostly in other files.
        rows = [survivor(n, picture(n // 3, (16, 16)), 1 + n % 2) for n in range(files * ROWS)]
        finished_dedup(folder, cut(rows))
        images = {"images": folder / "fetch"}
        return lambda: Dedup().run(job, DedupSettings(plain="keep", frequent_texts=None), images, folder / "out")

    return run


@pytest.fixture
def shard():
    def run(job, folder, files):
        rows = [
            survivor(n, picture(n, (16, 16)), 1 + n % 2, "val" if n % 5 == 0 else "train") for n in range(files * ROWS)
        ]
        survivors = {"survivors": finished_dedup(folder, cut(rows))}
        build = BuildContext(dataset=DatasetInfo("d"))
        return lambda: Shard().run(job, ShardSettings(samples=2 * ROWS), survivors, folder / "out", build=build)

    return run


@pytest.mark.parametrize("stage", ["select", "dedup", "shard"])
def test_a_stage_grows_with_files_and_not_with_their_square(request, tmp_path, stage):
    run = request.getfixturevalue(stage)
    found = []
    for files in FILES:
        folder = tmp_path / str(files)
        with counted(folder) as (growth, engine):
            execute = run(Job(engine), folder, files)
            growth.reset()
            execute()
        found.append(growth)
    values = {field.name: [getattr(growth, field.name) for growth in found] for field in dataclasses.fields(Growth)}
    if os.environ.get("OPENWIT_SHOW_GROWTH"):
        print(stage, values)
    assert max(values.pop("open_at_a_time")) <= OPEN_FILES
    for name, (first, second, third) in values.items():
        assert second <= 2.2 * first, name
        assert third <= 2.2 * second, name
    # A graph of Beam holds the work of a job: no list of files and no vector of queries is in it.
    assert found[-1].largest <= 16_000
