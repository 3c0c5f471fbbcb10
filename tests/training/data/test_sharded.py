import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from openwit.schemas.common.errors import OpenWITError, SchemaError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SHARD_INDEX
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.shard_file import ShardFile, read_index
from openwit.training.data.sharded import Shard, ShardedDataset


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_reads_what_the_tars_hold_in_their_order(dataset: Path) -> None:
    found = ShardedDataset(dataset, "train")
    number = 0
    for shard in DatasetManifest.load(dataset).shards_of("train"):
        with tarfile.open(dataset / shard.tar.path) as tar:
            for member in tar.getmembers():
                if not member.name.endswith(".jpg"):
                    continue
                key = member.name.removesuffix(".jpg")
                document = json.load(tar.extractfile(f"{key}.json"))
                sample = found.sample(number)
                assert found.key(number) == sample.key == key
                assert sample.image == tar.extractfile(member).read()
                assert list(sample.texts) == document["texts"]
                number += 1
    assert number == len(found) == 288


def test_numbers_outside_are_errors(dataset: Path) -> None:
    found = ShardedDataset(dataset, "val")
    for index in (-1, len(found)):
        with pytest.raises(IndexError):
            found.sample(index)


def test_an_unknown_split_lists_the_known_ones(dataset: Path) -> None:
    with pytest.raises(OpenWITError, match="it has: train, val"):
        ShardedDataset(dataset, "test")


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match="is not a dataset"):
        ShardedDataset(tmp_path, "train")


def test_a_cut_tar_is_found_before_training(copy: Path) -> None:
    tar = copy / "train" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(OpenWITError, match=r"00001\.tar has \d+ bytes, but the manifest says \d+"):
        ShardedDataset(copy, "train")


@pytest.mark.parametrize("name", ["00001.tar", "00001.idx.arrow"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / "train" / name).unlink()
    with pytest.raises(OpenWITError, match=f"{name} is missing"):
        ShardedDataset(copy, "train")


def test_an_index_that_is_no_arrow_file(copy: Path) -> None:
    (copy / "val" / "00000.idx.arrow").write_bytes(b"nonsense")
    with pytest.raises(SchemaError, match="not a readable Arrow file"):
        ShardedDataset(copy, "val")


def test_an_index_of_another_length(copy: Path) -> None:
    path = copy / "val" / "00000.idx.arrow"
    with pa.ipc.new_file(str(path), SHARD_INDEX.arrow) as writer:
        writer.write_table(SHARD_INDEX.empty())
    with pytest.raises(OpenWITError, match="lists 0 samples, but the manifest says 48"):
        ShardedDataset(copy, "val")


@pytest.mark.parametrize(("old", "new"), [(b'{"key"', b"{'key'"), (b'"texts": [', b'"texts": {')])
def test_a_json_member_that_does_not_parse_leaves_the_text_member(copy: Path, old: bytes, new: bytes) -> None:
    tar = copy / "val" / "00000.tar"
    before = ShardedDataset(copy, "val").sample(0)
    tar.write_bytes(tar.read_bytes().replace(old, new, 1))
    after = ShardedDataset(copy, "val").sample(0)
    assert (after.key, after.image, after.texts[0]) == (before.key, before.image, before.texts[0])
    assert (before.repaired, after.repaired) == (False, True)
    with pytest.raises(CorruptSampleError, match="v-val|v-000000|JSON member"):
        ShardedDataset(copy, "val").metadata(0)


def test_shards_without_a_list_of_texts_give_the_caption(copy: Path) -> None:
    tar = copy / "val" / "00000.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"texts"', b'"other"'))
    dataset = ShardedDataset(copy, "val")
    assert len(dataset.sample(0).texts) == 1


def test_a_split_is_a_frame_of_what_is_known_of_each_sample(dataset: Path) -> None:
    found = ShardedDataset(dataset, "train")
    frame = found.to_pandas()
    assert list(frame["key"]) == [found.key(number) for number in range(len(found))]
    assert list(found.to_pandas(columns=["caption"]).columns) == ["caption"]
    with pytest.raises(OpenWITError, match="has no column 'captoin'"):
        found.to_pandas(columns=["captoin"])


def test_a_file_stays_open_while_it_is_read(dataset: Path) -> None:
    """Whatever is kept of it elsewhere: two threads may open a tar at once, and of many tars some are closed."""
    whole = ShardedDataset(dataset, "train")
    wanted = [(whole.sample(number), whole.metadata(number)) for number in range(3)]
    tar, index = sorted((dataset / "train").glob("*.tar"))[0], sorted((dataset / "train").glob("*.idx.arrow"))[0]
    shard = Shard(lambda: ShardFile(tar), read_index(index))  # nothing else keeps the file
    assert [(shard.read(row), shard.metadata(row)) for row in range(3)] == wanted
    assert shard.is_cold(0) in (True, False)
