"""Builds that leave steps out: every pair and image is kept, counts add up, and what reads a dataset copes with it."""

import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from support.pictures import picture
from support.small_build import run

from openwit.pipeline.api import remove
from openwit.pipeline.build import RECIPE_FILE
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.candidates import SELECTED
from openwit.schemas.tables.queries import QUERY_COUNTS

ROWS = 9


def rows():
    """Nine rows: two of the same picture, one without a text, one twice with another text, one of plain white."""
    found = [{"image": picture(n), "text": f"a wren {n}", "n": n} for n in range(5)]
    found += [{"image": picture(0, form="PNG"), "text": "the first again"}, {"image": picture(7), "text": ""}]
    found += [{"image": picture(8), "text": "no query"}, {"image": white(), "text": "plain"}]
    return found


def white():
    out = io.BytesIO()
    Image.new("RGB", (80, 80), "white").save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build of candidates and shard only; its recipe, folder and dataset."""
    folder = tmp_path_factory.mktemp("neutral")
    pq.write_table(pa.Table.from_pylist(rows()), folder / "birds.parquet")
    steps = [
        {"candidates": {"inputs": [str(folder / "birds.parquet")], "texts_required": False}},
        {"shard": {"samples": 5}},
        "card",
    ]
    recipe = Recipe.parse({"name": "birds", "steps": steps}, "recipe")
    run(recipe, folder / "out")
    return recipe, folder / "out"


def count_members(path):
    with tarfile.open(path) as tar:
        return len(tar.getnames())


def samples(dataset):
    tables = [pq.read_table(dataset / shard.metadata.path) for shard in DatasetManifest.load(dataset).shards]
    return pa.concat_tables(tables).to_pylist()


def test_every_row_of_a_table_becomes_a_sample(built):
    recipe, out = built
    assert recipe.inserted == ("select", "fetch", "dedup")
    found = samples(out / "dataset")
    assert sorted(row["caption"] for row in found) == sorted(row["text"] for row in rows())
    assert all(row["query_ids"] == [[]] and row["drawn_by"] == [[]] for row in found)
    assert all(0 < row["priorities"][0] <= 1 for row in found)
    assert len({row["priorities"][0] for row in found}) == ROWS
    manifest = DatasetManifest.load(out / "dataset")
    assert list(manifest.recipe) == ["candidates", "select", "fetch", "dedup", "shard"]
    assert all(step.rows_in == step.rows_out == ROWS for step in manifest.funnel if step.unit == "pairs")
    assert not (out / "dataset" / "queries.parquet").exists()
    assert verify_dataset(out / "dataset") == []
    tars = [out / "dataset" / shard.tar.path for shard in manifest.shards]
    assert sum(count_members(path) for path in tars) == 3 * ROWS


def test_a_rebuild_has_the_steps_that_were_inserted(built):
    recipe, out = built
    held = Recipe.parse(yaml.safe_load((out / RECIPE_FILE).read_text()))
    assert (held, held.inserted) == (recipe, ())
    run(recipe, out)  # resumes: nothing is another recipe's
    card = json.loads((out / "dataset" / "card.json").read_text())
    assert card["cap"] is None
    assert card["queries"] == {}


def test_a_sample_is_explained_and_removed(built, tmp_path):
    _, out = built
    shutil.copytree(out, tmp_path / "copy")
    dataset = tmp_path / "copy" / "dataset"
    first = samples(dataset)[0]
    [kept], dropped = explain(dataset, first["key"])
    assert (kept.texts[0].matched, kept.texts[0].drawn_by, dropped) == ([], [], [])
    assert remove(dataset, [first["url"]]).gone()
    assert verify_dataset(dataset) == []
    assert len(samples(dataset)) == ROWS - 1


def test_a_query_list_is_recorded_but_does_not_choose(tmp_path):
    pq.write_table(pa.Table.from_pylist([row for row in rows() if row["text"]]), tmp_path / "birds.parquet")
    (tmp_path / "queries.txt").write_text("wren\nfirst\nheron\n")
    steps = [
        {"queries": {"tables": [str(tmp_path / "queries.txt")]}},
        {"candidates": {"inputs": [str(tmp_path / "birds.parquet")]}},
        {"select": "all"},
        {"fetch": {"image": {"size": 48}}},
        {"dedup": {"exclude": [str(tmp_path / "eval")], "duplicates": "keep"}},
        "shard",
        "card",
    ]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "one.png").write_bytes(picture(3, form="PNG"))
    run(Recipe.parse({"name": "birds", "steps": steps}, "recipe"), tmp_path / "out")
    out = tmp_path / "out" / "stages"
    table = SELECTED.read(next((out / "select" / "selected").glob("*.parquet")))
    counts = QUERY_COUNTS.read(out / "select" / "queries.parquet").to_pylist()
    found = {row["text"]: [counts[query]["query"] for query in row["query_ids"]] for row in table.to_pylist()}
    birds = {f"a wren {n}": ["wren"] for n in range(5)}
    assert found == {**birds, "the first again": ["first"], "no query": [], "plain": []}
    counted = {row["query"]: (row["pool"], row["drawn"], row["kept"]) for row in counts}
    assert counted == {"wren": (5, 0, 5), "first": (1, 0, 1), "heron": (0, 0, 0)}
    dataset = tmp_path / "out" / "dataset"
    # Only the copy of the evaluation image is gone; the same picture twice and the white one stay.
    assert {row["caption"] for row in samples(dataset)} == {text for text in found if text != "a wren 3"}
    manifest = DatasetManifest.load(dataset)
    [images] = [step for step in manifest.funnel if (step.stage, step.unit) == ("dedup", "images")]
    assert images.reasons == {"evaluation_image": 1}
    assert verify_dataset(dataset) == []
    [kept], _ = explain(dataset, next(row["key"] for row in samples(dataset) if row["caption"] == "a wren 1"))
    assert [(match.query, match.u <= match.threshold) for match in kept.texts[0].matched] == [("wren", False)]
    assert json.loads((dataset / "card.json").read_text())["cap"] is None


def test_urls_without_texts_are_candidates_and_refused_where_nothing_is_downloaded(tmp_path):
    urls = [f"http://127.0.0.1:9/{n}.jpg" for n in range(3)]
    (tmp_path / "urls.csv").write_text("url\n" + "\n".join([*urls, urls[0]]))
    steps = [{"candidates": {"inputs": [str(tmp_path / "urls.csv")], "texts_required": False}}, "shard"]
    with pytest.raises(
        DataError, match=r"3 of 3 pairs have no image in the inputs, only its URL: add `- fetch: \{\}`"
    ):
        run(Recipe.parse({"name": "urls", "steps": steps}, "recipe"), tmp_path / "out")
    table = SELECTED.read(next((tmp_path / "out" / "stages" / "select" / "selected").glob("*.parquet")))
    assert sorted(table.column("url").to_pylist()) == urls
    assert table.column("text").to_pylist() == [""] * 3
    assert len(set(pair_hashes(table.column("pair_id").combine_chunks()).tolist())) == 3
    steps[0]["candidates"]["texts_required"] = True
    with pytest.raises(DataError, match=r"urls.csv has no column with texts; .*candidates.texts_required to false"):
        run(Recipe.parse({"name": "urls", "steps": steps}, "recipe"), tmp_path / "again")
