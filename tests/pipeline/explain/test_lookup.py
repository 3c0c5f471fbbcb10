"""What `wit explain` knows of a build's images, kept and lost."""

import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture

from openwit.pipeline.build import build
from openwit.pipeline.cli.main import main
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.recipe import Recipe
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest


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
    build(recipe(folder, merge_texts=False), folder / "build", Job(make_engine("local", 1)))
    return folder / "build" / "dataset"


@pytest.fixture(scope="module")
def merged(dataset, tmp_path_factory):
    """The same, but the image that stays takes over the texts of its copies."""
    workdir = tmp_path_factory.mktemp("merged") / "build"
    shutil.copytree(dataset.parent, workdir)
    changed = recipe(dataset.parent.parent, merge_texts=True)
    build(changed, workdir, Job(make_engine("local", 1), replace=True))
    return workdir / "dataset"


def recipe(folder, merge_texts):
    steps = [
        {"queries": {"tables": [str(folder / "queries.txt")]}},
        {"candidates": {"inputs": [str(folder / "birds.parquet")], "filters": {"apply_to": "all"}}},
        {"select": {"cap": 4}},
        {"fetch": {"image": {"size": 64}}},
        {"dedup": {"merge_texts": merge_texts}},
        "shard",
        "card",
    ]
    return Recipe.parse({"name": "birds", "steps": steps})


def test_a_kept_image_has_its_whole_lineage(dataset):
    samples = [kept for n in range(6) for kept in explain(dataset, f"http://a.org/{n}.jpg")[0]]
    assert len(samples) == 4
    for sample in samples:
        text = sample.texts[0]
        assert text.text.startswith("a red kite")
        assert text.archive.endswith("birds.parquet")
        assert text.drawn_by == ["kite"]
        [match] = text.matched
        assert (match.query, match.source, match.pool, match.drawn) == ("kite", "table", 6, 4)
        assert 0 < match.u <= match.threshold < 1
        assert text.priority == pytest.approx(match.u / match.threshold)
        assert text.of_copy is None
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
    for pair in not_drawn:
        [match] = pair.matched
        assert match.u > match.threshold
        assert f"{match.u / match.threshold:.3g} times" in pair.detail


@pytest.mark.parametrize("spelling", ["HTTP://A.ORG:80/{}#top", "http://a.org/./x/../{}", "  http://a.org/{} "])
def test_a_url_is_known_in_any_spelling(dataset, spelling):
    for name in ("broken.jpg", "name.jpg", "Original.jpg", "br%6Fken.jpg"):
        asked = spelling.format(name)
        assert explain(dataset, asked) == explain(dataset, f"http://a.org/{name.replace('%6F', 'o')}") != ([], [])


def test_a_pair_is_known_by_its_id(dataset):
    [sample] = [kept for name in ("Original", "Copy") for kept in explain(dataset, f"http://a.org/{name}.jpg")[0]]
    assert explain(dataset, sample.texts[0].pair_id.upper())[0] == [sample]
    [lost] = explain(dataset, "http://a.org/broken.jpg")[1]
    assert explain(dataset, lost.pair_id) == ([], [lost])
    assert explain(dataset, "0" * 32) == ([], [])


def test_a_copy_whose_text_went_over_says_to_whom(merged):
    names = {f"http://a.org/{name}.jpg" for name in ("Copy", "Original")}
    stories = {url: explain(merged, url) for url in names}
    [survivor] = {kept.url for kept, _ in stories.values() for kept in kept}
    [copy] = names - {survivor}
    kept, dropped = stories[copy]
    [pair] = dropped
    assert (pair.stage, pair.reason, pair.url) == ("dedup", "duplicate_bytes", copy)
    assert f"duplicate of {survivor} (the same bytes)" in pair.detail
    assert kept[0].key in pair.detail
    came = {text.text: text.of_copy for text in kept[0].texts}
    assert sorted(came.values(), key=str) == sorted([None, copy], key=str)
    assert stories[survivor] == (kept, [])


def test_a_dataset_without_its_build_still_tells_of_what_it_holds(merged, tmp_path):
    alone = tmp_path / "d"
    shutil.copytree(merged, alone)
    kept, dropped = explain(alone, "http://a.org/broken.jpg")
    assert (kept, dropped) == ([], [])
    for name in ("Copy", "Original"):
        for sample in explain(alone, f"http://a.org/{name}.jpg")[0]:
            assert sorted((text.of_copy for text in sample.texts), key=str) == ["", None]
    (alone / "queries.parquet").unlink()
    [sample] = explain(alone, "0000000000")[0]
    assert sample.texts[0].matched == []


def wit(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, capsys.readouterr()


@pytest.mark.parametrize("what", [5, None, b"0000000005"])
def test_a_key_that_is_no_text_is_one_sentence(dataset, what):
    with pytest.raises(TypeError, match="name a URL, key or pair ID as text, got .*: keys have ten digits"):
        explain(dataset, what)


def test_the_command(dataset, capsys, monkeypatch, tmp_path):
    code, printed = wit(["explain", dataset, "http://a.org/name.jpg"], capsys, monkeypatch)
    assert code == 0
    assert "Dropped at candidates: file name" in printed.out
    code, printed = wit(["explain", dataset, "http://a.org/unknown.jpg"], capsys, monkeypatch)
    assert code == 1
    assert "is neither in" in printed.out
    code, printed = wit(["explain", tmp_path, "x"], capsys, monkeypatch)
    assert code == 2
    assert "is not a dataset" in printed.err
    with pytest.raises(OpenWITError):
        explain(tmp_path, "x")
    with pytest.raises(OpenWITError, match="name an image URL"):
        explain(dataset, " ")


def test_what_is_printed(merged, capsys, monkeypatch):
    _, printed = wit(["explain", merged, "http://a.org/Copy.jpg"], capsys, monkeypatch)
    for words in ("Kept as ", "dedup      1 duplicate of it dropped", "query    wren: drew it (u 0."):
        assert words in printed.out
    lost = [url for url in (f"http://a.org/{n}.jpg" for n in range(6)) if explain(merged, url)[1]]
    _, printed = wit(["explain", merged, lost[0]], capsys, monkeypatch)
    assert "query    kite: did not draw it (u 0." in printed.out


def test_a_broken_file_is_a_sentence(merged, tmp_path):
    alone = tmp_path / "b" / "dataset"
    shutil.copytree(merged, alone)
    drops = tmp_path / "b" / "stages" / "select" / "drops"
    drops.mkdir(parents=True)
    (drops / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(OpenWITError, match="00000.parquet cannot be read"):
        explain(alone, "x")
    (alone / "train" / "00000.parquet").write_bytes(b"")
    with pytest.raises(OpenWITError, match="train/00000.parquet cannot be read"):
        explain(alone, "x")


def test_an_unfinished_build_tells_what_it_dropped_so_far(dataset, tmp_path, capsys, monkeypatch):
    shutil.copytree(dataset.parent / "stages", tmp_path / "stages")
    shutil.rmtree(tmp_path / "stages" / "dedup")
    [lost] = explain(tmp_path / "dataset", "http://a.org/broken.jpg")[1]
    assert (lost.stage, lost.reason) == ("fetch", "not_an_image")
    assert explain(tmp_path, "http://a.org/broken.jpg") == ([], [lost])
    shown = wit(["explain", tmp_path, "http://a.org/other.jpg"], capsys, monkeypatch)
    assert "not finished" in str(shown)


def test_a_scheme_that_is_not_supported_is_named(dataset, capsys, monkeypatch):
    shown = wit(["explain", dataset, "FTP://a.org/x.jpg"], capsys, monkeypatch)
    assert "the scheme ftp is not supported" in str(shown)


def test_a_removed_sample_says_so_by_url_and_by_key(dataset, tmp_path, capsys, monkeypatch):
    shutil.copytree(dataset.parent, tmp_path / "build")
    copy = tmp_path / "build" / "dataset"
    [sample] = [kept for n in range(6) for kept in explain(copy, f"http://a.org/{n}.jpg")[0]][:1]
    (tmp_path / "list.txt").write_text(f"{sample.url}\n")
    wit(["remove", copy, "--list", tmp_path / "list.txt"], capsys, monkeypatch)
    for name in (sample.url, sample.key):
        kept, [lost] = explain(copy, name)
        assert (kept, lost.stage, lost.reason) == ([], "wit remove", "removed")
    assert explain(copy, "http://a.org/never.jpg") == explain(copy, "9999999999") == ([], [])


def test_a_key_that_no_shard_ever_had_was_not_removed(dataset, tmp_path, capsys, monkeypatch):
    shutil.copytree(dataset.parent, tmp_path / "build")
    copy = tmp_path / "build" / "dataset"
    shards = DatasetManifest.load(copy).shards
    samples = [kept for n in range(6) for kept in explain(copy, f"http://a.org/{n}.jpg")[0]]
    (tmp_path / "list.txt").write_text("".join(f"{sample.url}\n" for sample in samples))
    wit(["remove", copy, "--list", tmp_path / "list.txt"], capsys, monkeypatch)
    keys = {sample.key for sample in samples}
    assert len(keys) > 1
    for key in keys:
        assert [drop.reason for drop in explain(copy, key)[1]] == ["removed"]
    for shard in shards:
        assert explain(copy, f"{shard.tar.path[-9:-4]}{shard.samples:05}") == ([], [])
