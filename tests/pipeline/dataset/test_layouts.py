"""Datasets as files and as Parquet: what img2dataset's readers find, and what `wit` does with each as with tars."""

import hashlib
import json
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.survivors import finished_dedup, survivor

import openwit
from openwit.pipeline.api import remove
from openwit.pipeline.dataset import filter_layouts
from openwit.pipeline.dataset.layouts import check_names
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.decontamination.files import list_pieces
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.candidates import Candidates
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.card import Card
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.shard import Shard, stage
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.candidates import CANDIDATES
from openwit.training.config.data import DataSettings
from openwit.training.data.sources import open_source
from openwit.training.evaluation.classification_readers import tars_of

FORMS = ("files", "parquet")
BOTH = pytest.mark.parametrize("form", FORMS)
JOB = Job(SerialEngine())


@pytest.fixture(scope="module")
def deduplicated(tmp_path_factory):
    rows = [survivor(n, picture(n, (40, 32)), 1 + n % 3, "val" if n % 4 == 1 else "train") for n in range(40)]
    return finished_dedup(tmp_path_factory.mktemp("layouts"), [rows[:25], rows[25:]], drop_every=20)


def build(deduplicated, folder, form, target=None):
    context = BuildContext(dataset=DatasetInfo("d"), target=target)
    Shard().run(JOB, ShardSettings(samples=12, format=form), {"survivors": deduplicated}, folder, build=context)
    return folder


@pytest.fixture(scope="module")
def built(deduplicated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return {form: build(deduplicated, folder / form, form) for form in ("webdataset", *FORMS)}


@pytest.fixture
def dataset(built, form, tmp_path):
    return Path(shutil.copytree(built[form], tmp_path / "dataset"))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".stage" not in path.parts
    }


def examples(dataset, split="train"):
    opened = openwit.open_dataset(str(dataset), split=split)
    return [(e.key, e.image.tobytes(), e.texts, e.metadata) for e in opened]


@BOTH
def test_every_format_holds_the_same_samples(built, form):
    for split in ("train", "val"):
        assert examples(built[form], split) == examples(built["webdataset"], split)
    opened, tars = (openwit.open_dataset(str(built[name]), split="val") for name in (form, "webdataset"))
    assert opened.to_pandas().equals(tars.to_pandas())
    assert opened.to_pandas(columns=["url"]).shape == (len(opened), 1)
    assert verify_dataset(built[form]) == []


def test_files_lie_as_img2dataset_writes_them(built):
    shard = DatasetManifest.load(built["files"]).shards_of("train")[0]
    folder = built["files"] / "train" / "00000"
    keys = pq.read_table(folder.with_suffix(".parquet"), columns=["key"])["key"].to_pylist()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{key}.{ending}" for key in keys for ending in ("jpg", "txt", "json")
    )
    document = json.loads((folder / f"{keys[0]}.json").read_text())
    assert document["caption"] == (folder / f"{keys[0]}.txt").read_text()
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    assert shard.tar.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert shard.tar.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_a_table_has_the_bytes_in_columns_of_img2datasets_names(built):
    path = built["parquet"] / "train" / "00000.parquet"
    table = pq.read_table(path)
    assert table.column("jpg")[0].as_py()[:2] == b"\xff\xd8"
    assert table.column("txt").to_pylist() == table.column("caption").to_pylist()
    assert json.loads(table.column("json")[0].as_py())["key"] == table.column("key")[0].as_py()
    assert not list((built["parquet"] / "train").glob("*.tar"))


@pytest.mark.parametrize("column", ["jpg", "txt", "json"])
def test_a_kept_column_of_such_a_name_is_refused(column):
    with pytest.raises(DataError, match=f"the column '{column}' that is kept of the inputs"):
        check_names(["a", column])


@BOTH
def test_what_is_named_goes(dataset, form, built):
    shards = {shard.tar.path: shard.samples for shard in DatasetManifest.load(dataset).shards}
    before = examples(dataset)
    urls = [before[index][3]["url"] for index in (0, 3, 5)]
    assert len(remove(dataset, urls).gone()) == 3
    assert verify_dataset(dataset) == []
    assert examples(dataset) == [each for each in before if each[3]["url"] not in urls]
    assert examples(dataset, "val") == examples(built[form], "val")
    assert not any(url.encode() in data for url in urls for data in contents(dataset).values())
    kept, dropped = explain(dataset, before[0][0])
    assert kept == []
    assert dropped[0].reason == "removed"
    assert {shard.tar.path for shard in DatasetManifest.load(dataset).shards} == set(shards)


@BOTH
def test_a_shard_may_lose_all_its_samples(dataset, form):
    remove(dataset, [example[3]["url"] for example in examples(dataset, "val")])
    assert verify_dataset(dataset) == []
    assert DatasetManifest.load(dataset).samples("val") == 0
    assert DatasetManifest.load(dataset).formats() == [form]


@BOTH
@pytest.mark.parametrize("after", [0, 2, 4, 5, 7])
def test_a_removal_that_was_killed_is_completed(built, dataset, form, after, monkeypatch, tmp_path):
    urls = [example[3]["url"] for example in examples(dataset)[::4]]
    whole = Path(shutil.copytree(built[form], tmp_path / "whole"))
    remove(whole, urls)
    from openwit.pipeline.dataset.store import LocalFolder

    done = []

    def stop(name):
        def method(self, *arguments):
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(name)
            return originals[name](self, *arguments)

        return method

    originals = {name: getattr(LocalFolder, name) for name in ("move_in", "delete")}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        for name in originals:
            patched.setattr(LocalFolder, name, stop(name))
        remove(dataset, urls)
    remove(dataset, urls)
    assert verify_dataset(dataset) == []
    assert contents(dataset) == contents(whole)


@BOTH
def test_verify_finds_what_is_off(dataset, form):
    shard = DatasetManifest.load(dataset).shards[0]
    path = dataset / shard.tar.path
    victim = sorted(path.iterdir())[0] if form == "files" else path
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    [problem] = verify_dataset(dataset)
    assert shard.tar.path in problem
    assert "sha256" in problem
    victim.write_bytes(data[:-1])
    assert any("bytes" in line for line in verify_dataset(dataset))
    victim.unlink()
    assert any("missing" in line for line in verify_dataset(dataset))


def test_verify_finds_files_too_many_and_no_images(built, tmp_path):
    dataset = Path(shutil.copytree(built["files"], tmp_path / "dataset"))
    (dataset / "train" / "00000" / "more.jpg").write_bytes(b"x")
    assert verify_dataset(dataset) == ["train/00000/more.jpg: not listed in the manifest"]
    (dataset / "train" / "00000" / "more.jpg").unlink()
    (dataset / "train" / "00000.parquet").unlink()
    assert verify_dataset(dataset)[0] == "train/00000.parquet: missing"


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_damaged_folder_is_not_given_a_new_sum(built, tmp_path, harm):
    dataset = Path(shutil.copytree(built["files"], tmp_path / "dataset"))
    victim = sorted((dataset / "train" / "00000").iterdir())[4]
    victim.unlink() if harm == "gone" else victim.write_bytes(b"other")
    url = json.loads((dataset / "train" / "00000" / f"{examples(built['files'])[0][0]}.json").read_text())["url"]
    files = len(contents(dataset))
    with pytest.raises(DataError, match="verify the dataset"):
        remove(dataset, [url])
    assert len(contents(dataset)) == files + 1  # the journal


@BOTH
def test_a_run_that_was_stopped_goes_on_with_the_same_bytes(deduplicated, built, form, tmp_path, monkeypatch):
    calls = []

    def stopping(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    original = stage.write_shard
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stage, "write_shard", stopping)
        build(deduplicated, tmp_path / "d", form)
    shard = DatasetManifest.load(built[form]).shards[0]
    victim = tmp_path / "d" / shard.tar.path
    victim = sorted(victim.iterdir())[0] if form == "files" else victim
    victim.write_bytes(b"damaged meanwhile")
    build(deduplicated, tmp_path / "d", form)
    assert contents(tmp_path / "d") == contents(built[form])


@BOTH
def test_behind_a_url(deduplicated, built, form, tmp_path):
    url = f"memory://layouts/{form}"
    build(deduplicated, tmp_path / "work", form, target=url)
    found = fsspec.filesystem("memory")
    there = {name.removeprefix(f"/layouts/{form}/"): found.cat(name) for name in found.find(f"/layouts/{form}")}
    assert there == contents(built[form])
    assert verify_dataset(url) == []
    remove(url, [examples(built[form])[0][3]["url"]])
    assert verify_dataset(url) == []


def test_training_reads_a_table_by_url_and_says_what_it_does_not(built, tmp_path):
    opened = openwit.open_dataset(f"file://{built['parquet']}", cache=tmp_path / "cache")
    assert opened[3].key == examples(built["parquet"])[3][0]
    with pytest.raises(DataError, match="has the format files, which is read from a local folder only"):
        openwit.open_dataset(f"file://{built['files']}", cache=tmp_path / "other")
    with pytest.raises(RecipeError, match="is no WebDataset"):
        open_source(DataSettings(dataset=f"file://{built['parquet']}", remote="stream"), seed=0, report=print)
    with pytest.raises(DataError, match="is no WebDataset: labelled images are read from"):
        tars_of(built["files"], None)


@BOTH
def test_it_is_an_input_and_an_evaluation_set(built, form, tmp_path):
    settings = CandidateSettings(inputs=[str(built[form])])
    done = Candidates().run(JOB, settings, {}, tmp_path / "c")
    files = sorted((tmp_path / "c" / "candidates").glob("*.parquet"))
    table = pa.concat_tables(CANDIDATES.read(path) for path in files)
    texts = {(split, text) for split in ("train", "val") for each in examples(built[form], split) for text in each[2]}
    assert {*zip(table["split"].to_pylist(), table["text"].to_pylist(), strict=True)} == texts
    assert done.manifest.funnel[-1].reasons == {}
    assert list_pieces([str(built[form])])


@BOTH
def test_the_card_and_what_the_hub_shows(dataset, form):
    Card().run(JOB, CardSettings(examples=2), {"dataset": str(dataset)}, dataset)
    assert verify_dataset(dataset) == []
    text = (dataset / "README.md").read_text()
    assert ("config_name: parquet" in text) == (form == "parquet")
    assert "webdataset" not in text.lower()
    remove(dataset, [examples(dataset)[0][3]["url"]])
    assert verify_dataset(dataset) == []


def test_filter_of_a_table_keeps_its_blocks_small(built, tmp_path):
    """What a filtered table holds is what a table without those samples would hold."""
    source = built["parquet"] / "train" / "00000.parquet"
    keys = pq.read_table(source, columns=["key"])["key"].to_pylist()
    laid, rows = filter_layouts.filter_table(source, tmp_path / "f", {keys[1]})
    assert rows["key"].to_pylist() == [key for key in keys if key != keys[1]]
    data = (tmp_path / "f.parquet").read_bytes()
    images = pq.read_table(tmp_path / "f.parquet", columns=["jpg"])["jpg"].to_pylist()
    for (start, *_), (size, *_), image in zip(laid.offsets.tolist(), laid.sizes.tolist(), images, strict=True):
        assert data[start : start + size] == image
