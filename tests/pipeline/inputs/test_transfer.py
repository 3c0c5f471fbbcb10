"""Downloads over real connections: resumed, never glued from two versions, whole or absent."""

import errno
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mirror import mirror_of

from openwit.pipeline.inputs import transfer
from openwit.pipeline.inputs.client import Client, MissingError, Patience, Version, retry_after
from openwit.pipeline.inputs.remote_file import Checksum, RemoteFile
from openwit.pipeline.inputs.transfer import download, held_bytes
from openwit.schemas.common.errors import DataError, NetworkError, StorageError

OLD, NEW = bytes(range(256)) * 40, bytes(reversed(range(256))) * 40
QUICK = Patience(attempts=4, first_attempts=3, first_s=0.001, longest_s=0.002, silent_s=5)


@pytest.fixture
def mirror():
    with mirror_of({"a.bin": OLD}) as served:
        yield served


def fetch(mirror, folder, checksum=None, name="a.bin"):
    file = RemoteFile(mirror.url + name, folder / name, checksum)
    seen = []
    download(Client(QUICK), file, seen.append)
    assert [path.name for path in folder.iterdir()] == [name]
    return file.target.read_bytes(), seen


def leave_partial(mirror, folder, count, data=OLD):
    """What a killed download leaves: some bytes, and a note of their version."""
    file = RemoteFile(mirror.url + "a.bin", folder / "a.bin")
    version = Client(QUICK).version(file.url)
    folder.mkdir(exist_ok=True)
    file.partial.write_bytes(data[:count])
    note = {"url": file.url, "etag": version.etag, "modified": version.modified, "size": version.size}
    file.note.write_text(json.dumps(note))
    return file


def test_a_whole_file_arrives_under_its_name(mirror, tmp_path):
    data, seen = fetch(mirror, tmp_path)
    assert data == OLD
    assert seen[-1] == len(OLD)
    assert sorted(seen) == seen


def test_cut_connections_are_gone_on_with(mirror, tmp_path):
    mirror.fault = lambda _path, number: "cut" if number <= 5 else ""  # more than the attempts without progress
    assert fetch(mirror, tmp_path)[0] == OLD
    starts = [int(span.removeprefix("bytes=").rstrip("-") or 0) for span in mirror.gets("a.bin")]
    assert starts == sorted(starts)
    assert len(set(starts)) == 6
    assert mirror.sent["a.bin"] == len(OLD)  # no byte twice


def test_a_killed_download_is_gone_on_with(mirror, tmp_path):
    file = leave_partial(mirror, tmp_path, 1000)
    assert held_bytes(file) == 1000
    assert fetch(mirror, tmp_path)[0] == OLD
    assert mirror.gets("a.bin") == ["bytes=1000-"]


def test_what_had_arrived_in_full_is_not_asked_for_again(mirror, tmp_path):
    leave_partial(mirror, tmp_path, len(OLD))
    assert fetch(mirror, tmp_path)[0] == OLD
    assert mirror.gets("a.bin") == []


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, len(OLD) - 1),
    etags=st.booleans(),
    dates=st.booleans(),
    ranges=st.booleans(),
    lies=st.booleans(),
)
def test_two_versions_are_never_glued(tmp_path_factory, count, etags, dates, ranges, lies):
    """Whatever the server has of ETag, Last-Modified and Range, also where it ignores If-Range."""
    with mirror_of({"a.bin": OLD}) as mirror:
        mirror.etags, mirror.dates, mirror.ranges = etags, dates, ranges
        folder = tmp_path_factory.mktemp("glue")
        leave_partial(mirror, folder, count)
        mirror.files["a.bin"] = NEW[:-1]
        if lies:
            mirror.fault = lambda _path, _number: "lie"
        assert fetch(mirror, folder)[0] == NEW[:-1]


def test_a_partial_file_of_another_address_or_without_a_note_is_begun_again(mirror, tmp_path):
    file = leave_partial(mirror, tmp_path, 500)
    note = json.loads(file.note.read_text())
    file.note.write_text(json.dumps({**note, "url": "http://elsewhere/a.bin"}))
    assert held_bytes(file) == 0
    file.note.write_text("{")
    assert fetch(mirror, tmp_path)[0] == OLD
    assert mirror.gets("a.bin") == [""]


def test_a_file_that_became_shorter_is_begun_again(mirror, tmp_path):
    leave_partial(mirror, tmp_path, 5000)
    mirror.files["a.bin"] = OLD[:100]
    mirror.fault = lambda _path, _number: "lie"  # 416
    assert fetch(mirror, tmp_path)[0] == OLD[:100]


def test_refusals_for_now_are_waited_for_and_long_ones_are_said(mirror, tmp_path):
    mirror.fault = lambda _path, number: {1: "wait 0", 2: "503"}.get(number, "")
    assert fetch(mirror, tmp_path)[0] == OLD
    mirror.fault = lambda _path, _number: "wait 9000"
    with pytest.raises(NetworkError, match=r"come back in 150 minutes \(HTTP 503\)"):
        fetch(mirror, tmp_path / "other")


def test_what_does_not_pass_ends_in_one_sentence(mirror, tmp_path):
    with pytest.raises(MissingError, match=r"b.bin does not exist \(HTTP 404\)"):
        fetch(mirror, tmp_path, name="b.bin")
    mirror.fault = lambda _path, _number: "403"
    with pytest.raises(NetworkError, match=r"the server refuses \(HTTP 403\)"):
        fetch(mirror, tmp_path)
    mirror.fault = lambda _path, _number: "503"
    with pytest.raises(NetworkError, match="HTTP 503, 4 times in a row; what has arrived is kept"):
        fetch(mirror, tmp_path)
    with pytest.raises(NetworkError, match=r"\(connection refused\), 3 times in a row$"):
        Client(QUICK).version("http://127.0.0.1:9/x")


def test_a_wrong_checksum_leaves_nothing(mirror, tmp_path):
    right = Checksum("sha1", hashlib.sha1(OLD).hexdigest().upper())
    assert fetch(mirror, tmp_path, right)[0] == OLD
    (tmp_path / "a.bin").unlink()
    with pytest.raises(DataError, match="has the sha1 .* but 00ff was published"):
        fetch(mirror, tmp_path, Checksum("sha1", "00ff"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_arrived(mirror, tmp_path, monkeypatch):
    real = transfer.atomic_write

    def full(path: Path, data: str) -> None:
        real(path, data)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(transfer, "atomic_write", full)
    with pytest.raises(StorageError, match="no space is left on the disk"):
        fetch(mirror, tmp_path)
    assert not (tmp_path / "a.bin").exists()


def test_a_server_without_head_has_no_sizes(mirror):
    mirror.head = False
    assert Client(QUICK).version(mirror.url + "a.bin") == Version()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Wed, 01 May 2024 00:02:00 GMT", "Date": "Wed, 01 May 2024 00:00:30 GMT"}, 90),
        ({"Retry-After": "Wed, 01 May 2024 00:02:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({}, 0),
    ],
)
def test_retry_after_is_read_in_both_forms(headers, seconds):
    assert retry_after(headers) == seconds
