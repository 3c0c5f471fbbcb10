"""Fetch on a web of loopback hosts: outages, second tries, blocked domains, hosts, and memory."""

import gzip
import hashlib
import http.server
import importlib.util
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.pictures import picture
from support.rows import candidate

from pipeline.columnar.files import file_entry
from pipeline.columnar.stage import STAGE_MANIFEST, Outcome, StageManifest, run_stage
from pipeline.columnar.tasks import RECEIPTS
from pipeline.hosts_report import print_hosts
from pipeline.images.process import ProcessedImage
from pipeline.recipe import FetchSettings
from pipeline.stages import fetch, fetch_chunk, fetch_retry
from pipeline.stages.fetch_images import ImageSpill, write_images
from pipeline.stages.fetch_log import FETCH_LOG, HOSTS, sum_hosts
from pipeline.stages.fetch_outage import Verdict, judge
from pipeline.web.fetch_status import HEARD, RETRY_LATER, UNHEARD, FetchStatus
from schemas.candidates import DROPS, SELECTED
from schemas.errors import UserError
from schemas.images import IMAGES
from schemas.manifest import FunnelStep

HOSTS_OF_WEB = [f"h{n}.localhost" for n in range(6)]


class Pictures(http.server.BaseHTTPRequestHandler):
    """/N.jpg is picture N, unless the server says another status for the path or host."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        host = self.headers["Host"].partition(":")[0]
        self.server.asked.append((host, self.path))
        time.sleep(self.server.delay)
        status = self.server.statuses.get(self.path) or self.server.statuses.get(host) or 200
        name = self.path[1:].partition(".")[0]
        if not name.isdigit():
            status = 404
        body = picture(int(name)) if status == 200 else b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://{self.server.redirect_to}:{self.server.server_port}{self.path}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512


class Web:
    """A port of this machine, silent until `start`."""

    def __init__(self):
        self.statuses, self.asked, self.delay, self.redirect_to = {}, [], 0.0, ""
        self.server = None
        self.server = self._make(0)
        self.port = self.server.server_port
        self.server.server_close()
        self.server = None

    def _make(self, port):
        server = Server(("127.0.0.1", port), Pictures)
        server.statuses, server.asked, server.delay = self.statuses, self.asked, self.delay
        server.redirect_to, server.daemon_threads = self.redirect_to, True
        return server

    def start(self):
        self.server = self._make(self.port)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def url(self, host, n):
        return f"http://{host}:{self.port}/{n}.jpg"


@pytest.fixture
def web():
    server = Web()
    yield server
    server.stop()


@pytest.fixture
def select(job):
    """Makes a finished select folder: {host bucket: URLs}, two texts for every third URL."""

    def make(folder: Path, buckets):
        rows = []
        for bucket, urls in sorted(buckets.items()):
            for n, url in enumerate(urls):
                for text in ("a wren", "a small wren")[: 1 + (n % 3 == 0)]:
                    drawn = {"query_ids": [0], "drawn_by": [0], "priority": 0.5, "host_bucket": bucket}
                    rows.append({**candidate(url, text), **drawn})

        def body():
            path = folder / "selected" / "00000.parquet"
            SELECTED.write(path, pa.Table.from_pylist(rows, schema=SELECTED.arrow))
            (folder / "query_counts.parquet").write_bytes(b"")
            line = FunnelStep(stage="select", unit="pairs", rows_in=len(rows), rows_out=len(rows))
            return Outcome(files=[file_entry(folder, path)], funnel=[line])

        run_stage(job, folder, "select", 1, {}, {}, body)
        return folder

    return make


@pytest.fixture(autouse=True)
def no_query_counts(monkeypatch):
    monkeypatch.setattr(fetch, "carry_query_counts", lambda *_: [])


def settings(**changes):
    download = {
        "allow_networks": ("127.0.0.0/8",),
        "retries": 0,
        "timeout_s": 5.0,
        "connect_timeout_s": 2.0,
        "max_backoff_s": 0.1,
        **changes.pop("download", {}),
    }
    base = {"chunk": 30, "outage_pause_s": 0.01, "image": {"size": 64}, **changes}
    return FetchSettings(download=download, **base)


def spread_over_hosts(web, n=30, hosts=HOSTS_OF_WEB, first=0):
    return [web.url(hosts[i % len(hosts)], first + i) for i in range(n)]


def tables(folder: Path, kind: str, schema) -> list[dict]:
    return [row for path in sorted((folder / kind).glob("*.parquet")) for row in schema.read(path).to_pylist()]


def sums(folder: Path, *kinds: str) -> dict[str, str]:
    paths = [path for kind in kinds for path in sorted((folder / kind).rglob("*"))]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.is_file()}


# Outages


def test_heard_and_unheard_are_apart():
    assert not HEARD & UNHEARD
    assert FetchStatus.SUCCESS in HEARD


def statuses(heard, unheard, hosts=10):
    rows = [FetchStatus.HTTP_NOT_FOUND] * heard + [FetchStatus.DNS_FAILED] * unheard
    return {f"http://h{n % hosts}.org/{n}": status for n, status in enumerate(rows)}


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (statuses(0, 30), Verdict.BROKEN),
        (statuses(2, 98, 100), Verdict.BROKEN),
        (statuses(10, 90), Verdict.FINE),
        (statuses(0, 19), Verdict.FINE),
        (statuses(0, 30, hosts=4), Verdict.DOUBTFUL),
        (statuses(30, 0), Verdict.FINE),
        ({f"http://h{n}.org/": FetchStatus.ROBOTS_UNREACHABLE for n in range(50)}, Verdict.FINE),
        # One big dead host beside five that live.
        (
            {f"http://dead.org/{n}": FetchStatus.CONNECT_TIMEOUT for n in range(500)}
            | {f"http://h{n}.org/": FetchStatus.SUCCESS for n in range(5)},
            Verdict.FINE,
        ),
    ],
)
def test_what_answers_say_of_our_connection(answers, verdict):
    assert judge(answers, 0.1) is verdict


def test_an_outage_stops_the_run_and_the_same_command_goes_on(tmp_path, job, select, web):
    live = Web().start()
    try:
        source = select(tmp_path / "s", {0: spread_over_hosts(live), 1: spread_over_hosts(web)})
        with pytest.raises(UserError) as stopped:
            fetch.run(job, settings(chunk=40, outage_retries=1), source, tmp_path / "f")
        message = str(stopped.value)
        assert "chunk 00001: of 30 URLs only 0 had an answer (connect_failed mostly) in 2 tries" in message
        assert "\n" not in message
        assert [p.stem for p in (tmp_path / "f" / RECEIPTS).iterdir()] == ["00000"]
        asked = len(live.asked)
        web.start()
        # How hard to try is no part of the build's identity: the folder is taken up.
        manifest, did = fetch.run(job, settings(chunk=40, outage_retries=5), source, tmp_path / "f")
    finally:
        live.stop()
    assert did
    assert manifest.rows_out("images") == 60
    assert len(live.asked) == asked
    assert not list((tmp_path / "f").rglob(".partial-*"))


def test_an_outage_that_passes_costs_nothing_but_time(tmp_path, job, select, web, monkeypatch):
    source = select(tmp_path / "s", {0: spread_over_hosts(web, 130)})
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            web.start()

    monkeypatch.setattr(fetch_chunk.time, "sleep", pause)
    manifest, _ = fetch.run(job, settings(chunk=1000, outage_pause_s=7), source, tmp_path / "f")
    monkeypatch.undo()
    assert pauses[:2] == [7, 14]
    assert manifest.rows_out("images") == 130
    assert all(row["status"] == "success" for row in tables(tmp_path / "f", "log", FETCH_LOG))


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_servers_refuse_is_no_outage(tmp_path, job, select, web, status):
    web.statuses.update(dict.fromkeys(HOSTS_OF_WEB, status))
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web)})
    manifest, _ = fetch.run(job, settings(download={"robots": False}), source, tmp_path / "f")
    assert manifest.rows_out("images") == 0


def test_small_chunks_and_a_floor_of_zero_take_failures_as_they_come(tmp_path, job, select, web):
    few = select(tmp_path / "few", {0: spread_over_hosts(web, 19)})
    assert fetch.run(job, settings(), few, tmp_path / "f1")[0].funnel[0].reasons == {"connect_failed": 19}
    many = select(tmp_path / "many", {0: spread_over_hosts(web, 30)})
    manifest, _ = fetch.run(job, settings(min_success=0), many, tmp_path / "f2")
    assert manifest.funnel[0].reasons == {"connect_failed": 30}


def test_a_dead_host_of_its_own_is_believed_once_others_answer(tmp_path, job, select, web):
    live = Web().start()
    try:
        dead = [web.url("dead.localhost", n) for n in range(30)]
        both = select(tmp_path / "s", {0: dead, 1: spread_over_hosts(live)})
        manifest, _ = fetch.run(job, settings(outage_retries=1), both, tmp_path / "f")
        assert manifest.rows_out("images") == 30
        alone = select(tmp_path / "alone", {0: dead})
        with pytest.raises(UserError, match="seems to be down"):
            fetch.run(job, settings(outage_retries=1), alone, tmp_path / "f2")
    finally:
        live.stop()


# Second tries


@pytest.fixture
def half_failed(tmp_path, job, select, web):
    """A finished fetch, a third of whose URLs failed for reasons that pass."""
    for n in range(0, 60, 3):
        web.statuses[f"/{n}.jpg"] = 503
    web.statuses["/1.jpg"] = 404
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web), 1: spread_over_hosts(web, first=30)})
    fetch.run(job, settings(), source, tmp_path / "f")
    web.asked.clear()
    return source


def test_a_plain_second_run_does_nothing(tmp_path, job, web, half_failed):
    assert fetch.run(job, settings(), half_failed, tmp_path / "f")[1] is False
    assert not web.asked


def test_failed_urls_are_asked_again_as_if_they_had_come_at_once(tmp_path, job, web, half_failed):
    reasons = StageManifest.load(tmp_path / "f", "fetch").funnel[0].reasons
    assert reasons == {"http_server_error": 20, "http_not_found": 1}
    for n in range(0, 57, 3):
        del web.statuses[f"/{n}.jpg"]
    manifest, did = fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)
    assert did
    assert sorted(path for _, path in web.asked if path != "/robots.txt") == sorted(
        f"/{n}.jpg" for n in range(0, 60, 3)
    )
    assert manifest.funnel[0].reasons == {"http_server_error": 1, "http_not_found": 1}
    at_once, _ = fetch.run(job, settings(), half_failed, tmp_path / "at_once")
    assert manifest == at_once
    assert (tmp_path / "f" / STAGE_MANIFEST).read_bytes() == (tmp_path / "at_once" / STAGE_MANIFEST).read_bytes()
    kinds = ("images", "drops")
    assert sums(tmp_path / "f", *kinds) == sums(tmp_path / "at_once", *kinds)
    for entry in manifest.files:
        assert hashlib.sha256((tmp_path / "f" / entry.path).read_bytes()).hexdigest() == entry.sha256
    hosts = HOSTS.read(tmp_path / "f" / "hosts.parquet").to_pylist()
    assert sum(row["ok"] for row in hosts) == 58


def test_with_nothing_to_ask_again_there_is_nothing_to_do(tmp_path, job, web, half_failed):
    for n in range(0, 60, 3):
        del web.statuses[f"/{n}.jpg"]
    assert fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)[1] is True
    web.asked.clear()
    assert fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)[1] is False
    assert not web.asked


def test_a_second_try_that_gains_nothing_changes_no_byte(tmp_path, job, half_failed):
    before = sums(tmp_path / "f", "images", "drops")
    manifest = (tmp_path / "f" / STAGE_MANIFEST).read_bytes()
    assert fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)[1] is True
    assert sums(tmp_path / "f", "images", "drops") == before
    assert (tmp_path / "f" / STAGE_MANIFEST).read_bytes() == manifest


def test_a_second_try_while_we_are_cut_off_changes_nothing(tmp_path, job, web, half_failed):
    web.stop()
    before = sums(tmp_path / "f", "images", "drops", "log")
    fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)
    assert sums(tmp_path / "f", "images", "drops", "log") == before


@pytest.mark.parametrize("moves", range(0, 8, 3))
def test_a_kill_while_results_move_leaves_old_or_new(tmp_path, job, web, half_failed, monkeypatch, moves):
    web.statuses.clear()
    real, left = fetch_retry.os.replace, [moves]

    def dying(source, target):
        if ".stage/retry" in str(source) and ".partial-" not in str(source):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(source, target)

    monkeypatch.setattr(fetch_retry.os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        fetch.run(job, settings(), half_failed, tmp_path / "f", retry_failed=True)
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "carry_query_counts", lambda *_: [])
    with pytest.raises(UserError, match="holds no finished 'fetch' stage"):
        StageManifest.load(tmp_path / "f", "fetch")
    web.asked.clear()
    manifest, _ = fetch.run(job, settings(), half_failed, tmp_path / "f")
    assert manifest.rows_out("images") == 59
    assert not web.asked
    assert not (tmp_path / "f" / ".stage" / "retry").exists()


RETRY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rich.console import Console
from pipeline.columnar.runner import Runner
from pipeline.columnar.stage import Job
from pipeline.recipe import FetchSettings
from pipeline.stages import fetch
fetch.carry_query_counts = lambda *_: []
settings = FetchSettings.model_validate_json(sys.argv[2])
fetch.run(Job(Runner(), Console(quiet=True)), settings, Path(sys.argv[3]), Path(sys.argv[4]), retry_failed=True)
"""


def test_a_kill_in_a_second_try_keeps_the_first_results_and_goes_on(tmp_path, job, web, half_failed):
    folder = tmp_path / "f"
    before = sums(folder, "images", "drops", ".stage/receipts")
    web.statuses.clear()
    web.stop()
    web.delay = 0.15
    web.start()
    chosen = settings()
    root = str(Path(__file__).parents[3])
    dump = chosen.model_dump_json()
    process = subprocess.Popen([sys.executable, "-c", RETRY, root, dump, str(half_failed), str(folder)])
    staged = folder / ".stage" / "retry" / ".stage" / "receipts" / "00000.json"
    while not staged.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sums(folder, "images", "drops", ".stage/receipts") == before
    assert fetch.run(job, chosen, half_failed, folder)[1] is False
    web.asked.clear()
    manifest, did = fetch.run(job, chosen, half_failed, folder, retry_failed=True)
    assert did
    assert manifest.rows_out("images") == 59
    asked = {path for _, path in web.asked if path != "/robots.txt"}
    assert asked == {f"/{n}.jpg" for n in range(30, 60, 3)}
    assert not list(folder.rglob(".partial-*"))


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
    manifest, _ = fetch.run(job, chosen, source, tmp_path / "f")
    assert manifest.funnel[0].reasons == {"blocked_domain": 4}
    assert {host for host, _ in web.asked} == {"h2.localhost", "h3.localhost", "h4.localhost", "h5.localhost"}
    drops = tables(tmp_path / "f", "drops", DROPS)
    assert {drop["detail"] for drop in drops if "h0" in drop["url"]} == {"h0.localhost"}
    # Another list is another fetch, also under the same name.
    listed.write_bytes(gzip.compress(b"h0.localhost\n"))
    with pytest.raises(UserError, match="inputs.blocklist was"):
        fetch.run(job, chosen, source, tmp_path / "f")


def test_a_bad_blocklist_is_said_before_anything_is_asked(tmp_path, job, select, web):
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web, 3)})
    (tmp_path / "bad.txt").write_text("fine.org\nhttp://example.org/\n")
    with pytest.raises(UserError, match="line 2 of .*bad.txt: 'http://example.org/' is no domain"):
        fetch.run(job, settings(blocklist=str(tmp_path / "bad.txt")), source, tmp_path / "f")
    with pytest.raises(UserError, match="blocklist: .*gone.txt cannot be read: No such file"):
        fetch.run(job, settings(blocklist=str(tmp_path / "gone.txt")), source, tmp_path / "f2")
    assert not web.asked


# Hosts


def test_hosts_are_summed(tmp_path, job, select, web, capsys):
    web.statuses["h0.localhost"] = 404
    web.statuses["/7.jpg"] = 403
    web.start()
    source = select(tmp_path / "s", {0: [*spread_over_hosts(web, 18), "http://"], 1: [web.url("late.localhost", 90)]})
    manifest, _ = fetch.run(job, settings(chunk=20), source, tmp_path / "f")
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


def test_percentiles_leave_out_what_was_not_sent():
    rows = [("a", "success", 10.0), ("a", "timeout", 30.0), ("a", "host_unreachable", 0.0)]
    log = FETCH_LOG.table(
        {
            "url": [f"http://a/{n}" for n in range(3)],
            "host": [row[0] for row in rows],
            "status": [row[1] for row in rows],
            "http_status": [200, None, None],
            "bytes": [5, 0, 0],
            "milliseconds": [row[2] for row in rows],
            "attempts": [1, 1, 0],
        }
    )
    (host,) = sum_hosts(log)
    assert (host["urls"], host["ok"], host["bytes"], host["p50_ms"]) == (3, 1, 5, 20.0)
    assert [f["reason"] for f in host["failures"]] == ["host_unreachable", "timeout"]


# Another engine


@pytest.mark.skipif(importlib.util.find_spec("img2dataset") is None, reason="img2dataset is not installed")
def test_img2dataset_leaves_the_same_tables(tmp_path, job, select, web):
    web.statuses.update({"/3.jpg": 404, "/4.jpg": 503})
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web, hosts=[f"127.0.0.{n}" for n in range(1, 2)])})
    ours, _ = fetch.run(job, settings(), source, tmp_path / "ours")
    theirs, _ = fetch.run(job, settings(engine="img2dataset"), source, tmp_path / "theirs")
    assert theirs.funnel == ours.funnel
    mine, other = (tables(tmp_path / name, "images", IMAGES) for name in ("ours", "theirs"))
    same = ("url", "pairs", "width", "height", "original_width", "original_format", "original_bytes", "sha256")
    assert [[row[key] for key in same] for row in mine] == [[row[key] for key in same] for row in other]
    assert all((a["phash"] ^ b["phash"]).bit_count() <= 8 for a, b in zip(mine, other, strict=True))


# Memory and order


def test_the_bytes_do_not_depend_on_the_order_of_answers(tmp_path, job, select, web, monkeypatch):
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web)})
    fetch.run(job, settings(), source, tmp_path / "one")
    real = fetch_chunk.ImageSpill
    monkeypatch.setattr(fetch_chunk, "ImageSpill", lambda folder: real(folder, memory_bytes=1))
    backwards = fetch_chunk.FetchChunk.ask
    monkeypatch.setattr(fetch_chunk.FetchChunk, "ask", lambda self, urls, images: backwards(self, urls[::-1], images))
    fetch.run(job, settings(), source, tmp_path / "two")
    assert sums(tmp_path / "one", "images", "drops") == sums(tmp_path / "two", "images", "drops")


def spilled(folder, sizes):
    spill = ImageSpill(folder, memory_bytes=1000)
    for n, size in reversed(list(enumerate(sizes))):
        jpeg = bytes([n % 256]) * size
        spill.add(f"u{n:05d}", ProcessedImage(jpeg, 1, 1, 1, 1, "JPEG", "0" * 64, n, True), size)
    return spill


def test_large_images_make_small_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.stages.fetch_images._GROUP_BYTES", 10_000)
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
