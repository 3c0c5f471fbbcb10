"""A store that refuses, is slow, full or read-only, cuts connections and lists late: whole files or one sentence."""

import contextlib
from pathlib import Path

import fsspec
import pytest
from support.faulty_s3 import faulty_s3
from support.s3_server import BUCKET

from openwit.schemas.common.atomic import atomic_path, atomic_write, sha256_of
from openwit.schemas.common.errors import NetworkError, OpenWITError
from openwit.schemas.common.storage import as_path, remote
from openwit.schemas.common.storage.reading import local_file, open_ranges, read_ranges

DATA = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def server():
    with faulty_s3() as faults, pytest.MonkeyPatch.context() as patched:
        for name, value in faults.environment.items():
            patched.setenv(name, value)
        patched.setenv("AWS_MAX_ATTEMPTS", "1")
        patched.setattr(remote, "_LONGEST_WAIT_S", 0)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        filesystem = fsspec.filesystem("s3")
        patched.setattr(type(filesystem), "retries", 1)
        yield faults
        type(filesystem).clear_instance_cache()


@pytest.fixture
def folder(server, request):
    server.answer()
    server.asked.clear()
    yield as_path(f"s3://{BUCKET}/{request.node.name.partition('[')[0]}")
    server.answer()


@pytest.mark.parametrize("outcome", [503, 500, "cut"])
def test_a_write_that_goes_wrong_for_a_while_is_tried_again(server, folder, outcome):
    server.first(2, outcome, "PUT")
    with atomic_path(folder / "x") as path:
        path.write_bytes(DATA)
    assert (folder / "x").read_bytes() == DATA
    assert server.asked["PUT", str(outcome)] == 2


@pytest.mark.parametrize("outcome", [503, 500, "cut"])
def test_a_read_that_goes_wrong_for_a_while_is_tried_again(server, folder, outcome):
    atomic_write(folder / "x", DATA)
    for read in (
        lambda: (folder / "x").read_bytes(),
        lambda: local_file(folder / "x"),
        lambda: read_ranges(folder / "x", [0, 1000], [1000, len(DATA) - 1000]),
        lambda: open_ranges(folder / "x"),
    ):
        server.first(2, outcome, "GET")
        found = read()
        if isinstance(found, contextlib.AbstractContextManager):
            with found as opened:
                found = opened.read_bytes() if isinstance(opened, Path) else opened.read()
        assert (b"".join(found) if isinstance(found, list) else found) == DATA


def test_a_refusal_for_ever_is_one_sentence(server, folder):
    atomic_write(folder / "x", DATA)
    server.judge = lambda _method, _key: 503
    for act in ((folder / "x").read_bytes, (folder / "x").stat, lambda: list(folder.iterdir())):
        with pytest.raises(NetworkError, match=f"s3://{BUCKET}/.* cannot be .*") as said:
            act()
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(("outcome", "why"), [(507, "InsufficientStorage|507"), (403, "AccessDenied|Forbidden|403")])
def test_a_full_or_read_only_store_is_one_sentence_and_the_old_file_stays(server, folder, outcome, why):
    atomic_write(folder / "x", "old")
    server.judge = lambda method, _key: outcome if method in ("PUT", "POST") else None
    with (
        pytest.raises(OpenWITError, match=f"x cannot be written: .*({why})") as said,
        atomic_path(folder / "x") as path,
    ):
        path.write_bytes(DATA)
    assert "\n" not in str(said.value)
    assert (folder / "x").read_bytes() == b"old"
    if outcome == 403:
        assert server.asked["PUT", "403"] == 1  # another attempt would not help


def test_a_slow_store_is_waited_for(server, folder):
    atomic_write(folder / "x", DATA)
    server.first(2, "slow")
    assert sha256_of(folder / "x") == sha256_of(folder / "x")


def test_a_claim_whose_answer_was_lost_is_ours(server, folder):
    server.first(1, "cut", "PUT")
    assert (folder / "claim").create(b"mine")
    assert not (folder / "claim").create(b"theirs")


def test_a_file_that_lists_do_not_show_yet_is_there(server, folder):
    server.hidden = lambda key: key.endswith("x")
    atomic_write(folder / "x", DATA)
    assert list(folder.iterdir()) == []
    assert (folder / "x").is_file()
    assert (folder / "x").read_bytes() == DATA
    assert not (folder / "x").create(b"second")


def test_a_command_in_a_read_only_store_ends_in_one_sentence_before_it_works(server, folder, tmp_path):
    from openwit.pipeline.cli.main import app
    from openwit.schemas.common.command import run_app

    (tmp_path / "list.txt").write_text("oak\n")
    server.judge = lambda method, _key: 403 if method == "PUT" else None
    arguments = ["queries", "--table", str(tmp_path / "list.txt"), "--out", str(folder), "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        run_app(app, "wit", arguments=arguments)
    assert ended.value.code == 2
    assert server.asked["PUT", "403"] == 1
