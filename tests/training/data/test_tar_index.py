import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.tar_index import TarDataset, local_tars, scan_tar


def write_tar(path: Path, files: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def test_a_scan_gives_what_the_dataset_has(dataset: Path) -> None:
    shards = DatasetManifest.load(dataset).shards_of("train")
    scanned = TarDataset([dataset / shard.tar.path for shard in shards])
    indexed = ShardedDataset(dataset, "train")
    assert len(scanned) == len(indexed)
    assert not scanned.reasons
    assert all(scanned.sample(index) == indexed.sample(index) for index in range(len(indexed)))


LONG = "a/" * 70 + "é"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_odd_members(tmp_path: Path, form: int) -> None:
    files = [
        (f"{LONG}.jpg", b"image" * 300),
        (f"{LONG}.txt", b" one \n"),
        ("b.note.jpg", b"not an image: the suffix is note.jpg"),
        ("c.PNG", b"png"),
        ("c.cls", b"3"),
        ("c.txt", "zwölf".encode()),
        ("d.jpg", b"no words"),
        ("e.txt", b"no picture"),
    ]
    path = write_tar(tmp_path / "odd.tar", files, form)
    found = TarDataset([path])
    assert [found.key(index) for index in range(len(found))] == [LONG, "c"]
    assert found.sample(0).image == b"image" * 300
    assert found.sample(0).texts == ("one",)
    assert found.sample(1).texts == ("zwölf",)
    assert found.reasons == {"no text": 1, "no image": 2}
    assert "left aside: 2 no image, 1 no text" in found.describe()


def test_a_cut_tar_gives_what_is_whole(tmp_path: Path) -> None:
    files = [(f"{n}.{suffix}", b"x" * 700) for n in range(5) for suffix in ("jpg", "txt")]
    whole = write_tar(tmp_path / "whole.tar", files).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: 1536 * 7 + 600])
    scanned = scan_tar(cut)
    assert scanned.index["key"].to_pylist() == ["0", "1", "2"]
    assert scanned.reasons == {"damaged tar": 1, "no text": 1}
    (tmp_path / "noise.tar").write_bytes(b"noise" * 500)
    assert scan_tar(tmp_path / "noise.tar").reasons == {"damaged tar": 1}


def test_any_cut_is_survived(tmp_path: Path) -> None:
    files = [(f"{n}.{suffix}", b"x" * 10) for n in range(2) for suffix in ("jpg", "txt")]
    whole = write_tar(tmp_path / "whole.tar", files).read_bytes()
    for length in range(0, len(whole), 97):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:length])
        assert scan_tar(path).index.num_rows <= 2


def test_patterns(tmp_path: Path) -> None:
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        write_tar(tmp_path / name, [])
    every = [tmp_path / f"0000{n}.tar" for n in range(3)]
    assert local_tars([str(tmp_path)]) == every
    assert local_tars([f"{tmp_path}/*.tar"]) == every
    assert local_tars([f"{tmp_path}/{{00000..00001}}.tar", f"{tmp_path}/00002.tar"]) == every
    with pytest.raises(OpenWITError, match="means no file"):
        local_tars([f"{tmp_path}/*.zip"])
    with pytest.raises(OpenWITError, match="does not exist"):
        TarDataset([tmp_path / "other.tar"])
    with pytest.raises(OpenWITError, match="hold no samples"):
        TarDataset(every)
