"""Builds from tars, folders, lists and finished datasets: every sample is a pair or has a reason, bytes come back."""

import io
import json
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.small_build import run
from support.tars import tar_of, write_tar

from openwit.pipeline.common.counting import ignore
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.readers.crawl.archive_file import RecordRange
from openwit.pipeline.readers.crawl.archive_parts import first_wrong
from openwit.pipeline.readers.samples.tars import tar_samples
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.splitting import edges
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates import Candidates
from openwit.pipeline.stages.candidates.parts import short_names
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.candidates import CANDIDATES


def read(folder, **settings):
    """Run candidates; return its manifest, pairs, drops by reason and notes."""
    parsed = CandidateSettings(**settings)
    manifest = Candidates().run(Job(SerialEngine()), parsed, {}, folder).manifest
    pairs = [
        row for path in sorted((folder / "candidates").glob("*.parquet")) for row in CANDIDATES.read(path).to_pylist()
    ]
    return manifest, pairs


def balanced(manifest):
    for step in manifest.funnel:
        assert step.rows_in == step.rows_out + sum(step.reasons.values())
    return manifest.funnel[-1]


def bodies(pairs):
    """The image bytes of each pair, read again."""
    by_archive = {}
    for pair in pairs:
        by_archive.setdefault(pair["archive"], set()).add(pair["record_offset"])
    found = {}
    for archive, rows in by_archive.items():
        listed = list(CandidateInputs().images(archive, rows))
        assert [row for row, _ in listed] == sorted(rows)
        found |= {(archive, row): body for row, body in listed}
    return [found[pair["archive"], pair["record_offset"]] for pair in pairs]


def members(number, body=None):
    """A sample as img2dataset writes it."""
    facts = {
        "url": f"https://a.org/{number}.jpg",
        "caption": f"a red kite {number}",
        "key": f"{number:09d}",
        "uid": "x",
    }
    facts |= {"license": "https://l.org/by", "split": "val" if number % 5 == 0 else "train", "language": "en-GB"}
    return [
        (f"{number:09d}.jpg", picture(number) if body is None else body),
        (f"{number:09d}.txt", f"a red kite {number}".encode()),
        (f"{number:09d}.json", json.dumps(facts).encode()),
    ]


def test_a_tar_gives_its_samples_with_texts_and_facts_and_their_bytes_again(tmp_path):
    write_tar(tmp_path / "00000.tar", [part for n in range(6) for part in members(n)])
    manifest, pairs = read(tmp_path / "out", inputs=[str(tmp_path / "00000.tar")])
    assert balanced(manifest).rows_out == 6
    first = pairs[0]
    assert (first["url"], first["text"], first["language"], first["split"], first["license"], first["has_bytes"]) == (
        "https://a.org/0.jpg", "a red kite 0", "en", "val", "https://l.org/by", True,
    )  # fmt: skip
    assert bodies(pairs) == [picture(n) for n in range(6)]


def test_what_is_wrong_in_a_tar_is_counted_and_the_rest_is_read(tmp_path):
    files = [
        *members(0),
        ("notes", b"no ending"),
        ("only.txt", b"a text alone"),
        ("lies.png", picture(1)),  # a JPEG
        ("lies.txt", b"a grey heron"),
        ("page.jpg", b"<html>no picture</html>"),
        ("page.txt", b"a page"),
        ("quiet.webp", picture(2, form="WEBP")),
        ("deep/x.JPG", picture(3)),
        ("deep/x.json", b"{broken"),
        ("deep/x.caption", b"a wren in a caption"),
        ("deep/x.other.jpg", picture(4)),
        ("long.jpg", picture(5)),
        ("long.txt", b"x " * (1 << 20)),
        *members(0),
        *members(7),
    ]
    damaged = bytearray(tar_of(files))
    write_tar(tmp_path / "a.tar", files)
    manifest, pairs = read(tmp_path / "out", inputs=[str(tmp_path / "a.tar")])
    step = balanced(manifest)
    assert step.reasons == {"no_image": 1, "no_text": 2}
    texts = [pair["text"] for pair in pairs]
    assert texts == ["a red kite 0", "a grey heron", "a page", "a wren in a caption", "a red kite 0", "a red kite 7"]
    assert manifest.extra["damage"] == {
        "bad_json": 1, "further_image": 1, "key_twice": 1, "no_image": 1, "other_file": 1, "text_too_long": 1,
    }  # fmt: skip
    assert bodies(pairs)[1] == picture(1)
    at = damaged.index(b"lies.png")
    damaged[at : at + 512] = b"\xff" * 512
    (tmp_path / "b.tar").write_bytes(damaged)
    manifest, pairs = read(tmp_path / "out2", inputs=[str(tmp_path / "b.tar")])
    assert balanced(manifest).reasons == {"no_image": 2, "no_text": 2}
    assert manifest.extra["damage"]["damaged_tar"] >= 1
    (tmp_path / "c.tar").write_bytes(tar_of([part for n in range(3) for part in members(n)])[:-14_000])
    manifest, pairs = read(tmp_path / "out3", inputs=[str(tmp_path / "c.tar")])
    assert balanced(manifest)
    assert manifest.extra["damage"]["damaged_tar"] == 1


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_read_in_parts_gives_the_pairs_of_the_whole(tmp_path, form):
    files = []
    for n in range(12):
        stem = f"{'d' * (n * 9)}{n:03d}" if form != tarfile.USTAR_FORMAT else f"{n:03d}"  # long names have headers
        inner = tar_of([(f"{n:03d}.jpg", picture(n)), (f"{n}i.txt", b"inner")], form)
        files += [(f"{stem}.jpg", picture(n)), (f"{stem}.txt", f"a red kite {n}".encode())]
        files += [(f"{stem}.bin", inner)] if n % 4 == 0 else []
    path = write_tar(tmp_path / "x.tar", files, form)
    whole = in_parts(path, path.stat().st_size)
    assert len(whole) == 12
    assert [body for _, body in CandidateInputs().images(str(path), [place for place, _ in whole])] == [
        picture(n) for n in range(12)
    ]
    for part_bytes in (512, 1536, 2000, 5000, 20_000):
        assert in_parts(path, part_bytes) == whole
    if form == tarfile.PAX_FORMAT:
        manifest, pairs = read(tmp_path / "parts", inputs=[str(path)], part_bytes=9000)
        assert [pair["record_offset"] for pair in pairs] == [place for place, _ in whole]
        assert balanced(manifest).rows_in == 12


def in_parts(path, part_bytes):
    """The place and text of each sample of a tar that is read in parts, as the stage confirms where they begin."""
    starts = [0, *edges(path.stat().st_size, part_bytes)]
    spans = [RecordRange(*span) for span in zip(starts, [*starts[1:], None], strict=True)]
    found = [samples(path, span) for span in spans]
    while (wrong := first_wrong(spans)) is not None:
        at, start = wrong
        if start is None:
            first = spans[at].start
            spans[at], found[at] = RecordRange(first, spans[at].end, exact=True), []
        else:
            spans[at] = RecordRange(start, spans[at].end, exact=True)
            found[at] = samples(path, spans[at])
    return [sample for part in found for sample in part]


def samples(path, span):
    with path.open("rb") as file:
        found = tar_samples(file, str(path), TableColumns(), ignore, span=span)
        return [(sample.place, sample.texts) for sample in found]


def test_a_changed_tar_or_folder_is_one_sentence(tmp_path):
    path = write_tar(tmp_path / "x.tar", members(0))
    with pytest.raises(DataError, match="holds no member at byte 4,096: it changed"):
        list(CandidateInputs().images(str(path), [4096]))
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.jpg").write_bytes(picture(0))
    with pytest.raises(DataError, match="has changed since its candidates were read"):
        list(CandidateInputs().images(f"{tmp_path}/f/", [77]))


def test_folders_of_images_with_texts_beside_and_links_that_leave_them(tmp_path):
    root = tmp_path / "photos"
    (root / "cats").mkdir(parents=True)
    (tmp_path / "elsewhere.jpg").write_bytes(picture(9))
    for n in range(3):
        (root / "cats" / f"{n}.jpg").write_bytes(picture(n))
    (root / "cats" / "0.txt").write_text("a grey cat")
    (root / "cats" / "1.json").write_text(json.dumps({"text": ["one", "two cats"], "url": "https://a.org/1"}))
    (root / "top").write_bytes(picture(5))
    (root / "b.png").write_bytes(picture(6, form="PNG"))
    (root / "b.caption").write_text("a bird")
    (root / "notes.pdf").write_bytes(b"%PDF")
    (root / "away.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (root / "cats" / "loop").symlink_to(root)
    manifest, pairs = read(tmp_path / "out", inputs=[str(root)])
    assert sorted(pair["text"] for pair in pairs) == ["a bird", "a grey cat", "one", "two cats"]
    assert balanced(manifest).reasons == {"no_text": 2, "link_outside": 1}
    manifest, pairs = read(tmp_path / "out2", inputs=[str(root)], texts_required=False)
    assert balanced(manifest).rows_out == 6
    assert picture(5) in bodies(pairs)
    with pytest.raises(DataError, match=r"set candidates\.texts_required to false"):
        read(
            tmp_path / "out3",
            inputs=[str(root / "cats")],
            columns={"text": ["none"]},
            filters={"apply_to": "all", "min_characters": 99},
        )


def test_lists_of_urls(tmp_path):
    lines = ["# a comment", "https://a.org/1.jpg", "", "  https://a.org/2.jpg  ", "no url", "https://a.org/3.jpg"]
    (tmp_path / "urls.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    (tmp_path / "wide.txt").write_text("\n".join(lines), "utf-16")
    for name in ("urls.txt", "wide.txt"):
        for part_bytes in (None, 7):
            out = tmp_path / f"{name}-{part_bytes}"
            settings = {"inputs": [str(tmp_path / name)], "texts_required": False, "part_bytes": part_bytes}
            manifest, pairs = read(out, **settings)
            assert [pair["url"] for pair in pairs] == [f"https://a.org/{n}.jpg" for n in (1, 2, 3)]
            assert balanced(manifest).reasons == {"bad_url": 1}
            assert not any(pair["has_bytes"] for pair in pairs)
    with pytest.raises(DataError, match="is a list of URLs without texts"):
        read(tmp_path / "no", inputs=[str(tmp_path / "urls.txt")])
    (tmp_path / "warcs.txt").write_text("crawl-data/x/00000.warc.gz\n")
    with pytest.raises(DataError, match=r"give it a name that ends in \.paths"):
        read(tmp_path / "no2", inputs=[str(tmp_path / "warcs.txt")], texts_required=False)


def test_outputs_of_img2dataset_in_its_three_formats(tmp_path):
    table = pa.table({"url": ["https://a.org/0.jpg"], "caption": ["x"], "key": ["000000000"], "status": ["success"]})
    tars, files, parquet = (tmp_path / name for name in ("tars", "files", "parquet"))
    for folder in (tars, files / "00000", parquet):
        folder.mkdir(parents=True)
    write_tar(tars / "00000.tar", [part for n in range(3) for part in members(n)])
    for name, body in [part for n in range(3) for part in members(n)]:
        (files / "00000" / name).write_bytes(body)
    rows = [{"url": f"https://a.org/{n}.jpg", "caption": f"a red kite {n}", "jpg": picture(n)} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), parquet / "00000.parquet")
    for folder in (tars, files, parquet):
        (folder / "00000_stats.json").write_text(json.dumps({"count": 3}))
        if folder != parquet:
            pq.write_table(table, folder / "00000.parquet")
        manifest, pairs = read(tmp_path / f"out-{folder.name}", inputs=[str(folder)])
        assert [pair["text"] for pair in pairs] == [f"a red kite {n}" for n in range(3)]
        assert balanced(manifest).rows_in == 3
        assert bodies(pairs) == [picture(n) for n in range(3)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset built of a tar and a table that are in one recipe."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "in").mkdir()
    write_tar(folder / "in" / "00000.tar", [part for n in range(5) for part in members(n)])
    rows = [{"image": picture(10 + n), "text": f"a wren {n}", "license": "https://l.org/cc0"} for n in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "in" / "wrens.parquet")
    steps = [{"candidates": {"inputs": [str(folder / "in")]}}, {"shard": {"samples": 4}}]
    run(Recipe.parse({"name": "mixed", "steps": steps}, "recipe"), folder / "out")
    return folder / "out" / "dataset"


def test_a_finished_dataset_is_read_through_its_metadata_and_built_again(dataset, tmp_path):
    old = DatasetManifest.load(dataset)
    assert sum(shard.samples for shard in old.shards) == 9
    steps = [{"candidates": {"inputs": [str(dataset)]}}, {"shard": {"samples": 9}}]
    run(Recipe.parse({"name": "again", "steps": steps}, "recipe"), tmp_path / "out")
    assert verify_dataset(tmp_path / "out" / "dataset") == []
    rows = {}
    for where in (dataset, tmp_path / "out" / "dataset"):
        tables = [pq.read_table(path) for path in sorted(where.glob("*/*.parquet"))]
        columns = ("url", "caption", "text_sources", "languages", "page_urls", "licenses", "sha256", "pair_ids")
        rows[where] = sorted(map(str, pa.concat_tables(tables).select(columns).to_pylist()))
        splits = {path.parent.name for path in where.glob("*/*.parquet")}
        assert splits == {"train", "val"}
    first, second = rows.values()
    assert first == second


def test_a_dataset_whose_index_is_damaged_is_read_by_its_tar(dataset, tmp_path):
    shard = dataset / DatasetManifest.load(dataset).shards[0].tar.path
    for source in shard.parent.glob(f"{shard.stem}*"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    manifest, pairs = read(tmp_path / "whole", inputs=[str(tmp_path / shard.name)])
    (tmp_path / f"{shard.stem}.idx.arrow").write_bytes(b"no index")
    manifest, again = read(tmp_path / "out", inputs=[str(tmp_path / shard.name)])
    assert manifest.extra["damage"] == {"sidecars_unused": 1}
    kept = ("text", "url", "record_offset", "has_bytes")
    assert [[pair[name] for name in kept] for pair in again] == [[pair[name] for name in kept] for pair in pairs]


def test_unsuitable_inputs_are_one_sentence(tmp_path):
    (tmp_path / "x.jpg").write_bytes(picture(0))
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "z.tar").write_bytes(b"\x1f\x8b" + bytes(1000))
    (tmp_path / "n.tar").write_bytes(b"nothing" * 1000)
    for name, message in {
        "x.jpg": "is an image: name its folder",
        "x.tar.gz": "is a compressed tar: .* unpack it",
        "z.tar": "is compressed: .* unpack it",
        "n.tar": "is not a tar",
    }.items():
        with pytest.raises(OpenWITError, match=message):
            read(tmp_path / f"out-{name}", inputs=[str(tmp_path / name)])


def test_names_of_inputs_tell_them_apart():
    assert short_names(["/x/a/0.tar", "/x/b/0.tar", "/x/c.tar"]) == {
        "/x/a/0.tar": "a/0.tar", "/x/b/0.tar": "b/0.tar", "/x/c.tar": "c.tar",
    }  # fmt: skip


def test_tables_of_one_name_in_several_folders_hold_different_images(tmp_path):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        table = pa.table({"image": [picture(number)], "text": [f"a red kite {number}"]})
        pq.write_table(table, tmp_path / folder / "0.parquet")
    _, pairs = read(tmp_path / "out", inputs=[str(tmp_path / "a/0.parquet"), str(tmp_path / "b/0.parquet")])
    assert [pair["url"] for pair in pairs] == ["table:a/0.parquet#0", "table:b/0.parquet#0"]
    assert bodies(pairs) == [picture(0), picture(1)]


def test_a_tar_and_a_dataset_in_a_store(dataset, tmp_path):
    store = fsspec.filesystem("memory")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:  # larger than a part
        for n in range(8):
            for name, body in members(n):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    store.pipe("/samples/x.tar", (tmp_path / "x.tar").read_bytes())
    _, pairs = read(tmp_path / "a", inputs=["memory://samples/x.tar"], part_bytes=9000)
    _, local = read(tmp_path / "b", inputs=[str(tmp_path / "x.tar")])
    assert [{**pair, "archive": ""} for pair in pairs] == [{**pair, "archive": ""} for pair in local]
    assert bodies(pairs) == [picture(n) for n in range(8)]
    store.put(str(dataset), "/samples/ds", recursive=True)
    _, pairs = read(tmp_path / "c", inputs=["memory://samples/ds"])
    _, local = read(tmp_path / "d", inputs=[str(dataset)])
    assert [{**pair, "archive": ""} for pair in pairs] == [{**pair, "archive": ""} for pair in local]
    assert bodies(pairs) == bodies(local)
    with pytest.raises(DataError, match="of a store, name the tars of a folder"):
        read(tmp_path / "e", inputs=["memory://samples/nothing"])
