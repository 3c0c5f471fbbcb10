"""Fetch on a web of loopback hosts: blocked domains, hosts, engines, and memory."""

import gzip
import importlib.util
import threading

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.picture_web import HOSTS_OF_WEB, settings, spread_over_hosts, sums, tables
from support.pictures import picture
from support.rows import candidate

from openwit.pipeline.cli.hosts_report import print_hosts
from openwit.pipeline.download.status import RETRY_LATER, FetchStatus
from openwit.pipeline.images.process import ProcessedImage
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch import task as fetch_task
from openwit.pipeline.stages.fetch.chunk import OpenChunk
from openwit.pipeline.stages.fetch.engine import NativeEngine
from openwit.pipeline.stages.fetch.hosts import HOSTS
from openwit.pipeline.stages.fetch.images import ImageSpill, write_images
from openwit.pipeline.stages.fetch.stream import Batch, ChunkStream
from openwit.pipeline.stages.fetch.task import load_image_filters
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import IMAGES

pytestmark = pytest.mark.usefixtures("no_query_counts")


# Blocked domains


def test_blocked_domains_are_not_contacted(tmp_path, job, select, web):
    web.statuses["h2.localhost"] = 302
    web.redirect_to = "x.h1.localhost"
    web.start()
    listed = tmp_path / "blocked.txt.gz"
    listed.write_bytes(gzip.compress(b"# mine\n0.0.0.0 h0.localhost\nh1.localhost # and below\n"))
    urls = [web.url(host, n) for n, host in enumerate([*HOSTS_OF_WEB, "deep.h1.localhost"])]
    source = select(tmp_path / "s", {0: urls})
    chosen = settings(blocklist=str(listed), download={"robots": False})
    manifest, _ = Fetch().run(job, chosen, {"selected": source}, tmp_path / "f")
    assert manifest.funnel[0].reasons == {"blocked_domain": 4}
    assert {host for host, _ in web.asked} == {"h2.localhost", "h3.localhost", "h4.localhost", "h5.localhost"}
    drops = tables(tmp_path / "f", "drops", DROPS)
    assert {drop["detail"] for drop in drops if "h0" in drop["url"]} == {"h0.localhost"}
    # Another list is another fetch, also under the same name.
    listed.write_bytes(gzip.compress(b"h0.localhost\n"))
    with pytest.raises(OpenWITError, match="inputs.blocklist was"):
        Fetch().run(job, chosen, {"selected": source}, tmp_path / "f")


def test_a_bad_blocklist_is_said_before_anything_is_asked(tmp_path, job, select, web):
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web, 3)})
    (tmp_path / "bad.txt").write_text("fine.org\nhttp://example.org/\n")
    with pytest.raises(OpenWITError, match="line 2 of .*bad.txt: 'http://example.org/' is not a domain"):
        Fetch().run(job, settings(blocklist=str(tmp_path / "bad.txt")), {"selected": source}, tmp_path / "f")
    with pytest.raises(OpenWITError, match="blocklist: .*gone.txt cannot be read: No such file"):
        Fetch().run(job, settings(blocklist=str(tmp_path / "gone.txt")), {"selected": source}, tmp_path / "f2")
    assert not web.asked


# Hosts


def test_hosts_are_summed(tmp_path, job, select, web, capsys):
    web.statuses["h0.localhost"] = 404
    web.statuses["/7.jpg"] = 403
    web.start()
    source = select(tmp_path / "s", {0: [*spread_over_hosts(web, 18), "http://"], 1: [web.url("late.localhost", 90)]})
    manifest, _ = Fetch().run(job, settings(chunk=20), {"selected": source}, tmp_path / "f")
    assert manifest.extra == {"hosts": "hosts.parquet", "log": "log"}
    rows = {row["host"]: row for row in HOSTS.read(tmp_path / "f" / "hosts.parquet").to_pylist()}
    assert list(rows) == sorted(["", *HOSTS_OF_WEB, "late.localhost"])
    assert (rows["h0.localhost"]["urls"], rows["h0.localhost"]["ok"]) == (3, 0)
    assert rows["h0.localhost"]["failures"] == [{"reason": "http_not_found", "urls": 3}]
    assert (rows["h1.localhost"]["ok"], rows["h1.localhost"]["most_frequent_failure"]) == (2, "http_forbidden")
    assert (rows[""]["p50_ms"], rows[""]["most_frequent_failure"]) == (None, "bad_url")
    assert rows["h3.localhost"]["bytes"] == sum(len(picture(n)) for n in (3, 9, 15))
    assert 0 < rows["h3.localhost"]["p50_ms"] <= rows["h3.localhost"]["p95_ms"]
    assert sum(row["urls"] for row in rows.values()) == manifest.funnel[0].rows_in
    print_hosts(Console(width=120), tmp_path / "f")
    printed = capsys.readouterr().out.splitlines()
    first = next(line for line in printed if "localhost" in line or "no URL" in line)
    assert first.replace("│", " ").split()[:5] == ["h0.localhost", "3", "0", "http_not_found", "3"]
    assert not any("h2.localhost" in line for line in printed)


# Another engine


@pytest.mark.skipif(importlib.util.find_spec("img2dataset") is None, reason="img2dataset is not installed")
def test_img2dataset_leaves_the_same_tables(tmp_path, job, select, web):
    web.statuses.update({"/3.jpg": 404, "/4.jpg": 503})
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web, hosts=[f"127.0.0.{n}" for n in range(1, 2)])})
    ours, _ = Fetch().run(job, settings(), {"selected": source}, tmp_path / "ours")
    theirs, _ = Fetch().run(job, settings(engine="img2dataset"), {"selected": source}, tmp_path / "theirs")
    assert theirs.funnel == ours.funnel
    mine, other = (tables(tmp_path / name, "images", IMAGES) for name in ("ours", "theirs"))
    same = ("url", "pairs", "width", "height", "original_width", "original_format", "original_bytes", "sha256")
    assert [[row[key] for key in same] for row in mine] == [[row[key] for key in same] for row in other]
    assert all((a["phash"] ^ b["phash"]).bit_count() <= 8 for a, b in zip(mine, other, strict=True))


# Memory and order


def test_the_bytes_do_not_depend_on_the_order_of_answers(tmp_path, job, select, web, monkeypatch):
    web.statuses.update({"/3.jpg": 404, "/40.jpg": 503})
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web, 60), 1: [web.url("late.localhost", 61)]})
    one_by_one = settings(chunk=10, task=1000, open_chunks=1, download={"concurrency": 1})
    Fetch().run(job, one_by_one, {"selected": source}, tmp_path / "one")
    monkeypatch.setattr(fetch_task, "_SPILL_BYTES", 1)
    forwards = OpenChunk.web.fget
    monkeypatch.setattr(OpenChunk, "web", property(lambda chunk: forwards(chunk)[::-1]))
    at_once = settings(chunk=10, task=1000, open_chunks=4, download={"concurrency": 1})
    Fetch().run(job, at_once, {"selected": source}, tmp_path / "two")
    kinds = ("images", "drops")
    assert len(list((tmp_path / "one" / "images").iterdir())) == 8
    assert sums(tmp_path / "one", *kinds) == sums(tmp_path / "two", *kinds)


def spilled(folder, sizes):
    spill = ImageSpill(folder, memory_bytes=1000)
    for n, size in reversed(list(enumerate(sizes))):
        jpeg = bytes([n % 256]) * size
        spill.add(
            f"u{n:05d}", ProcessedImage(jpeg, "jpg", 1, 1, 1, 1, "JPEG", "0" * 64, "1" * 64, n, bytes(44), True), size
        )
    return spill


def test_large_images_make_small_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("openwit.pipeline.stages.fetch.images._GROUP_BYTES", 10_000)
    row = candidate("u", "t") | {"query_ids": [0], "drawn_by": [0], "priority": 0.5}
    pairs = {f"u{n:05d}": [row] for n in range(50)}
    with spilled(tmp_path, [4000] * 10 + [15_000] + [10] * 39) as spill:
        assert not list(tmp_path.iterdir())  # the file has no name that a kill could leave
        write_images(tmp_path / "i.parquet", spill.rows(pairs))
    file = pq.ParquetFile(tmp_path / "i.parquet")
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [2, 2, 2, 2, 2, 1, 39]
    table = IMAGES.read(tmp_path / "i.parquet")
    assert table.column("url").to_pylist() == sorted(pairs)
    assert [image[0] for image in table.column("image").to_pylist()] == list(range(50))


def test_statuses_that_pass_are_those_of_the_log():
    assert {status.value for status in RETRY_LATER} <= {str(status) for status in FetchStatus}
    assert "timeout" in RETRY_LATER


# The network and the decoders


class FailsOnce(dict):
    """Statuses of paths: one fails at first, and records when it was retried."""

    def __init__(self, path):
        super().__init__()
        self.path, self.times, self.again = path, 0, threading.Event()

    def get(self, path):
        if path != self.path:
            return None
        self.times += 1
        if self.times > 1:
            self.again.set()
        return 503 if self.times == 1 else None


def test_the_network_is_served_while_images_are_decoded(tmp_path, web):
    """Nothing is decoded before the retry was made: the loop that waited for decoders would stand still here."""
    web.statuses = statuses = FailsOnce("/5.jpg")
    web.start()

    class Engine(NativeEngine):
        def process(self, body, check=None, boxes=()):
            assert statuses.again.wait(20), "the network stood still while images were decoded"
            return super().process(body, check, boxes)

    limits = {"robots": False, "retries": 1, "backoff_s": 0.01, "concurrency": 24, "per_host": 24}
    chosen = settings(download=limits)
    filters = load_image_filters(chosen)
    filters.setup()
    urls = spread_over_hosts(web, 60)
    with ImageSpill(tmp_path) as images:
        chunk = OpenChunk("0", {url: [{"text": "a", "has_bytes": False}] for url in urls}, images)
        ended = []
        stream = ChunkStream(Engine(chosen, None), filters, on_result=lambda *_: None, on_end=ended.append)
        stream.run([Batch(chunk, urls, size=len(urls))])
    assert ended == [chunk]
    assert chunk.statuses() == dict.fromkeys(urls, FetchStatus.SUCCESS)
    paths = [path for _, path in web.asked]
    # Bodies that nobody decodes yet take the places of transfers: no more was asked for than there are.
    assert paths.index("/5.jpg", paths.index("/5.jpg") + 1) <= 25
