import hashlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.locked_build import CAP, WORDS, make_locked_build, make_web

from openwit.pipeline.cli.main import main
from openwit.pipeline.rehydration.lock_dataset import lock_dataset
from openwit.pipeline.rehydration.lockfile import load_lock, queries_file, sums_file
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.locks import LOCK
from openwit.schemas.tables.samples import SAMPLES


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locked")
    web = make_web()
    make_locked_build(folder, web)
    web.stop()
    lock_dataset(folder / "out" / "dataset", folder / "lock.parquet")
    return folder


def samples(dataset):
    shards = DatasetManifest.load(dataset).shards
    return pa.concat_tables([SAMPLES.read(dataset / shard.metadata.path) for shard in shards])


def copied(folder, tmp_path):
    for path in folder.glob("lock.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "lock.parquet"


def rewritten(path, change):
    """Change the rows of a lock and its checksum, keeping its metadata."""
    table = pq.read_table(path)
    pq.write_table(change(table), path)
    sums_file(path).unlink()
    return path


def test_a_lock_has_every_sample_in_order_and_no_picture(built):
    found = samples(built / "out" / "dataset")
    table = LOCK.read(built / "lock.parquet")
    lock = load_lock(built / "lock.parquet")
    by_url = {row["url"]: row for row in found.to_pylist()}
    assert set(table.column("url").to_pylist()) == set(by_url)
    for row in table.to_pylist():
        sample = by_url[row["url"]]
        assert [i.hex() for i in row["pair_ids"]] == sample["pair_ids"]
        assert (row["sha256"], f"{row['phash']:016x}") == (sample["sha256"], sample["phash"])
        assert (row["texts"], row["drawn_by"]) == (sample["texts"], sample["drawn_by"])
        assert row["uid"] == sample.get("uid", sample["pair_ids"][0])
        assert (row["fingerprint"] is None, row["has_bytes"], row["page_urls"]) == (
            False,
            False,
            [None] * len(row["texts"]),
        )
    firsts = [ids[0] for ids in table.column("pair_ids").to_pylist()]
    assert firsts == sorted(firsts)
    assert (lock.notes.cap, lock.notes.seed, lock.notes.dataset) == (CAP, 3, "birds")
    assert (lock.notes.samples, lock.notes.pairs) == (len(by_url), sum(map(len, found.column("texts").to_pylist())))
    assert lock.queries.column("query").to_pylist() == sorted(WORDS)
    assert lock.notes.recipe["select"]["cap"] == CAP


def test_the_same_dataset_gives_the_same_bytes(built, tmp_path):
    lock_dataset(built / "out" / "dataset", tmp_path / "lock.parquet")
    for name in ("lock.parquet", "lock.queries.parquet", "lock.parquet.sha256"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()
    sums = dict(reversed(line.split()) for line in sums_file(tmp_path / "lock.parquet").read_text().splitlines())
    assert sums["lock.parquet"] == hashlib.sha256((tmp_path / "lock.parquet").read_bytes()).hexdigest()


def test_many_parts_are_in_the_same_order(built, tmp_path, monkeypatch):
    monkeypatch.setattr("openwit.pipeline.rehydration.lock_dataset._SORTED_TOGETHER", 5)
    lock_dataset(built / "out" / "dataset", tmp_path / "lock.parquet")
    assert LOCK.read(tmp_path / "lock.parquet").equals(LOCK.read(built / "lock.parquet"))


def test_without_the_build_there_are_no_descriptors(built, tmp_path):
    shutil.copytree(built / "out" / "dataset", tmp_path / "dataset")
    notes = lock_dataset(tmp_path / "dataset", tmp_path / "lock.parquet")
    assert not notes.descriptors
    assert LOCK.read(tmp_path / "lock.parquet").column("fingerprint").null_count == notes.samples


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        (lambda path: (path.write_bytes(b"no parquet"), sums_file(path).unlink()), "no readable Parquet file"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: (shutil.copy(queries_file(path), path), sums_file(path).unlink()), "is not a lockfile"),
        (lambda path: rewritten(path, lambda t: t.slice(1)), "is damaged: it has"),
        (lambda path: rewritten(path, lambda t: pa.concat_tables([t.slice(1), t.slice(1, 1)])), "twice"),
        (lambda path: rewritten(path, lambda t: _version(t, b"7")), "is a lockfile of version 7"),
        (lambda path: rewritten(path, lambda t: t.drop_columns(["phash"])), "is damaged"),
        (lambda path: queries_file(path).unlink(), "copy both files together"),
    ],
)
def test_a_lock_that_is_none_is_refused_in_a_sentence(built, tmp_path, spoil, said):
    path = copied(built, tmp_path)
    spoil(path)
    with pytest.raises(DataError, match=said):
        load_lock(path)


def _version(table, version):
    return table.replace_schema_metadata({**table.schema.metadata, b"openwit.version": version})


def test_a_file_that_is_no_lock_is_not_overwritten(built, tmp_path):
    (tmp_path / "lock.parquet").write_bytes(b"mine")
    with pytest.raises(RecipeError, match="no lockfile"):
        lock_dataset(built / "out" / "dataset", tmp_path / "lock.parquet")
    assert (tmp_path / "lock.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize("moment", ["_samples", "_refuse_twice", "sha256_of"])
def test_a_lock_that_fails_leaves_the_older_one(built, tmp_path, monkeypatch, moment):
    path = copied(built, tmp_path)
    lock_dataset(built / "out" / "dataset", path, pages=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_):
        raise DataError("a shard is damaged")

    data = shutil.copytree(built / "out", tmp_path / "out") / "dataset" / "queries.parquet"
    table = pq.read_table(data)
    pq.write_table(table, data, compression="none")
    manifest = DatasetManifest.load(tmp_path / "out" / "dataset")
    [entry] = [entry for entry in manifest.tables if entry.path == "queries.parquet"]
    changed = entry.model_copy(update={"sha256": hashlib.sha256(data.read_bytes()).hexdigest()})
    tables = [changed if table.path == entry.path else table for table in manifest.tables]
    manifest.model_copy(update={"tables": tables}).save(tmp_path / "out" / "dataset")
    monkeypatch.setattr(f"openwit.pipeline.rehydration.lock_dataset.{moment}", fail)
    with pytest.raises(DataError):
        lock_dataset(tmp_path / "out" / "dataset", path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    assert load_lock(path).notes.pages


def test_a_table_of_another_kind_is_not_overwritten(built, tmp_path):
    (tmp_path / "lock.queries.parquet").write_bytes(b"mine")
    with pytest.raises(RecipeError, match="no table of a lock's queries"):
        lock_dataset(built / "out" / "dataset", tmp_path / "lock.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["lock.queries.parquet"]


def test_the_command_says_what_it_wrote(built, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["wit", "lock", str(built / "out" / "dataset"), "--out", str(tmp_path / "l.parquet")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "samples with" in capsys.readouterr().out
    assert (tmp_path / "l.queries.parquet").exists()
