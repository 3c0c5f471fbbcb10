"""Columns of the inputs come back with their types; uids, keys and the order of the inputs; datasets of before."""

import datetime
import decimal
import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.small_build import run

import openwit
from openwit.pipeline.api import remove
from openwit.pipeline.cli.main import main
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates.pair import pair_id
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import DatasetManifest

OLD = Path(__file__).parents[1] / "data" / "old-dataset"
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=datetime.UTC)


def table(first, rows, **further):
    """A table of pictures with columns of many types; the row number is in most of them."""
    numbers = range(first, first + rows)
    columns = {
        "image": [picture(n, (40, 40)) for n in numbers],
        "text": [f"picture {n}" for n in numbers],
        "key": [f"k{n:03d}" for n in numbers],
        "author": ["Ada" if n % 2 else None for n in numbers],
        "license": ["https://creativecommons.org/licenses/by/4.0/"] * rows,
        "width": pa.array(list(numbers), pa.int64()),
        "aesthetic": pa.array([[5.5, float("nan"), float("inf"), None][n % 4] for n in numbers], pa.float32()),
        "safe": [n % 3 == 0 for n in numbers],
        "taken": pa.array([NOON + datetime.timedelta(days=n) for n in numbers], pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal(n) / 4 for n in numbers], pa.decimal128(10, 2)),
        "raw": [bytes([n]) * 2 for n in numbers],
        "tags": pa.array([[f"t{n}", None] if n % 2 else [] for n in numbers], pa.large_list(pa.large_string())),
        "face": [{"box": [0.1, 0.2], "n ü": n} for n in numbers],
        **further,
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def built(folder, inputs, candidates=None, shard=None, columns=None):
    steps = [
        {"candidates": {"inputs": [str(path) for path in inputs], "columns": columns or {}, **(candidates or {})}},
        {"fetch": {"image": {"size": 32}}},
        {"dedup": "keep"},
        {"shard": {"samples": 4, **(shard or {})}},
    ]
    run(Recipe.parse({"name": "kept", "steps": steps}, "recipe"), folder)
    return folder / "dataset"


def metadata(dataset):
    shards = DatasetManifest.load(dataset).shards
    return pa.concat_tables([pq.read_table(dataset / shard.metadata.path) for shard in shards])


def members(dataset):
    found = {}
    for shard in DatasetManifest.load(dataset).shards:
        with tarfile.open(dataset / shard.tar.path) as tar:
            found |= {name: tar.extractfile(name).read() for name in tar.getnames()}
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """All columns of two tables are kept, with keys and order; the second lacks one column and has a narrower one."""
    folder = tmp_path_factory.mktemp("kept")
    pq.write_table(table(0, 6), folder / "b.parquet")
    narrow = table(6, 3, width=pa.array([6, 7, 8], pa.int16()), face=None)
    pq.write_table(narrow, folder / "a.parquet")
    inputs = [folder / "b.parquet", folder / "a.parquet"]
    return built(folder / "out", inputs, shard={"keys": "input", "order": "input"}, columns={"keep": "all"})


def test_values_and_types_come_back(dataset):
    found = metadata(dataset)
    whole = table(0, 9)
    expected = {
        "author": pa.string(),
        "aesthetic": pa.float32(),
        "safe": pa.bool_(),
        "taken": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(10, 2),
        "raw": pa.binary(),
        "tags": pa.list_(pa.string()),
        "width_input": pa.int64(),
    }
    for name, kind in expected.items():
        assert found.schema.field(name).type == kind, name
        written = whole.column(name.removesuffix("_input")).to_pylist()
        assert str(found.column(name).to_pylist()) == str(written), name
    faces = found.column("face").to_pylist()
    assert faces == [*whole.column("face").to_pylist()[:6], None, None, None]
    assert found.column("columns_by_text").null_count == 9
    assert set(found.column("licenses").to_pylist()[0]) == {"https://creativecommons.org/licenses/by/4.0/"}
    document = json.loads(members(dataset)["k001.json"])
    assert document["taken"] == "2026-01-03T12:00:00.123456Z"
    assert (document["aesthetic"], document["price"], document["raw"]) == (None, "0.25", "AQE=")
    assert (document["face"], document["tags"]) == ({"box": [0.1, 0.2], "n ü": 1}, ["t1", None])
    assert verify_dataset(dataset) == []


def test_keys_and_order_are_those_of_the_inputs(dataset):
    found = metadata(dataset)
    keys = [f"k{n:03d}" for n in range(9)]
    assert found.column("key").to_pylist() == keys
    assert found.column("key_input").to_pylist() == keys
    assert list(members(dataset)) == [f"{key}.{end}" for key in keys for end in ("jpg", "txt", "json")]
    [kept], _ = explain(dataset, "k004")
    assert (kept.texts[0].text, kept.facts["price"]) == ("picture 4", decimal.Decimal(1))


def test_the_uid_is_the_pair_of_the_caption_or_the_inputs_own(dataset, tmp_path):
    found = metadata(dataset).to_pylist()
    assert all(row["uid"] == pair_id(row["url"], row["caption"]).hex() == row["pair_ids"][0] for row in found)
    own = table(0, 4).select(["image", "text"]).append_column("uid", pa.array([7, 8, None, 10]))
    pq.write_table(own, tmp_path / "t.parquet")
    order = {"order": "input"}
    kept = metadata(built(tmp_path / "a", [tmp_path / "t.parquet"], shard=order, columns={"keep": ["uid"]}))
    pair = kept.column("pair_ids").to_pylist()[2][0]
    assert kept.column("uid").to_pylist() == ["7", "8", pair, "10"]
    named = metadata(built(tmp_path / "b", [tmp_path / "t.parquet"], shard=order, columns={"key": "uid"}))
    assert named.column("uid").to_pylist() == kept.column("uid").to_pylist()
    assert "columns_by_text" not in named.column_names


def test_samples_are_removed_and_read_with_their_columns(dataset, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    gone = metadata(copy).to_pylist()[4]
    assert remove(copy, [gone["url"]]).gone()
    left = metadata(copy)
    assert left.schema.equals(metadata(dataset).schema)
    assert left.num_rows == 8
    assert verify_dataset(copy) == []
    opened = openwit.open_dataset(str(copy), split="train")
    assert opened[0].metadata["author"] is None
    assert opened[1].metadata["width_input"] == 1


def test_texts_of_several_rows_keep_their_columns(tmp_path):
    rows = [{"url": "http://a.example/1.jpg", "text": text, "n": n} for n, text in enumerate(("one", "two"))]
    rows += [{"url": "http://a.example/2.jpg", "text": "three", "n": 5}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    from openwit.pipeline.dataset.kept_columns import kept_columns

    texts = pa.array(['{"n":0}', '{"n":1}', '{"n":5}', None, '{"n":5}'])
    found = kept_columns(texts, pa.array([0, 2, 3, 5]).to_numpy(), {"n": "int64"})
    assert found["n"].to_pylist() == [0, 5, None]
    assert found["columns_by_text"].to_pylist() == [['{"n":0}', '{"n":1}'], None, [None, '{"n":5}']]
    with pytest.raises(DataError, match="gives no type for the column 'm' that it keeps"):
        kept_columns(pa.array(['{"m":0}']), pa.array([0, 1]).to_numpy(), {})


TEXT_TABLES = {
    "t.csv": "image_url,caption,uid,score,n,zip,flag,empty\n"
    "http://a.example/1.jpg,one,00a,1.5,3,007,true,\n"
    'http://a.example/2.jpg,"two, too",00b,nan,,123,False,\n',
    "t.jsonl": '{"image_url": "http://a.example/1.jpg", "caption": "one", "uid": "00a", "score": 1.5, "n": 3, '
    '"zip": "007", "flag": true, "empty": ""}\n'
    '{"image_url": "http://a.example/2.jpg", "caption": "two, too", "uid": "00b", "score": 2, "zip": "123", '
    '"flag": false, "empty": null}',
}


@pytest.mark.parametrize("name", TEXT_TABLES)
def test_types_of_text_tables_are_those_of_all_values(tmp_path, name, job_of_candidates):
    (tmp_path / name).write_text(TEXT_TABLES[name])
    manifest, found = job_of_candidates([tmp_path / name], {"keep": ["uid", "score", "n", "zip", "flag", "empty"]})
    assert manifest.extra["columns"] == {
        "empty": "string", "flag": "bool", "n": "int64", "score": "double", "zip": "string",
    }  # fmt: skip
    first, second = (json.loads(text) for text in found.column("columns").to_pylist())
    assert first == {"flag": True, "n": 3, "score": 1.5, "uid": "00a", "zip": "007", "empty": ""}
    empty = {"empty": ""} if name.endswith("csv") else {}
    score = "NaN" if name.endswith("csv") else 2.0
    assert second == {"flag": False, "score": score, "uid": "00b", "zip": "123", **empty}


@pytest.fixture
def job_of_candidates(tmp_path):
    def made(inputs, columns, **settings):
        from support.serial_engine import SerialEngine

        from openwit.pipeline.execution.stage import Job
        from openwit.pipeline.stages.candidates import Candidates
        from openwit.pipeline.stages.candidates.settings import CandidateSettings
        from openwit.schemas.tables.candidates import CANDIDATES

        raw = CandidateSettings(inputs=[str(path) for path in inputs], columns=columns, **settings)
        done = Candidates().run(Job(SerialEngine()), raw, {}, tmp_path / "c").manifest
        return done, CANDIDATES.read(next((tmp_path / "c" / "candidates").glob("*.parquet")))

    return made


@pytest.mark.parametrize(
    ("second", "columns", "settings", "message"),
    [
        ({"a": [1]}, {"keep": ["b"]}, {}, "no input has the column 'b' that candidates.columns.keep names; .* has"),
        ({"a": ["x"]}, {"keep": ["a"]}, {}, "column 'a' is int64 in .*1.parquet, but string in .*2.parquet"),
        ({"width": [1], "width_input": [2]}, {"keep": "all"}, {}, "'width_input' would both be kept as 'width_input'"),
        ({"a": [1]}, {}, {"carry_keys": True}, "gives its rows no key, .*: name the column of keys"),
        ({"uid": [[1]]}, {"keep": ["uid"]}, {}, "column 'uid' holds list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path, job_of_candidates, second, columns, settings, message
):
    for name, further in (("1.parquet", {"a": [1]}), ("2.parquet", second)):
        row = {"url": ["http://a.example/1.jpg"], "text": ["one"]}
        pq.write_table(pa.table({**row, **further}), tmp_path / name)
    with pytest.raises(DataError, match=message):
        job_of_candidates([tmp_path / "1.parquet", tmp_path / "2.parquet"], columns, **settings)
    assert not list((tmp_path / "c").rglob("*.parquet"))


def test_keys_of_inputs_are_asked_for_and_must_name_one_sample(tmp_path):
    pairs = [{"candidates": {"inputs": ["a.parquet"]}}, {"shard": {"keys": "input"}}]
    recipe = Recipe.parse({"name": "r", "steps": pairs})
    assert recipe.step("candidates").settings.carry_keys is True
    pairs[0]["candidates"]["carry_keys"] = False
    with pytest.raises(RecipeError, match="step shard: carry_keys is True, but False in step candidates"):
        Recipe.parse({"name": "r", "steps": pairs})
    for name, keys, message in (
        (
            "twice",
            ["a", "b", "a", "c"],
            r"several samples have the key 'a' of their inputs \(1 key\): set",
        ),
        ("dots", ["a", "b.c", "d", "e"], "key 'b.c' of an input cannot name files"),
        ("none", ["a", None, "d", "e"], "1 samples have no key of their inputs: set shard.keys to number"),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table(0, 4).select(["image", "text"]).append_column("key", pa.array(keys)), path)
        with pytest.raises(DataError, match=message):
            built(tmp_path / name, [path], shard={"keys": "input"})


def test_datasets_of_earlier_releases_are_read_verified_explained_and_removed_from(tmp_path, capsys, monkeypatch):
    dataset = tmp_path / "old"
    shutil.copytree(OLD, dataset)
    assert verify_dataset(dataset) == []
    before = metadata(dataset)
    assert "uid" not in before.column_names
    row = before.to_pylist()[1]
    [kept], _ = explain(dataset, row["key"])
    assert [text.text for text in kept.texts] == row["texts"]
    example = openwit.open_dataset(str(dataset), split="train")[0]
    assert (example.image.size, example.metadata["key"]) == ((32, 32), "0000000000")
    gone = before.to_pylist()[0]
    assert remove(dataset, [gone["url"]]).gone()
    assert verify_dataset(dataset) == []
    assert metadata(dataset).schema.equals(before.schema, check_metadata=True)
    monkeypatch.setattr("sys.argv", ["wit", "card", str(dataset)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    assert io.StringIO((dataset / "card.html").read_text()).readline()
    assert verify_dataset(dataset) == []


def test_keys_of_tars_and_of_datasets_are_kept(dataset, tmp_path):
    from openwit.pipeline.readers.tables.kept_columns import KeptColumns

    copy = built(tmp_path / "copy", [dataset], shard={"keys": "input", "order": "input"})
    assert metadata(copy).column("key").to_pylist() == metadata(dataset).column("key").to_pylist()
    assert verify_dataset(copy) == []
    kept = KeptColumns({"n": "int64"}, carry_keys=True, own_uid=True)
    assert kept.of_row("k", {"n": 1, "m": None}) == '{"__key__":"k","n":1,"uid":"k"}'
    assert kept.of_row("k", {"uid": "own"}) == '{"__key__":"k","uid":"own"}'
    assert KeptColumns().of_row("k") is None
