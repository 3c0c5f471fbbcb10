"""Columns, uids and keys of tars, folders, datasets, readers and img2dataset's outputs come back in a new dataset."""

import functools
import itertools
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.small_build import run
from support.tars import write_tar

from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.readers.samples.datasets import is_shard
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates.pair import pair_id
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.card.stage import write_card
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest

BIG = 2**53 + 1
ROWS = 4


def facts(n, **further):
    """What img2dataset writes beside an image of DataComp."""
    return {
        "uid": f"{n:032x}",
        "url": f"https://a.example/{n}.jpg",
        "caption": f"picture {n}",
        "key": f"{n:09d}",
        "status": "success",
        "width": 32,
        "score": [1, 2.5, None, 3][n % 4],
        "big": [BIG, 1.5, 2, None][n % 4],
        "mixed": [1, "one", None, [1]][n % 4],
        "face_bboxes": [[0.1, 0.2, 0.3, 1]] if n % 2 else [],
        "author": f"Ada {n}",
        **further,
    }


EXPECTED = {
    "score": ("double", [1.0, 2.5, None, 3.0]),
    "big": ("string", [str(BIG), "1.5", "2", None]),
    "mixed": ("string", ["1", "one", None, "[1]"]),
    "face_bboxes": ("list<element: list<element: double>>", [[], [[0.1, 0.2, 0.3, 1.0]]] * 2),
    "author": ("string", [f"Ada {n}" for n in range(ROWS)]),
}


def tar(folder, own=True):
    files = []
    for n in range(ROWS):
        given = facts(n) if own else {name: value for name, value in facts(n).items() if name != "uid"}
        files += [(f"k{n}.jpg", picture(n, (40, 40))), (f"k{n}.txt", f"picture {n}".encode())]
        files += [(f"k{n}.json", json.dumps(given).encode())]
    write_tar(folder / "00000.tar", files)
    return [folder / "00000.tar"]


def images(folder, own=True):
    (folder / "files").mkdir()
    for n in range(ROWS):
        given = facts(n) if own else {name: value for name, value in facts(n).items() if name != "uid"}
        (folder / "files" / f"k{n}.jpg").write_bytes(picture(n, (40, 40)))
        (folder / "files" / f"k{n}.json").write_text(json.dumps(given))
    return [folder / "files"]


def table(folder, own=True):
    rows = pa.Table.from_pylist([{"image": picture(n, (40, 40)), "key": f"k{n}"} for n in range(ROWS)])
    for name in ("uid", "url", "caption", "author"):
        if own or name != "uid":
            rows = rows.append_column(name, pa.array([facts(n)[name] for n in range(ROWS)]))
    for name, (kind, values) in EXPECTED.items():
        if name != "author":
            into = pa.list_(pa.list_(pa.float64())) if "list" in kind else kind
            rows = rows.append_column(name, pa.array(values, into))
    pq.write_table(rows, folder / "t.parquet")
    return [folder / "t.parquet"]


def dataset(folder, own=True, form="webdataset"):
    built(folder / "first", tar(folder, own), {"keep": "all"}, {"keys": "input", "format": form})
    return [folder / "first" / "dataset"]


def img2dataset(folder, own=True):
    """Its output format parquet: the bytes are a column, and the tar's facts the others."""
    rows = [{**facts(n), "jpg": picture(n, (40, 40)), "key": f"k{n}"} for n in range(ROWS)]
    columns = {
        name: [row[name] for row in rows] for name in rows[0] if name not in EXPECTED and (own or name != "uid")
    }
    kinds = {
        name: pa.list_(pa.list_(pa.float64())) if "list" in kind else kind for name, (kind, _) in EXPECTED.items()
    }
    typed = {name: pa.array(EXPECTED[name][1], kind) for name, kind in kinds.items()}
    pq.write_table(pa.table({**columns, **typed}), folder / "00000.parquet")
    return [folder / "00000.parquet"]


def built(folder, inputs, columns=None, shard=None, **candidates):
    steps = [
        {"candidates": {"inputs": [str(path) for path in inputs], "columns": columns or {}, **candidates}},
        {"fetch": {"image": {"size": 32}}},
        {"dedup": "keep"},
        {"shard": {"samples": 4, "order": "input", **(shard or {})}},
    ]
    run(Recipe.parse({"name": "kept", "steps": steps}, "recipe"), folder)
    return folder / "dataset"


def metadata(folder):
    shards = DatasetManifest.load(folder).shards
    return pa.concat_tables([pq.read_table(folder / shard.metadata.path) for shard in shards])


INPUTS = {
    "tar": tar,
    "folder": images,
    "table": table,
    "dataset": dataset,
    "dataset of files": functools.partial(dataset, form="files"),
    "dataset of tables": functools.partial(dataset, form="parquet"),
    "img2dataset": img2dataset,
}
PRODUCT = [*itertools.product(INPUTS, ("none", "some", "all"), (True, False), ("number", "input"))]
FAST = {("tar", "all", True, "input")}
OURS = ("dataset", "dataset of files", "dataset of tables")
# Every fifth of the 84 builds: each input, and each choice of the others.
SLOW = {each for at, each in enumerate(PRODUCT) if at % 5 == 0} | {(kind, "all", True, "input") for kind in OURS}


@pytest.mark.parametrize(
    ("kind", "keep", "own", "keys"),
    [each if each in FAST else pytest.param(*each, marks=pytest.mark.slow) for each in PRODUCT if each in FAST | SLOW],
)
def test_every_input_gives_its_columns_uids_and_keys(tmp_path, kind, keep, own, keys):
    columns = {"none": {}, "some": {"keep": ["score", *(["uid"] if own else [])]}, "all": {"keep": "all"}}[keep]
    found = built(tmp_path / "out", INPUTS[kind](tmp_path, own), columns, {"keys": keys})
    rows = metadata(found)
    names = {"none": [], "some": ["score"], "all": list(EXPECTED)}[keep]
    for name in EXPECTED:
        assert (name in rows.column_names) == (name in names)
    for name in names:
        assert (str(rows.schema.field(name).type), rows.column(name).to_pylist()) == EXPECTED[name], name
    # A table's column uid is kept where it is asked for; the .json of a sample is its own.
    wins = own and (keep != "none" or kind in ("tar", "folder", *OURS))
    computed = [pair_id(row["url"], row["caption"]).hex() for row in rows.to_pylist()]
    assert rows.column("uid").to_pylist() == ([f"{n:032x}" for n in range(ROWS)] if wins else computed)
    assert rows.column("key").to_pylist() == (
        [f"k{n}" for n in range(ROWS)] if keys == "input" else [f"{n:010d}" for n in range(ROWS)]
    )
    assert verify_dataset(found) == []
    if kind in OURS:
        assert set(rows.column("origin_archive").to_pylist()) == {str(tmp_path / "00000.tar")}
        again = built(tmp_path / "again", [found], {"keep": "all"})
        assert metadata(again).select(["origin_archive", "origin_record_offset", *names]) == rows.select(
            ["origin_archive", "origin_record_offset", *names]
        )
        assert metadata(again).column("uid") == rows.column("uid")
        [kept], _ = explain(again, rows.column("url").to_pylist()[1])
        assert kept.facts["origin_archive"] == str(tmp_path / "00000.tar")


def test_columns_that_the_user_names_are_read_in_a_dataset_too(tmp_path):
    """Of a finished dataset in tables: its author is the key of each row, and the column of images is left unread."""
    [found] = dataset(tmp_path, form="parquet")
    named = metadata(built(tmp_path / "named", [found], {"key": "author"}, {"keys": "input"}))
    assert named.column("key").to_pylist() == [f"Ada {n}" for n in range(ROWS)]
    [shard] = DatasetManifest.load(found).shards
    assert is_shard(str(found / shard.tar.path), TableColumns())
    for columns in ({"image": ""}, {"key": "author"}, {"text": ("caption",)}, {"split": "split"}):
        assert not is_shard(str(found / shard.tar.path), TableColumns(**columns))


def test_texts_of_a_dataset_keep_their_own_columns(tmp_path):
    """An image with three texts of two tables: types widen, and each text keeps its row's values and its origin."""
    rows = [
        {"image": picture(1, (40, 40)), "url": "https://a.example/1.jpg", "text": text}
        for text in ("one kite", "two kites", "three kites")
    ]
    first = {name: [row[name] for row in rows] for name in ("image", "url", "text")}
    pq.write_table(
        pa.table({**first, "n": pa.array([0, 1, 1], pa.int32()), "t": pa.array([1, 2, 3], pa.timestamp("s"))}),
        tmp_path / "a.parquet",
    )
    one = built(tmp_path / "one", [tmp_path / "a.parquet"], {"keep": ["n", "t"]})
    other = {"image": [picture(2, (40, 40))], "text": ["four"], "n": [2**40], "t": pa.array([1], pa.timestamp("us"))}
    pq.write_table(pa.table(other), tmp_path / "b.parquet")
    two = metadata(built(tmp_path / "two", [one, tmp_path / "b.parquet"], {"keep": "all"}))
    assert (two.schema.field("n").type, two.schema.field("t").type) == (pa.int64(), pa.timestamp("us"))
    sample, alone = two.to_pylist()
    listed = [json.loads(text) for text in sample["columns_by_text"]]
    assert sorted((each["n"], each["t"]) for each in listed) == [(0, 10**6), (1, 2 * 10**6), (1, 3 * 10**6)]
    by_text = dict(zip(sample["texts"], listed, strict=True))
    assert by_text["three kites"]["origin_record_offset"] == 2
    assert {each["origin_archive"] for each in listed} == {str(tmp_path / "a.parquet")}
    assert (alone["n"], alone["origin_archive"], alone["columns_by_text"]) == (2**40, None, None)


READER = """
def read(path):
    for n in range(4):
        yield {"url": f"https://a.example/{n}.jpg", "text": f"a kite {n}", "key": f"r{n}",
               "columns": {"uid": f"u{n}", "n": n if n else 0.5, "width": n, "tags": ["x"] * n}}

def odd(path):
    yield {"url": "https://a.example/1.jpg", "text": "a kite", "columns": {"at": {"x": object()}}}

def names(path):
    yield {"url": "https://a.example/1.jpg", "text": "a kite", "columns": [1]}
"""


def test_your_own_reader_gives_columns_and_keys(tmp_path, monkeypatch, candidates_of):
    (tmp_path / "kites_reader.py").write_text(READER)
    (tmp_path / "a.zipx").write_bytes(b"x")
    monkeypatch.syspath_prepend(tmp_path)
    readers = {".zipx": "kites_reader.read"}
    done, found = candidates_of([tmp_path / "a.zipx"], {"keep": "all"}, readers=readers, carry_keys=True)
    assert done.extra["columns"] == {"n": "double", "tags": "list<string>", "width_input": "int64"}
    assert json.loads(found[1]) == {"__key__": "r1", "n": 1.0, "tags": ["x"], "uid": "u1", "width_input": 1}
    _, found = candidates_of([tmp_path / "a.zipx"], {}, readers=readers)
    assert found == [None] * 4
    odd, names = "has the column 'at' that holds a object", "`columns` that are not a mapping"
    for name, message in (("odd", odd), ("names", names)):
        with pytest.raises(DataError, match=message):
            candidates_of([tmp_path / "a.zipx"], {"keep": "all"}, readers={".zipx": f"kites_reader.{name}"})


@pytest.fixture
def candidates_of(tmp_path):
    def made(inputs, columns, **settings):
        from support.serial_engine import SerialEngine

        from openwit.pipeline.execution.stage import Job
        from openwit.pipeline.stages.candidates import Candidates
        from openwit.pipeline.stages.candidates.settings import CandidateSettings
        from openwit.schemas.tables.candidates import CANDIDATES

        raw = CandidateSettings(inputs=[str(path) for path in inputs], columns=columns, **settings)
        folder = tmp_path / f"c{len(list(tmp_path.glob('c[0-9]*')))}"
        done = Candidates().run(Job(SerialEngine()), raw, {}, folder).manifest
        files = sorted((folder / "candidates").glob("*.parquet"))
        return done, [row for path in files for row in CANDIDATES.read(path).column("columns").to_pylist()]

    return made


def test_columns_that_samples_lack_or_that_clash_are_refused(tmp_path, candidates_of):
    [path] = tar(tmp_path)
    with pytest.raises(DataError, match=r"no input has the column 'nothing' .* has 'uid', 'url'"):
        candidates_of([path], {"keep": ["nothing"]})
    rows = {"url": ["https://a.example/1.jpg"], "text": ["one"], "score": pa.array([1], pa.int64())}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'score' is double in .*tar, but int64 in .*parquet"):
        candidates_of([path, tmp_path / "t.parquet"], {"keep": ["score"]})
    write_tar(tmp_path / "u.tar", [("a.jpg", picture(1)), ("a.txt", b"one"), ("a.json", b'{"uid": [1]}')])
    with pytest.raises(DataError, match="column 'uid' holds .*identifiers of samples are text or numbers"):
        candidates_of([tmp_path / "u.tar"], {"keep": ["uid"]})
    many = json.dumps({f"f{n}": n for n in range(1100)}).encode()
    write_tar(tmp_path / "m.tar", [("a.jpg", picture(1)), ("a.txt", b"one"), ("a.json", many)])
    with pytest.raises(DataError, match="more than 1,000 different fields"):
        candidates_of([tmp_path / "m.tar"], {"keep": "all"})
    assert candidates_of([tmp_path / "m.tar"], {"keep": ["f7"]})[1] == ['{"f7":7}']


JSON_LINES = [{"n": BIG}, {"n": 1.5}, {"n": None}]
CSV = f"url,text,n,m\nhttps://a.example/1.jpg,one,{BIG},{2**64}\nhttps://a.example/2.jpg,two,1.5,1\n"


def test_numbers_that_a_double_would_change_are_text(tmp_path, candidates_of):
    rows = [{"url": f"https://a.example/{n}.jpg", "text": "kite", **row} for n, row in enumerate(JSON_LINES)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done, found = candidates_of([tmp_path / "t.jsonl"], {"keep": ["n"]})
    assert done.extra["columns"] == {"n": "string"}
    assert found == [f'{{"n":"{BIG}"}}', '{"n":"1.5"}', None]
    (tmp_path / "t.csv").write_text(CSV)
    done, found = candidates_of([tmp_path / "t.csv"], {"keep": ["n", "m"]})
    assert done.extra["columns"] == {"n": "string", "m": "string"}
    assert found[0] == f'{{"m":"{2**64}","n":"{BIG}"}}'
    # Times whose unit the other table's cannot hold: a sentence, not Arrow's error.
    late = pa.table({"url": ["https://a.example/1.jpg"], "text": ["x"], "t": pa.array([10**11], pa.timestamp("s"))})
    pq.write_table(late, tmp_path / "a.parquet")
    pq.write_table(late.set_column(2, "t", pa.array([1], pa.timestamp("ns"))), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"a.parquet: column 't' holds a value that timestamp\[ns\]"):
        candidates_of([tmp_path / "a.parquet", tmp_path / "b.parquet"], {"keep": ["t"]})


def test_names_that_are_not_utf8_are_shown_and_read(tmp_path, candidates_of):
    folder = tmp_path / "files"
    folder.mkdir()
    base = os.fsencode(folder)
    for name, body in ((b"caf\xe9.jpg", picture(1)), (b"caf\xe9.txt", b"a cafe"), (b"note\xff.pdf", b"x")):
        Path(os.fsdecode(base + b"/" + name)).write_bytes(body)
    done, found = candidates_of([folder], {}, carry_keys=True)
    assert found == [r'{"__key__":"caf\\xe9"}']
    assert done.extra["damage"] == {"other_file": 1}
    write_tar(tmp_path / "x.tar", [("caf\udce9.jpg", picture(1)), ("caf\udce9.txt", b"a cafe")])
    assert candidates_of([tmp_path / "x.tar"], {}, carry_keys=True)[1] == ['{"__key__":"café"}']
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xe9ste.csv"))).write_text(CSV)
    with pytest.raises(DataError, match=r"the name .*l\\xe9ste.csv is not UTF-8: rename"):
        candidates_of([f"{tmp_path}/l*.csv"], {})


def test_authors_and_licences_reach_the_card(tmp_path):
    rows = {
        "image": [picture(n, (40, 40)) for n in range(4)],
        "text": [f"kite {n}" for n in range(4)],
        "author": ["Ada, L.", "Ada, L.", None, "B\x1b[31mob"],
        "license": ["CC-BY", "CC-BY", "CC0", None],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    found = built(tmp_path / "out", [tmp_path / "t.parquet"], {"keep": ["author"]})
    (found / "attribution.csv").write_text("my own list\n")
    write_card(CardSettings(), found)
    assert (found / "attribution.csv").read_text() == "my own list\n"
    assert verify_dataset(found) == []
    (found / "attribution.csv").unlink()
    write_card(CardSettings(), found)
    lines = (found / "attribution.csv").read_text().splitlines()
    assert lines[:3] == ["author,licence,images", '"Ada, L.",CC-BY,2', ",CC0,1"]
    assert "\x1b" not in lines[3]
    authors = json.loads((found / "card.json").read_text())["licences"]["authors"]
    assert (authors["images"], authors["none_stated"], authors["n"], authors["pairs"]) == (4, 1, 2, 3)
    assert "1 of 4 images name none" in (found / "README.md").read_text()
    assert "attribution.csv" in (found / "card.html").read_text()
    assert verify_dataset(found) == []
    (found / "attribution.csv").write_text("author,licence,images\nmallory,CC0,4\n")
    assert any("attribution.csv" in problem for problem in map(str, verify_dataset(found)))
