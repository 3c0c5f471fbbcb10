"""Datasets behind URLs: the same bytes as in a folder, the manifest last, and what goes wrong said in a sentence."""

import os

import fsspec
import pytest
from support.pictures import picture
from support.survivors import finished_dedup, survivor

from openwit.pipeline.dataset.store import LocalFolder, load_manifest, open_store
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.shard import Shard
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.storage import remote
from openwit.schemas.common.storage.object_store import ObjectStore

LOCAL = Job(make_engine("local", 1))
REPLACING = Job(make_engine("local", 1), replace=True)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(remote, "_LONGEST_WAIT_S", 0)


@pytest.fixture(scope="module")
def deduplicated(tmp_path_factory):
    rows = [survivor(n, picture(n, size=(64, 64)), 1 + n % 2, "val" if n % 5 == 0 else "train") for n in range(60)]
    return finished_dedup(tmp_path_factory.mktemp("remote"), [rows])


@pytest.fixture(scope="module")
def local(deduplicated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "d"
    build(deduplicated, folder, None)
    return {name: LocalFolder(folder).read(name) for name in shown(LocalFolder(folder))}


@pytest.fixture
def bucket(request):
    """An empty place in memory."""
    url = f"memory://bucket/{request.node.name}"
    yield url
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def build(deduplicated, folder, target, job=LOCAL, samples=12):
    return Shard().run(
        job,
        ShardSettings(samples=samples),
        {"survivors": deduplicated},
        folder,
        build=BuildContext(dataset=DatasetInfo("d"), target=target),
    )


def shown(place):
    return [name for name in place.sizes() if not name.startswith(".")]


def test_the_bytes_are_those_of_a_local_build_and_the_manifest_comes_last(
    deduplicated, local, tmp_path, bucket, monkeypatch
):
    written = []
    for method in ("upload", "write"):
        original = getattr(ObjectStore, method)

        def spy(self, what, name, original=original, method=method):
            original(self, what, name)
            written.append(name if method == "upload" else what)

        monkeypatch.setattr(ObjectStore, method, spy)
    build(deduplicated, tmp_path / "work", bucket)
    place = open_store(bucket)
    assert {name: place.read(name) for name in shown(place)} == local
    assert written[0] == ".building"
    assert written[-1] == "manifest.json"
    assert list(place.sizes()) == sorted(local)
    # the disk holds no shard, before or after
    assert not [p for p in (tmp_path / "work").rglob("*") if p.suffix in (".tar", ".images")]
    assert verify_dataset(bucket) == []
    key = "0000000003"
    kept, dropped = explain(bucket, key)
    assert [sample.key for sample in kept] == [key]
    assert kept[0].texts[0].matched
    assert dropped == []
    assert build(deduplicated, tmp_path / "work", bucket)[1] is False


def test_spans_of_a_file_are_read_alone(deduplicated, local, tmp_path, bucket):
    build(deduplicated, tmp_path / "work", bucket)
    data = local["train/00000.tar"]
    assert open_store(bucket).ranges("train/00000.tar", [0, 512, 1000], [10, 4, 0]) == [data[:10], data[512:516], b""]


def test_a_file_url_is_a_place_of_its_own(deduplicated, local, tmp_path):
    build(deduplicated, tmp_path / "work", f"file://{tmp_path}/deep/d")
    place = LocalFolder(tmp_path / "deep" / "d")
    assert {name: place.read(name) for name in shown(place)} == local


class Failing:
    """Makes put_file of the store in memory fail, from the n-th call on and for so many."""

    def __init__(self, monkeypatch, first, times, error):
        self.calls, self.names = 0, []
        filesystem = fsspec.filesystem("memory")
        original = filesystem.put_file

        def put_file(source, target, **options):
            self.calls += 1
            if first <= self.calls < first + times:
                raise error
            self.names.append(target.rpartition("/")[2])
            return original(source, target, **options)

        monkeypatch.setattr(filesystem, "put_file", put_file)


def test_an_upload_that_breaks_off_is_tried_again(deduplicated, local, tmp_path, bucket, monkeypatch):
    failing = Failing(monkeypatch, 3, 3, ConnectionResetError("reset by peer"))
    build(deduplicated, tmp_path / "work", bucket)
    assert failing.calls == len(failing.names) + 3
    place = open_store(bucket)
    assert {name: place.read(name) for name in shown(place)} == local


def test_an_upload_that_never_works_is_said_and_a_rerun_brings_what_is_missing(
    deduplicated, local, tmp_path, bucket, monkeypatch
):
    with monkeypatch.context() as broken:
        Failing(broken, 7, 1000, ConnectionResetError("reset by\npeer"))
        with pytest.raises(OpenWITError, match="00001.stats.json cannot be written: reset by peer; run it again"):
            build(deduplicated, tmp_path / "work", bucket)
    place = open_store(bucket)
    assert place.size("manifest.json") is None
    with pytest.raises(OpenWITError, match="is not a dataset"):
        verify_dataset(bucket)
    again = Failing(monkeypatch, 0, 0, None)
    build(deduplicated, tmp_path / "work", bucket)
    assert "00000.tar" not in again.names
    assert "00001.tar" in again.names
    assert {name: place.read(name) for name in shown(place)} == local


def test_what_arrives_short_is_not_taken_for_whole(deduplicated, tmp_path, bucket, monkeypatch):
    filesystem = fsspec.filesystem("memory")
    monkeypatch.setattr(filesystem, "put_file", lambda _source, target, **_: filesystem.pipe_file(target, b"half"))
    with pytest.raises(OpenWITError, match=r"4 of [\d,]+ bytes arrived"):
        build(deduplicated, tmp_path / "work", bucket)


@pytest.mark.parametrize(
    ("info", "right"),
    [
        ({"md5Hash": "XUFAKrxLKna5cZ2REBfFkg=="}, True),
        ({"ETag": '"5d41402abc4b2a76b9719d911017c592"'}, True),
        ({"ETag": '"5d41402abc4b2a76b9719d911017c592-3"'}, True),
        ({"ETag": '"00000000000000000000000000000000"'}, False),
        ({}, True),
    ],
)
def test_the_stores_sum_is_compared_where_it_gives_one(tmp_path, bucket, monkeypatch, info, right):
    (tmp_path / "f").write_bytes(b"hello")
    store = ObjectStore(bucket)
    monkeypatch.setattr(ObjectStore, "_info", lambda _self, _name: {"size": 5, **info})
    if not right:
        # sums of a store that encrypts are others: the bytes themselves decide
        store.upload(tmp_path / "f", "f")
        monkeypatch.setattr(ObjectStore, "read", lambda _self, _name: b"hallo")
        with pytest.raises(OpenWITError, match="the bytes that arrived differ from those sent"):
            store.upload(tmp_path / "f", "f")
    else:
        store.upload(tmp_path / "f", "f")


def test_another_dataset_is_not_overwritten_unasked(deduplicated, local, tmp_path, bucket):
    build(deduplicated, tmp_path / "work", bucket)
    with pytest.raises(OpenWITError, match="is not empty and was not made by this build"):
        build(deduplicated, tmp_path / "work2", bucket)
    build(deduplicated, tmp_path / "work2", bucket, REPLACING, samples=30)
    assert verify_dataset(bucket) == []
    assert len(load_manifest(open_store(bucket)).shards) < len([n for n in local if n.endswith(".tar")])
    open_store(bucket).write("train/notes.txt", b"mine")
    with pytest.raises(OpenWITError, match="holds train/notes.txt, which is not part of a dataset"):
        build(deduplicated, tmp_path / "work3", bucket, REPLACING)


def test_a_lost_work_folder_costs_work_only(deduplicated, local, tmp_path, bucket, monkeypatch):
    with monkeypatch.context() as broken:
        Failing(broken, 7, 1000, ConnectionResetError("gone"))
        with pytest.raises(OpenWITError):
            build(deduplicated, tmp_path / "work", bucket)
    build(deduplicated, tmp_path / "other", bucket)
    place = open_store(bucket)
    assert {name: place.read(name) for name in shown(place)} == local


def test_a_finished_dataset_that_has_gone_is_said(deduplicated, tmp_path, bucket):
    build(deduplicated, tmp_path / "work", bucket)
    open_store(bucket).delete("manifest.json")
    with pytest.raises(OpenWITError, match="is finished, but it is gone: set `replace`"):
        build(deduplicated, tmp_path / "work", bucket)


class NoCredentialsError(Exception):
    """Botocore's, by name."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("Install s3fs"), r"needs a package that is not installed: run pip install 'openwit\[s3\]'"),
        (NoCredentialsError("Unable to locate credentials"), "no valid credentials were found .Unable to locate"),
        (PermissionError("Access Denied"), "cannot be .*: Access Denied"),
        (FileNotFoundError("The specified bucket does not exist"), "there is no such bucket .The specified"),
    ],
)
def test_what_stands_in_the_way_is_one_sentence(deduplicated, tmp_path, monkeypatch, error, message):
    def refuse(_url):
        raise error

    monkeypatch.setattr(fsspec, "url_to_fs", refuse)
    with pytest.raises(OpenWITError, match=message) as said:
        build(deduplicated, tmp_path / "work", "s3://nowhere/d")
    assert "\n" not in str(said.value)


S3 = os.environ.get("OPENWIT_TEST_S3")


@pytest.mark.skipif(not S3, reason="OPENWIT_TEST_S3 names no bucket (s3://name) of an S3 server to test with")
def test_a_real_s3_server(deduplicated, local, tmp_path):
    url = f"{S3}/{tmp_path.name}"
    build(deduplicated, tmp_path / "work", url)
    place = open_store(url)
    assert {name: place.read(name) for name in shown(place)} == local
    assert verify_dataset(url) == []
    with pytest.raises(OpenWITError, match="no such bucket"):
        build(deduplicated, tmp_path / "work2", "s3://there-is-no-such-bucket/d")
