"""Real pictures over a loopback web, from the command to the dataset."""

import io
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.pictures import picture

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.workflows.photos.server import Body, loopback_web
from openwit.workflows.photos.sources import crawl_with_images, frequent_words, table_of_photos

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
PHOTOS, CRAWL = DATA / "photos.parquet", DATA / "warc" / "example-with-images.warc.gz"


def build(kind, source, out, port):
    command = [
        sys.executable,
        "-m",
        "openwit.workflows.photos",
        kind,
        str(source),
        "--out",
        str(out),
        "--port",
        str(port),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "At every stage in = out + dropped (checked)" in done.stdout
    return DatasetManifest.load(out / "build" / "dataset")


def line(manifest, stage, unit="images"):
    return next(step for step in manifest.funnel if (step.stage, step.unit) == (stage, unit))


def free_port():
    with loopback_web() as web:
        return web.port


def test_the_server_tells_hosts_apart():
    with loopback_web() as web:
        web.serve({("a.localhost", "/x?1"): Body(b"one", "image/png")})
        request = urllib.request.Request(f"http://127.0.0.1:{web.port}/x?1", headers={"Host": "a.localhost"})
        with urllib.request.urlopen(request) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"one", "image/png")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{web.port}/x?1")


@pytest.mark.skipif(not PHOTOS.is_file(), reason="needs ../shared/data/photos.parquet")
def test_real_photographs_arrive(tmp_path):
    some = tmp_path / "some.parquet"
    pq.write_table(pq.read_table(PHOTOS).slice(0, 400), some)
    manifest = build("table", some, tmp_path / "out", free_port())
    fetched = line(manifest, "fetch")
    assert fetched.rows_in == fetched.rows_out > 50
    assert line(manifest, "shard", "samples").rows_out == manifest.samples("train") + manifest.samples("val")
    shard = tmp_path / "out" / "build" / "dataset" / manifest.shards_of("train")[0].tar.path
    with tarfile.open(shard) as tar:
        for name in [name for name in tar.getnames() if name.endswith(".jpg")][:20]:
            assert min(Image.open(io.BytesIO(tar.extractfile(name).read())).size) <= 256


@pytest.mark.skipif(not CRAWL.is_file(), reason="needs ../shared/data/warc")
def test_a_real_crawl_with_its_images(tmp_path):
    manifest = build("crawl", CRAWL, tmp_path / "out", free_port())
    fetched = line(manifest, "fetch")
    assert fetched.rows_out >= 12
    # Every host was moved to this machine: what the crawl did not hold is a 404, and nothing was asked of others.
    assert set(fetched.reasons) <= {"http_not_found", "too_small"}
    assert fetched.rows_in == fetched.rows_out + sum(fetched.reasons.values())


@pytest.mark.skipif(not CRAWL.is_file(), reason="needs ../shared/data/warc")
def test_all_images_of_the_crawl_are_served(tmp_path):
    pages, bodies = crawl_with_images(CRAWL, tmp_path / "moved.warc.gz", 8000)
    assert (len(pages), len(bodies)) == (55, 94)
    assert all(host.endswith(".localhost") and path.startswith("/") for host, path in pages)
    assert sum(b"http://www.archive.org.localhost:8000/" in body for body in bodies) > 50
    assert not any(b"http://www.archive.org/" in body for body in bodies)


def test_bad_input_is_one_sentence(tmp_path):
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"jpeg": [picture(1)]}), table)
    with pytest.raises(OpenWITError, match="no column 'title'"):
        table_of_photos(table, tmp_path / "o.parquet", 1)
    with pytest.raises(OpenWITError, match=r"gone.parquet cannot be read"):
        table_of_photos(tmp_path / "gone.parquet", tmp_path / "o.parquet", 1)
    with pytest.raises(OpenWITError, match=r"gone.warc does not exist"):
        crawl_with_images(tmp_path / "gone.warc", tmp_path / "o", 1)


def test_words_of_a_small_set():
    assert frequent_words(["A red kite", "the RED fox", "kites, red"]) == ["red"]
