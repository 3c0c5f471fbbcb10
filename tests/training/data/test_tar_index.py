import contextlib
import tarfile
from pathlib import Path

import pytest
from support.tars import add_without_data, write_tar

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.tar_index import TarDataset, local_tars, scan_tar


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


CASES = Path(__file__).parents[2] / "data" / "cases"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_dotted_names_and_compressed_tars_and_odd_json_are_read() -> None:
    dotted = TarDataset(local_tars([str(CASES / "tar-dotted-keys")]))
    assert (len(dotted), dotted.reasons) == (16, {})
    assert dotted.key(0) == "track 0.5 (v2.0)"
    packed = TarDataset(local_tars([str(CASES / "tar-gz")]))
    assert (len(packed), packed.reasons) == (16, {})
    assert packed.sample(3).texts == ("a small picture number 3",)
    odd = TarDataset(local_tars([str(CASES / "tar-txt-and-odd-json")]))
    samples = [odd.sample(number) for number in range(8)]
    assert {sample.texts for sample in samples} == {("a red dog on the beach",)}
    assert sum(sample.repaired for sample in samples) == 4
    captions = TarDataset(local_tars([str(CASES / "tar-json-captions")]))
    texts = {}
    for number in range(10):
        with contextlib.suppress(CorruptSampleError):
            texts[number] = captions.sample(number).texts
    assert texts == {
        0: ("a red dog",),
        2: ("a red dog",),
        3: ("a", "b"),
        4: ("x",),
        5: ("a",),
        7: ("emoji  cut",),
        8: ("bom json",),
        9: ("a red dog", "a blue dog"),
    }


def test_a_tar_made_on_a_mac(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        for suffix in ("jpg", "txt", "json"):
            files += [(f"./set/._{number}.{suffix}", b"\0\5\x16\7"), (f"./set/{number}.{suffix}", b'"words"')]
    write_tar(tmp_path / "a.tar", [("./._set", b""), *files, ("./set/.DS_Store", b"x"), ("__MACOSX/set/._x", b"")])
    (tmp_path / "._a.tar").write_bytes(b"\0\5\x16\7")
    found = TarDataset(local_tars([str(tmp_path)]))
    assert [found.key(number) for number in range(3)] == ["set/0", "set/1", "set/2"]
    assert found.reasons == {"metadata of a system": 12}


def test_links_are_what_they_point_to(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"image"), ("a.txt", b"words"), ("b.txt", b"more")])
    with tarfile.open(path, "a") as tar:
        entries = [
            ("b.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("c.jpg", tarfile.SYMTYPE, "a.jpg"),
            ("c.txt", tarfile.SYMTYPE, "./b.txt"),
            ("d.jpg", tarfile.SYMTYPE, "/photos/d.jpg"),
        ]
        add_without_data(tar, entries)
    found = TarDataset([path])
    assert [found.sample(n)[:3] for n in range(3)] == [
        ("a", b"image", ("words",)),
        ("b", b"image", ("more",)),
        ("c", b"image", ("more",)),
    ]
    assert found.reasons == {"link": 1}


def test_empty_members_are_left_aside_before_the_run(tmp_path: Path) -> None:
    files = [("a.jpg", b"1"), ("a.txt", b""), ("b.jpg", b"2"), ("b.txt", b"words"), ("c.jpg", b""), ("c.txt", b"x")]
    (tmp_path / "part-1").mkdir()
    write_tar(tmp_path / "part-1" / "a.tar", [*files, ("d.jpg", b"4"), ("d.txt", b""), ("d.json", b"{}")])
    found = TarDataset(local_tars([str(tmp_path)]))
    assert [found.key(number) for number in range(len(found))] == ["b", "d"]
    assert found.reasons == {"no text": 1, "no image": 1}


def test_what_was_left_aside_is_in_the_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("c.txt", b"3"), ("README", b"4")])
    with pytest.raises(OpenWITError, match="left aside: 1 no image, 2 no text, 1 other member"):
        TarDataset([path])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.zip").write_bytes(b"PK")
    with pytest.raises(OpenWITError, match="holds 1 other files and no tar"):
        local_tars([str(tmp_path / "b")])


def test_a_path_that_exists_is_itself_before_it_is_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "set [1] {a,b}"
    folder.mkdir()
    path = write_tar(folder / "a[0-9].tar", [("a.jpg", b"1"), ("a.txt", b"words")])
    assert local_tars([str(path)]) == local_tars([str(folder)]) == [path]
