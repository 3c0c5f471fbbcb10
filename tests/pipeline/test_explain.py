"""What `wit explain` knows of a build's images, kept and lost."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.pictures import picture

from pipeline.build import build
from pipeline.cli import main
from pipeline.columnar.runner import Runner
from pipeline.columnar.stage import Job
from pipeline.explain import explain
from pipeline.recipe import Recipe
from schemas.errors import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A build in which an image leaves at every stage that can lose one."""
    folder = tmp_path_factory.mktemp("explain")
    rows = [{"url": f"http://a.org/{n}.jpg", "image": picture(n), "text": f"a red kite {n}"} for n in range(6)]
    rows.append({"url": "http://a.org/Copy.jpg", "image": picture(60), "text": "a wren, a copy"})
    rows.append({"url": "http://a.org/Original.jpg", "image": picture(60), "text": "a wren, as it was"})
    rows.append({"url": "http://a.org/broken.jpg", "image": b"no image", "text": "a wren on a branch"})
    rows.append({"url": "http://a.org/name.jpg", "image": picture(50), "text": "IMG_0042.jpg"})
    rows.append({"url": "http://a.org/none.jpg", "image": picture(51), "text": "nothing that is asked for"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "birds.parquet")
    (folder / "queries.txt").write_text("kite\nwren\n")
    recipe = Recipe.model_validate(
        {
            "name": "birds",
            "queries": {"tables": [str(folder / "queries.txt")]},
            "candidates": {"inputs": [str(folder / "birds.parquet")]},
            "select": {"cap": 4},
            "fetch": {"image": {"size": 64}},
            "dedup": {"merge_texts": False},
        }
    )
    build(recipe, folder / "build", Job(Runner(), Console(quiet=True)))
    return folder / "build" / "dataset"


def test_a_kept_image_has_its_whole_lineage(dataset):
    samples = [kept for n in range(6) for kept in explain(dataset, f"http://a.org/{n}.jpg")[0]]
    assert len(samples) == 4
    for sample in samples:
        text = sample.texts[0]
        assert text.text.startswith("a red kite")
        assert text.archive.endswith("birds.parquet")
        assert text.drawn_by == ["kite"]
        assert text.matched == [{"query": "kite", "source": "table", "pool": 6, "drawn": 4}]
        assert 0 < text.priority <= 1
        by_key, dropped = explain(dataset, sample.key)
        assert by_key == [sample]
        assert dropped == []


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        ("broken", "fetch", "not_an_image"), ("name", "candidates", "file_name"), ("none", "select", "no_match"),
        ("Copy", "dedup", "duplicate_bytes"),
    ],
)  # fmt: skip
def test_a_lost_image_has_its_stage_and_reason(dataset, name, stage, reason):
    kept, dropped = explain(dataset, f"http://a.org/{name}.jpg")
    lost = dropped or explain(dataset, "http://a.org/Original.jpg")[1]  # of two equal images either may stay
    assert [(pair.stage, pair.reason) for pair in lost] == [(stage, reason)]
    assert kept == [] or name == "Copy"


def test_an_image_that_was_not_drawn_says_how_near_it_came(dataset):
    left = [pair for n in range(6) for pair in explain(dataset, f"http://a.org/{n}.jpg")[1]]
    not_drawn = [pair for pair in left if pair.reason == "not_drawn"]
    assert len(not_drawn) == 2
    assert all(pair.detail.startswith("matched 1 query, the nearest 'kite' at ") for pair in not_drawn)


def wit(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, capsys.readouterr()


def test_the_command(dataset, capsys, monkeypatch, tmp_path):
    code, printed = wit(["explain", dataset, "http://a.org/name.jpg"], capsys, monkeypatch)
    assert code == 0
    assert "Left at candidates: file name" in printed.out
    code, printed = wit(["explain", dataset, "http://a.org/unknown.jpg"], capsys, monkeypatch)
    assert code == 1
    assert "is neither in" in printed.out
    code, printed = wit(["explain", tmp_path, "x"], capsys, monkeypatch)
    assert code == 2
    assert "is not a dataset" in printed.err
    with pytest.raises(UserError):
        explain(tmp_path, "x")
