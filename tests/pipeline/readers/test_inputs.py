import gzip

import fsspec
import pytest

from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.schemas.common.errors import OpenWITError


def test_globs_are_sorted_and_each_file_comes_once(tmp_path):
    for name in ("b.warc", "a.warc", "c.txt"):
        (tmp_path / name).touch()
    found = expand_inputs([f"{tmp_path}/*.warc", f"{tmp_path}/a.warc"], "inputs")
    assert found == [f"{tmp_path}/a.warc", f"{tmp_path}/b.warc"]


def test_nothing_found_is_the_users_error(tmp_path):
    with pytest.raises(OpenWITError, match=r"inputs: .*\*.warc matches no file"):
        expand_inputs([f"{tmp_path}/*.warc"], "inputs")
    with pytest.raises(OpenWITError, match="gone.warc does not exist"):
        expand_inputs([f"{tmp_path}/gone.warc"], "inputs")


def test_path_lists_as_common_crawl_publishes_them(tmp_path):
    lines = "crawl-data/CC-MAIN-2024-22/1.warc.gz\n\ns3://mine/2.warc.gz\n/abs/3.warc.gz\n"
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(lines.encode()))
    found = expand_inputs([str(tmp_path / "warc.paths.gz")], "inputs")
    assert found == ["/abs/3.warc.gz", f"{COMMON_CRAWL}crawl-data/CC-MAIN-2024-22/1.warc.gz", "s3://mine/2.warc.gz"]
    mirrored = expand_inputs([str(tmp_path / "warc.paths.gz")], "inputs", list_base="s3://commoncrawl/")
    assert "s3://commoncrawl/crawl-data/CC-MAIN-2024-22/1.warc.gz" in mirrored


def test_a_broken_or_empty_list_is_said(tmp_path):
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(b"x\n" * 1000)[:30])
    with pytest.raises(OpenWITError, match="path list .* cannot be read"):
        expand_inputs([str(tmp_path / "warc.paths.gz")], "inputs")
    (tmp_path / "empty.paths").write_text("\n")
    with pytest.raises(OpenWITError, match="is empty"):
        expand_inputs([str(tmp_path / "empty.paths")], "inputs")


def test_remote_globs():
    memory = fsspec.filesystem("memory")
    for name in ("b", "a"):
        memory.pipe(f"/crawl/{name}.warc.gz", b"x")
    assert expand_inputs(["memory://crawl/*.warc.gz"], "inputs") == [
        "memory:///crawl/a.warc.gz", "memory:///crawl/b.warc.gz",
    ]  # fmt: skip
    with pytest.raises(OpenWITError, match="matches no file"):
        expand_inputs(["memory://crawl/*.arc"], "inputs")
    with pytest.raises(OpenWITError, match="cannot be listed"):
        expand_inputs(["nosuch://crawl/*.arc"], "inputs")
    assert expand_inputs(["https://host/a.warc.gz?x=1"], "inputs") == ["https://host/a.warc.gz?x=1"]
