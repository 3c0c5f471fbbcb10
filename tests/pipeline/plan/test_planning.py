"""The plan of a build against the build itself, and its sums alone."""

import bz2
import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.small_build import WORDS, make_recipe
from support.tars import write_tar
from typer.testing import CliRunner

from openwit.pipeline.build import build
from openwit.pipeline.cli.main import app
from openwit.pipeline.cli.plan_report import count_of, print_plan, size_of
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.plan.estimate import Range, pairs_of, poisson_range, total_of
from openwit.pipeline.plan.planning import plan_build
from openwit.pipeline.plan.sample import make_list
from openwit.pipeline.plan.settings import Assumptions
from openwit.pipeline.plan.slices import _text_slice
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.step import Step
from openwit.schemas.common.command import make_console
from openwit.schemas.common.errors import DataError, RecipeError

FACTOR = 1.35
"""How far a plan of a tenth of these inputs may be from the build: stated in docs/commoncrawl.md."""


def page(number: int, chooser: random.Random) -> bytes:
    images = "".join(
        f'<img src="/{number}-{n}.jpg" alt="A {chooser.choice(WORDS)} seen by {chooser.choice(NAMES)} on day {n}">'
        for n in range(chooser.randrange(12))
    )
    html = f"<html><head><title>page {number}</title></head><body>{images}</body></html>".encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(html) + html
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>\r\n"
        f"WARC-Target-URI: http://host{number % 9}.example/{number}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n")


NAMES = [f"watcher{n}" for n in range(300)]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    """Three archives and two tables, and a recipe of the steps that need no pictures."""
    folder = tmp_path_factory.mktemp("crawl")
    chooser = random.Random(5)
    for archive in range(3):
        pages = [page(archive * 300 + n, chooser) for n in range(300)]
        (folder / f"{archive}.warc.gz").write_bytes(b"".join(pages))
    rows = [
        f"http://t.example/{n}.jpg\tthe {chooser.choice(WORDS)} and {chooser.choice(NAMES)} {n}" for n in range(6000)
    ]
    (folder / "a.tsv").write_text("\n".join(["url\ttext", *rows[:3000]]) + "\n")
    (folder / "b.tsv.gz").write_bytes(gzip.compress("\n".join(["url\ttext", *rows[3000:]]).encode()))
    (folder / "queries.txt").write_text("\n".join([*WORDS, *NAMES]))
    inputs = [str(folder / "*.warc.gz"), str(folder / "*.tsv*")]
    return Recipe.parse(
        {
            "name": "crawl",
            "steps": [
                {"queries": {"tables": [str(folder / "queries.txt")]}},
                {"candidates": {"inputs": inputs}},
                {"select": {"cap": 20}},
                {"fetch": {"image": {"size": 200}}},
                {"dedup": {}},
                {"shard": {}},
                {"card": {}},
            ],
        }
    )


@pytest.mark.slow
def test_a_tenth_tells_the_candidates_and_pairs_of_the_build(crawl, tmp_path, capsys):
    size = sum(path.stat().st_size for path in Path(crawl.step("candidates").settings.inputs[0]).parent.glob("*.*sv*"))
    job = Job(SerialEngine())
    plan = plan_build(crawl, job, Assumptions(slice_bytes=size // 6, slice_files=6, price_per_core_hour=0.5))
    short = Recipe("crawl", crawl.steps[:3])
    done = build(short, tmp_path / "w", job)
    assert plan.read_bytes < 0.35 * plan.input_bytes
    for name in ("candidates", "select"):
        truth = done.step(name).manifest.funnel[-1].rows_out
        found = plan.step(name).rows
        assert truth / FACTOR < found.mid < truth * FACTOR, name
        assert found.low < truth < found.high, name
    matched = done.step("select").manifest.extra["matches_in_pool"]
    assert matched / FACTOR < plan.selection.matches < matched * FACTOR
    assert {"cores"} == set(plan.prices)
    print_plan(make_console(), plan)
    shown = capsys.readouterr().out
    assert "Not known: How many images can be fetched" in shown
    assert "would have more than 20 pairs each" in shown


def test_a_slice_that_is_all_is_exact(tmp_path):
    recipe = make_recipe(tmp_path)
    plan = plan_build(recipe, Job(SerialEngine()))
    short = Recipe("birds", [*recipe.steps[:2], Step("select", {"cap": 9})])  # 6, drawn one and a half times
    done = build(short, tmp_path / "w", Job(SerialEngine()))
    candidates = done.step("candidates").manifest.funnel[-1]
    assert plan.step("candidates").rows == Range(*[candidates.rows_out] * 3)
    pairs = done.step("select").manifest.funnel[-1].rows_out
    assert plan.selection.matches == done.step("select").manifest.extra["matches_in_pool"]
    assert pairs / 1.1 < plan.step("select").rows.mid < pairs * 1.1  # which pairs several queries share is chance
    assert plan.download_bytes.high == 0  # the bytes are in the tables
    assert not plan.unknown


def test_the_command_writes_nothing(crawl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = crawl.step("candidates").settings.inputs
    Path("r.yaml").write_text(f"name: x\nsteps:\n- candidates: {{inputs: {inputs}}}\n")
    done = CliRunner().invoke(app, ["build", "r.yaml", "--plan", "--assume", "slice_bytes=40000", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "Plan of x, from " in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
    for words, sentence in (
        (["--plan", "--assume", "success_share=2"], "success_share"),
        (["--plan", "--assume", "nothing=2"], "nothing"),
        (["--assume", "success_share=0.5"], "belong to --plan"),
        (["--plan", "--check"], "ask one at a time"),
    ):
        refused = CliRunner().invoke(app, ["build", "r.yaml", *words])
        assert refused.exit_code != 0
        assert sentence in refused.output + str(refused.exception)


def test_a_recipe_without_candidates_and_inputs_that_cannot_be_cut(tmp_path):
    job = Job(SerialEngine())
    with pytest.raises(RecipeError, match="a plan needs a step candidates"):
        plan_build(Recipe.parse({"name": "x", "steps": [{"queries": {"wordnet": "builtin"}}]}), job)
    (tmp_path / "a.arc").write_bytes(b"filedesc://x 0.0.0.0 20240501000000 text/plain 9\n" + b"x" * 200_000)
    recipe = Recipe.parse({"name": "x", "steps": [{"candidates": {"inputs": [str(tmp_path / "a.arc")]}}]})
    with pytest.raises(DataError, match=r"a.arc cannot be read in part"):
        plan_build(recipe, job, Assumptions(slice_bytes=20_000))


def test_inputs_without_a_candidate_are_planned(tmp_path):
    (tmp_path / "a.csv").write_text("url,text\nhttp://x.example/a.jpg,\n")
    (tmp_path / "q.txt").write_text("kite\n")
    steps = [{"queries": {"tables": [str(tmp_path / "q.txt")]}}, {"candidates": {"inputs": [str(tmp_path / "a.csv")]}}]
    recipe = Recipe.parse({"name": "x", "steps": [*steps, "select", "fetch", "dedup", "shard", "card"]})
    plan = plan_build(recipe, Job(SerialEngine()))
    assert plan.step("candidates").drops == {"no_text": 1.0}
    assert plan.step("shard").rows == Range(0, 0, 0)


def test_an_input_that_cannot_be_read_is_said_and_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"url": "http://x.example/{n}.jpg", "text": "kite {n}"}}\n' for n in range(99))
    )
    (tmp_path / "b.json").write_text("[" + ",\n".join(["{}"] * 9) + "\n]\n")
    inputs = [str(tmp_path / name) for name in ("a.jsonl", "b.json")]
    plan = plan_build(Recipe.parse({"name": "x", "steps": [{"candidates": {"inputs": inputs}}]}), Job(SerialEngine()))
    assert any("b.json holds a JSON array" in line for line in plan.unknown), plan.unknown
    with pytest.raises(DataError, match=r"no plan can be made: .*b\.json"):
        plan_build(Recipe.parse({"name": "x", "steps": [{"candidates": {"inputs": inputs[1:]}}]}), Job(SerialEngine()))


def test_the_slice_of_a_packed_table_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("openwit.pipeline.plan.slices._PLAIN_BYTES", 1 << 20)
    chooser = random.Random(0)
    rows = b"".join(b"http://x.example/a.jpg,kite %s\n" % chooser.randbytes(60).hex().encode() for _ in range(25_000))
    packed = gzip.compress(b"url,text\n" + rows)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    sliced = _text_slice("csv", str(tmp_path / "a.csv.gz"), len(packed), len(packed), tmp_path / "s")
    assert sliced is not None
    taken = Path(sliced.part.input).stat().st_size
    assert taken < 1.2 * (1 << 20)
    assert sliced.share == pytest.approx(taken / len(rows), rel=0.1)


def test_remote_dumps_beside_local_ones_are_left_out_and_said(tmp_path):
    (tmp_path / "words.txt").write_text("kite\n")
    settings = QuerySettings(wikipedia=["https://dumps.invalid/x.xml.bz2"], tables=[str(tmp_path / "words.txt")])
    _, note, share = make_list(Job(SerialEngine()), settings, tmp_path / "f")
    assert (note, share) == ("no words of the remote dumps", 1.0)
    with bz2.open(tmp_path / "y.xml.bz2", "wb") as file:
        file.write(b"<mediawiki></mediawiki>\n")
    both = settings.model_copy(update={"wikipedia": [str(tmp_path / "y.xml.bz2"), *settings.wikipedia]})
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openwit.pipeline.plan.sample.make_queries", lambda _job, used, _folder: seen.append(used))
        _, note, _ = make_list(Job(SerialEngine()), both, tmp_path / "g")
    assert seen[0].wikipedia == [str(tmp_path / "y.xml.bz2")]
    assert note == "no words of the remote dumps"


def test_totals_are_between_their_bounds():
    assert total_of([10, 12], [100, 120], 220) == Range(22, 22, 22)
    few = total_of([10.0, 30.0], [100, 100], 1000)
    many = total_of([10.0, 30.0] * 10, [100] * 20, 10_000)
    assert few.mid == 200
    assert many.mid == 2000
    assert few.high / few.mid > many.high / many.mid > 1
    assert few.low >= 40
    one = total_of([10.0], [100], 1000)
    assert one.low < 100 < one.high


def test_a_range_of_counts_holds_the_truth_nine_times_of_ten():
    chooser = np.random.default_rng(1)
    for truth in (1.0, 5.0, 40.0):
        low, high = poisson_range(chooser.poisson(truth, 4000), 1.0)
        assert ((low <= truth) & (truth <= high)).mean() > 0.85
    assert [float(each[0]) for each in poisson_range(np.array([7]), 0.0)] == [7, 7]


def test_pairs_of_a_sample_are_those_of_the_whole():
    """Queries of known sizes; a tenth of the pairs is sampled."""
    chooser = np.random.default_rng(3)
    sizes = chooser.integers(1, 4000, 60)
    owner = np.repeat(np.arange(60), sizes)
    sampled = owner[chooser.random(len(owner)) < 0.1]
    offsets = np.arange(len(sampled) + 1)
    found = pairs_of(SelectSettings(cap=500), 60, offsets, ids=sampled, weights=np.full(len(sampled), 10.0))
    truth = np.minimum(sizes, 500).sum()
    assert found.pairs.low < truth < found.pairs.high
    assert abs(found.pairs.mid / truth - 1) < 0.1
    for settings in (SelectSettings(target_pairs=9000), SelectSettings(tail_share=0.2)):
        assert pairs_of(settings, 60, offsets, ids=sampled, weights=np.full(len(sampled), 10.0)).cap > 1


def test_numbers_have_no_false_precision():
    assert [count_of(value) for value in (3.4, 99, 12345, 987654)] == ["3", "99", "12,000", "990,000"]
    assert [size_of(value) for value in (12, 3.21e6, 45.6e9)] == ["12 bytes", "3.2 MB", "46 GB"]


def test_images_that_lie_in_tars_are_not_downloaded_and_kept_duplicates_stay(tmp_path):
    files = [part for n in range(5) for part in ((f"{n}.jpg", picture(n)), (f"{n}.txt", b"a kite"))]
    write_tar(tmp_path / "a.tar", files)
    (tmp_path / "urls.txt").write_text("".join(f"https://a.example/{n}.jpg\n" for n in range(5)))
    for name, download, images in (("a.tar", 0, 5), ("urls.txt", 5 * 0.7 * 150_000, 3.5)):
        candidates = {"inputs": [str(tmp_path / name)], "texts_required": False, "columns": {"keep": "all"}}
        steps = [{"candidates": candidates}, "fetch", {"dedup": "keep"}, "shard"]
        plan = plan_build(Recipe.parse({"name": "x", "steps": steps}), Job(SerialEngine()))
        assert plan.download_bytes.mid == pytest.approx(download)
        assert plan.step("shard").rows.mid == pytest.approx(images)
        assert any("only the web tells" in line for line in plan.unknown) == bool(download)
