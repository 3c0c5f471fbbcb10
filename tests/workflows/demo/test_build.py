"""The whole build on a little web: crawl over HTTP, WARC, Wikipedia, images over HTTP, shards."""

import json
from pathlib import Path

import pytest
import yaml

from openwit.pipeline.build import build
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.recipe import load_recipe
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SAMPLES
from openwit.workflows.demo.crawler import crawl
from openwit.workflows.demo.web import copy_wikipedia

RECIPE = Path(__file__).parents[3] / "workflows" / "demo" / "recipe.yaml"


@pytest.fixture(scope="module")
def built(port: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DatasetManifest]:
    folder = tmp_path_factory.mktemp("demo")
    crawl(folder / "crawl", port)
    copy_wikipedia(folder / "wikipedia.xml.bz2")
    overrides = [
        f"candidates.inputs=[{folder}/crawl/*.warc.gz]",
        f"queries.wikipedia=[{folder}/wikipedia.xml.bz2]",
        "fetch.download.timeout_s=4",
        "fetch.download.stall_s=2",
        "shard.samples=50",
    ]
    manifest = build(load_recipe(RECIPE, overrides), folder / "build", Job(make_engine("local", 1))).dataset
    assert manifest is not None
    return folder, manifest


def reasons(manifest: DatasetManifest, stage: str, unit: str) -> dict[str, int]:
    return next(step.reasons for step in manifest.funnel if (step.stage, step.unit) == (stage, unit))


def test_every_kind_of_trouble_has_its_reason(built: tuple[Path, DatasetManifest]) -> None:
    _, manifest = built
    fetched = reasons(manifest, "fetch", "images")
    assert {"robots_disallowed", "blocked_address", "http_not_found"} <= set(fetched)
    assert {"not_an_image", "too_many_redirects"} <= set(fetched)
    assert {"language", "boilerplate"} <= set(reasons(manifest, "candidates", "pairs"))
    assert reasons(manifest, "dedup", "images")["near_duplicate"] > 0
    assert {"redirect"} <= set(reasons(manifest, "articles", "pages"))


def test_the_sums_agree_from_stage_to_stage(built: tuple[Path, DatasetManifest]) -> None:
    _, manifest = built
    for unit in ("pairs", "images"):
        steps = [s for s in manifest.funnel if s.unit == unit and s.stage != "pages"]
        assert [s.rows_in for s in steps[1:]] == [s.rows_out for s in steps[:-1]]


def test_the_dataset_is_whole_and_knows_where_it_comes_from(built: tuple[Path, DatasetManifest]) -> None:
    folder, manifest = built
    dataset = folder / "build" / "dataset"
    assert verify_dataset(dataset) == []
    rows = [row for shard in manifest.shards for row in SAMPLES.read(dataset / shard.metadata.path).to_pylist()]
    assert len(rows) > 60
    for row in rows:
        assert row["url"].startswith("http://")
        for page, archive, offset in zip(row["page_urls"], row["archives"], row["record_offsets"], strict=True):
            assert page.startswith("http://")
            assert Path(archive).stat().st_size > offset
    assert all("creativecommons.org/licenses/by-sa/4.0" in (link or "") for row in rows for link in row["licenses"])
    hosts = {split: set() for split in manifest.splits()}
    for shard in manifest.shards:
        for url in SAMPLES.read(dataset / shard.metadata.path).column("url").to_pylist():
            hosts[shard.split].add(url.split("/")[2].partition(":")[0])
    assert hosts["test"] == {"gallery.localhost"}
    assert not any(host in hosts["train"] for host in ("gallery.localhost", "private.localhost", "noai.localhost"))


def test_the_card_holds_the_figures_of_the_manifest(built: tuple[Path, DatasetManifest]) -> None:
    folder, manifest = built
    card = json.loads((folder / "build" / "dataset" / "card.json").read_text())
    assert card["funnel"] == [step.model_dump() for step in manifest.funnel]
    page = (folder / "build" / "dataset" / "card.html").read_text()
    assert "robots disallowed" in page
    assert "http://" not in page.split("<section>")[0]  # nothing is loaded from elsewhere
    assert yaml.safe_load(RECIPE.read_text())["name"] in page
