import pytest
from pydantic import ValidationError

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest, FileEntry, FunnelStep, ShardEntry


def shard(name, split):
    entry = FileEntry(path=f"{split}/{name}.tar", bytes=1, sha256="0")
    return ShardEntry(name=name, split=split, samples=5, pairs=7, tar=entry, metadata=entry, index=entry, stats=entry)


def test_a_funnel_step_that_loses_rows_in_silence_cannot_be_made():
    FunnelStep(stage="s", unit="pairs", rows_in=3, rows_out=1, reasons={"dull": 2})
    with pytest.raises(ValidationError, match="3 pairs in, but 1 out and 1 dropped"):
        FunnelStep(stage="s", unit="pairs", rows_in=3, rows_out=1, reasons={"dull": 1})


def test_round_trip_and_splits(tmp_path):
    shards = [shard("00001", "val"), shard("00000", "train")]
    manifest = DatasetManifest(name="d", recipe={}, tools={}, funnel=[], shards=shards)
    manifest.save(tmp_path)
    loaded = DatasetManifest.load(tmp_path)
    assert loaded == manifest
    assert loaded.splits() == ["train", "val"]
    assert loaded.samples("val") == 5
    with pytest.raises(OpenWITError, match="no split 'test' .it has: train, val."):
        loaded.shards_of("test")


def test_what_is_no_dataset_is_said(tmp_path):
    with pytest.raises(OpenWITError, match="manifest.json is missing"):
        DatasetManifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"version": 1}')
    with pytest.raises(OpenWITError, match="not a manifest of version 1"):
        DatasetManifest.load(tmp_path)
