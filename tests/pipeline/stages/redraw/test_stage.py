"""The second draw against a selection from the pool as it is left."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageManifest
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.redraw import Redraw, RedrawSettings
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.queries import QUERY_COUNTS

WORDS = ["kite", "heron", "wren", "red", "grey", "small"]
CAP = 12


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build with oversample from a table a third of whose images are broken."""
    folder = tmp_path_factory.mktemp("redraw")
    chance = random.Random(3)
    rows = []
    for n in range(150):
        texts = [" ".join(["a", *chance.sample(WORDS, chance.randint(1, 3)), str(n)])]
        rows.append({"image": b"broken" if n % 3 == 0 else picture(n), "texts": texts, "split": "train"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "birds.parquet")
    (folder / "queries.txt").write_text("\n".join(WORDS))

    def run(name, **select):
        recipe = Recipe.standard(
            name="birds",
            queries=QuerySettings(tables=[str(folder / "queries.txt")]),
            candidates=CandidateSettings(inputs=[str(folder / "birds.parquet")]),
            select=SelectSettings(**{"cap": CAP, **select}),
            fetch=FetchSettings(image=ImageSettings(size=64)),
            dedup=DedupSettings(max_distance=0),
        )
        manifest = build(recipe, folder / name, Job(make_engine("local", 1))).dataset
        return manifest, folder / name

    return run


def pairs(folder):
    tables = [SURVIVORS.read(path) for path in sorted((folder / "survivors").glob("*.parquet"))]
    return {pair["pair_id"]: pair for table in tables for image in table.to_pylist() for pair in image["pairs"]}


def drawn_from(left, cap):
    """The pairs that the queries draw from a pool, one query after the other."""
    kept = set()
    hashes = query_hashes(WORDS)
    for number in range(len(WORDS)):
        mine = [key for key, pair in left.items() if number in pair["query_ids"]]
        u = uniform(pair_hashes(pa.array(mine, pa.binary(16))), np.full(len(mine), hashes[number]), seed=0)
        kept |= {mine[i] for i in np.argsort(u)[:cap]}
    return kept


def test_equals_a_draw_from_the_pool_that_is_left(built):
    manifest, workdir = built("enough", oversample=4.0)
    everything, _ = built("all", cap=10**6)
    pool = pairs(workdir.parent / "all" / "stages" / "dedup")
    again = pairs(workdir / "stages" / "redraw")
    ids = sorted(set(QUERY_COUNTS.read(workdir / "stages/redraw/queries.parquet").column("query").to_pylist()))
    assert ids == sorted(WORDS)
    order = QUERY_COUNTS.read(workdir / "stages/redraw/queries.parquet").column("query").to_pylist()
    renumbered = {k: {**p, "query_ids": [WORDS.index(order[q]) for q in p["query_ids"]]} for k, p in pool.items()}
    assert set(again) == drawn_from(renumbered, CAP)
    record = StageManifest.load(workdir / "stages/redraw", "redraw")
    assert record.extra["queries_short"] == 0
    counts = QUERY_COUNTS.read(workdir / "stages/redraw/queries.parquet")
    assert max(counts.column("drawn").to_pylist()) == CAP
    assert manifest.samples("train") == len(again)
    assert everything.samples("train") == len(pool)
    steps = {(step.stage, step.unit): step for step in manifest.funnel}
    assert steps["redraw", "pairs"].rows_in == steps["dedup", "pairs"].rows_out
    assert steps["shard", "pairs"].rows_in == steps["redraw", "pairs"].rows_out
    for pair in again.values():
        assert pair["drawn_by"]
        assert pair["priority"] <= 1


def test_queries_that_lost_more_than_their_surplus_are_said(built):
    _, workdir = built("little", oversample=1.05)
    extra = StageManifest.load(workdir / "stages/redraw", "redraw").extra
    assert extra["queries_short"] > 0


def test_a_folder_that_no_selection_filled_is_refused(tmp_path, job):
    with pytest.raises(OpenWITError, match="holds no finished 'dedup' stage"):
        Redraw().run(job, RedrawSettings(), {"survivors": tmp_path}, tmp_path / "out")
