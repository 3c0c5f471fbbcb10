"""Inputs read in parts give the pairs, drops and counts of inputs read whole, and small ones are not opened."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.candidates import Candidates, parts
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.schemas.common.errors import NetworkError, OpenWITError
from openwit.schemas.tables.candidates import CANDIDATES, DROPS

ROWS = [(f"http://a{n % 7}.org/{n}.jpg", f'A red kite, number "{n}"\nover a field in May') for n in range(120)]


def page(number, images=3):
    body = "".join(f'<img src="{number}-{n}.jpg" alt="A red kite {number} over field {n}">' for n in range(images))
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + f"<title>{number}</title>{body}".encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.org/{number}/\r\nContent-Type: "
    return head.encode() + b"application/http\r\nContent-Length: %d\r\n\r\n" % len(http) + http + b"\r\n\r\n"


def members(numbers):
    return b"".join(gzip.compress(page(n), mtime=0) for n in numbers)


def quoted(delimiter):
    lines = [delimiter.join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row) + "\r\n" for row in ROWS]
    return ("\ufeffurl" + delimiter + "text\r\n" + "".join(lines)).encode()


def parquet(path):
    pq.write_table(pa.table({"url": [u for u, _ in ROWS], "text": [t for _, t in ROWS]}), path, row_group_size=16)
    return path.read_bytes()


def wat(number):
    links = [{"path": "IMG@/src", "url": f"{number}.jpg", "alt": f"A red kite {number} over the field"}]
    envelope = {
        "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": f"http://a.org/{number}/"},
        "Payload-Metadata": {
            "Actual-Content-Type": "application/http; msgtype=response",
            "HTTP-Response-Metadata": {
                "Response-Message": {"Status": "200"},
                "Headers": {"Content-Type": "text/html"},
                "HTML-Metadata": {"Head": {"Title": "Birds"}, "Links": links},
            },
        },
    }
    block = json.dumps({"Container": {"Filename": "a.warc.gz", "Offset": "0"}, "Envelope": envelope}).encode()
    head = f"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Type: application/json\r\nContent-Length: {len(block)}\r\n\r\n"
    return gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)


INPUTS = {
    "pages.warc.gz": lambda _: members(range(12)) + b"\0" * 50 + members(range(12, 20))[:-60] + members(range(20, 30)),
    "pages.warc.wat.gz": lambda _: b"".join(map(wat, range(40))),
    "table.csv": lambda _: quoted(",") + b'"http://a.org/x","never closed\r\n' + b"one,two,three\r\n",
    "table.tsv": lambda _: quoted("\t"),
    "lines.jsonl": lambda _: b"".join(json.dumps({"url": u, "text": t}).encode() + b"\n" for u, t in ROWS) + b"oops\n",
    "table.parquet": parquet,
    "utf16.csv": lambda _: quoted(",").decode("utf-8-sig").encode("utf-16"),
}


def rows(folder, schema, kind):
    return [row for path in sorted((folder / kind).glob("*.parquet")) for row in schema.read(path).to_pylist()]


def outcome(folder, manifest):
    drops = sorted(json.dumps(row, default=repr, sort_keys=True) for row in rows(folder, DROPS, "drops"))
    return rows(folder, CANDIDATES, "candidates"), drops, manifest.funnel, manifest.counters


def make(job, folder, inputs, **options):
    manifest, _ = Candidates().run(job, CandidateSettings(inputs=inputs, **options), {}, folder)
    return manifest


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("part_bytes", [600, 3000])
def test_parts_give_what_the_whole_gives(job, tmp_path, name, part_bytes):
    (tmp_path / name).write_bytes(INPUTS[name](tmp_path / name))
    whole = make(job, tmp_path / "whole", [str(tmp_path / name)])
    divided = make(job, tmp_path / "parts", [str(tmp_path / name)], part_bytes=part_bytes)
    assert outcome(tmp_path / "parts", divided) == outcome(tmp_path / "whole", whole)
    if part_bytes == 600 or "parquet" not in name:
        assert len(divided.paths(tmp_path / "parts", "candidates")) > 1
    assert divided.extra.get("damage", {}).keys() == whole.extra.get("damage", {}).keys()


@pytest.mark.parametrize("name", ["pages.warc.gz", "table.csv", "table.parquet"])
def test_files_of_a_store_are_read_by_ranges(job, tmp_path, name):
    (tmp_path / name).write_bytes(INPUTS[name](tmp_path / name))
    fsspec.filesystem("memory").pipe(f"/in/{name}", (tmp_path / name).read_bytes())
    whole = make(job, tmp_path / "whole", [f"memory://in/{name}"])
    # Worker processes do not share the memory.
    divided = make(Job(make_engine("beam", 1)), tmp_path / "parts", [f"memory://in/{name}"], part_bytes=1500)
    assert outcome(tmp_path / "parts", divided) == outcome(tmp_path / "whole", whole)
    assert len(divided.paths(tmp_path / "parts", "candidates")) > 1


def test_an_archive_stored_in_an_archive(job, tmp_path, monkeypatch):
    inner = members(range(100, 130))
    outer = gzip.compress(page(1).replace(b"<title>", inner + b"<title>"), 0, mtime=0)
    data = members([0]) + outer + members(range(2, 9))
    (tmp_path / "a.warc.gz").write_bytes(data)
    whole = make(job, tmp_path / "whole", [str(tmp_path / "a.warc.gz")])
    labels = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda self, *a: labels.append(a[2]) or run(self, *a))
    divided = make(job, tmp_path / "parts", [str(tmp_path / "a.warc.gz")], part_bytes=len(inner) // 3)
    assert labels[:2] == ["Look at large inputs", "Read inputs"]
    assert "Read parts of archives again" in labels
    assert outcome(tmp_path / "parts", divided) == outcome(tmp_path / "whole", whole)
    listed = {entry.path for entry in divided.files}
    written = {str(p.relative_to(tmp_path / "parts")) for p in (tmp_path / "parts").glob("[cd]*/*.parquet")}
    assert written <= listed


def test_large_inputs_that_stay_whole_are_said_in_one_line(job, tmp_path, caplog):
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(page(1) + page(2)))
    (tmp_path / "b.warc").write_bytes(page(3) + page(4))
    for name in ("c.csv.gz", "d.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(quoted(",")))
    (tmp_path / "e.csv").write_bytes(b"url,text\r\n" + quoted(",")[12:200])
    make(job, tmp_path / "out", [str(tmp_path / "*.*")], part_bytes=100)
    said = [r.getMessage() for r in caplog.records if "part_bytes" in r.getMessage()]
    assert len(said) == 1
    assert "4 inputs larger than candidates.part_bytes (100) cannot be read in parts" in said[0]
    assert "2 compressed tables, 1 one-member gzip file, 1 uncompressed archive" in said[0]


def test_planning_looks_at_large_files_only(tmp_path, monkeypatch):
    looked = []
    plan_of = parts._plan_of
    monkeypatch.setattr(parts, "_plan_of", lambda name, *a: looked.append(name) or plan_of(name, *a))
    counts = []
    for files in (20, 40, 80):
        folder = tmp_path / str(files)
        folder.mkdir()
        for n in range(files):
            (folder / f"{n:03d}.csv").write_bytes(b"url,text\r\nhttp://a.org/1.jpg,A red kite\r\n")
        (folder / "big.csv").write_bytes(quoted(","))
        looked.clear()
        settings = CandidateSettings(inputs=[str(folder / "*.csv")], part_bytes=4000)
        from openwit.pipeline.stages.candidates.stage import input_files

        tasks = parts.plan(_InProcess(), tmp_path, input_files(settings), settings)
        assert [task.payload.input for task in tasks] == sorted(task.payload.input for task in tasks)
        assert [task.name for task in tasks] == sorted(task.name for task in tasks)
        assert len({task.name for task in tasks}) == len(tasks)
        counts.append((len(looked), len(tasks) - files))
    assert counts[0] == counts[1] == counts[2] == (1, counts[0][1])
    assert counts[0][1] > 1


class _InProcess:
    def run(self, folder, tasks, label, unit, work):
        from openwit.pipeline.execution.tasks import run_file_task

        return [run_file_task(folder, task, work) for task in tasks if not label.endswith("\0") and unit]


def test_the_parts_of_a_build_that_goes_on_are_those_it_began_with(job, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_bytes(quoted(","))
    options = {"part_bytes": 1500}
    wanted = make(job, tmp_path / "at once", [str(tmp_path / "t.csv")], **options)
    monkeypatch.setattr("openwit.pipeline.stages.candidates.stage.follow_records", _killed)
    with pytest.raises(RuntimeError, match="killed"):
        make(job, tmp_path / "out", [str(tmp_path / "t.csv")], **options)
    monkeypatch.undo()
    again = make(job, tmp_path / "out", [str(tmp_path / "t.csv")], **options)
    assert [(f.path, f.sha256) for f in again.files] == [(f.path, f.sha256) for f in wanted.files]


def _killed(*_):
    raise RuntimeError("killed")


@pytest.fixture
def server():
    """Serves files by ranges, and refuses all but the first bytes of `broken.warc.gz`."""
    files = {"/whole.warc.gz": members(range(30)), "/broken.warc.gz": members(range(30))}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path])))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self):
            data = files[self.path]
            span = self.headers.get("Range", f"bytes=0-{len(data) - 1}").removeprefix("bytes=").split("-")
            start, end = int(span[0]), min(int(span[1] or len(data) - 1), len(data) - 1)
            asked.append((start, end + 1))
            if self.path.startswith("/broken") and start > 1000:
                self.send_error(500)
                return
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(end + 1 - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start : end + 1])

        def log_message(self, *arguments):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", asked
    found.shutdown()


def test_ranges_of_a_web_server_and_a_part_that_cannot_be_had(job, tmp_path, server, monkeypatch):
    base, _ = server
    whole = make(job, tmp_path / "whole", [f"{base}/whole.warc.gz"])
    divided = make(job, tmp_path / "parts", [f"{base}/whole.warc.gz"], part_bytes=1500)
    assert outcome(tmp_path / "parts", divided) == outcome(tmp_path / "whole", whole)
    assert len(divided.paths(tmp_path / "parts", "candidates")) > 2

    monkeypatch.setattr("openwit.schemas.common.storage.remote._LONGEST_WAIT_S", 0)
    with pytest.raises((NetworkError, OpenWITError), match="broken.warc.gz cannot be fetched"):
        make(Job(make_engine("beam", 1)), tmp_path / "stops", [f"{base}/broken.warc.gz"], part_bytes=1500)
