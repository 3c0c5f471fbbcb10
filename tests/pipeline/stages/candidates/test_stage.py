"""Candidates from archives, WAT records and tables, sound and broken."""

import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.stages.candidates import Candidates, stage
from openwit.pipeline.stages.candidates.extraction_stats import extraction_stats
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import CANDIDATES, DAMAGE, DROPS

PAGE = b"""<html><head><title>Birds of the valley</title><link rel=license href=/terms></head><body>
<img src="kite.jpg" alt="A red kite over the field"><img src="/img/wren.jpg" alt="IMG_0042.jpg" title="A small wren">
<img src="spacer.gif" alt="spacer"></body></html>"""


def warc_record(url, body, kind="response", status="200 OK"):
    http = b"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" % status.encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-18T01:58:10Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def write_warc(path, *records):
    path.write_bytes(b"".join(gzip.compress(record, mtime=0) for record in records))
    return str(path)


def read(folder, schema, kind):
    return [row for path in sorted((folder / kind).glob("*.parquet")) for row in schema.read(path).to_pylist()]


def funnel(manifest):
    return {f"{s.stage}/{s.unit}": (s.rows_in, s.rows_out, s.reasons) for s in manifest.funnel}


def test_pages_to_pairs_with_their_provenance(job, tmp_path):
    first, second = warc_record("http://a.org/birds/", PAGE), warc_record("http://a.org/x", b"gone", status="404 No")
    archive = write_warc(tmp_path / "a.warc.gz", second, first)
    manifest, did = Candidates().run(job, CandidateSettings(inputs=[archive]), {}, tmp_path / "out")
    assert did
    rows = read(tmp_path / "out", CANDIDATES, "candidates")
    assert [(r["url"], r["text"], r["text_source"]) for r in rows] == [
        ("http://a.org/birds/kite.jpg", "A red kite over the field", "alt"),
        ("http://a.org/img/wren.jpg", "A small wren", "title"),
    ]
    for row in rows:
        assert row["page_url"] == "http://a.org/birds/"
        assert row["archive"] == archive
        assert row["record_offset"] == len(gzip.compress(second, mtime=0))
        assert row["fetch_date"] == "2024-05-18T01:58:10Z"
        assert row["license"] == "http://a.org/terms"
    at = len(gzip.compress(second, mtime=0))
    assert [(d["reason"], d["url"], d["text"], d["detail"]) for d in read(tmp_path / "out", DROPS, "drops")] == [
        (
            "placeholder",
            "http://a.org/birds/spacer.gif",
            "spacer",
            f"on http://a.org/birds/, in {archive} at byte {at}",
        ),
        ("file_name", "http://a.org/img/wren.jpg", "IMG_0042.jpg", None),
    ]
    assert funnel(manifest) == {
        "inputs/files": (1, 1, {}),
        "crawl/records": (2, 1, {"not_200": 1}),
        "pages/images": (3, 2, {"placeholder": 1}),
        "candidates/pairs": (3, 2, {"file_name": 1}),
    }
    table = {(line.kind, line.source): (line.found, line.kept) for line in extraction_stats(manifest.counters)}
    assert table["text", "alt"] == (2, 1)
    assert table["reference", "relative"] == (3, 2)


def test_broken_archives_are_read_as_far_as_they_go(job, tmp_path):
    record = warc_record("http://a.org/", PAGE)
    whole = gzip.compress(record, mtime=0)
    (tmp_path / "cut.warc.gz").write_bytes(whole + whole[: len(whole) // 2])
    (tmp_path / "noise.warc.gz").write_bytes(whole + b"\x00" * 99 + whole)
    (tmp_path / "none.warc").write_bytes(b"this is no archive")
    settings = CandidateSettings(inputs=[str(tmp_path / "*.warc*")])
    manifest, _ = Candidates().run(job, settings, {}, tmp_path / "out")
    archives = [row["archive"].rpartition("/")[2] for row in read(tmp_path / "out", CANDIDATES, "candidates")]
    assert archives.count("noise.warc.gz") == 4
    assert archives.count("cut.warc.gz") >= 2
    damage = DAMAGE.read(tmp_path / "out" / "damage.parquet").to_pylist()
    assert {line["archive"].rpartition("/")[2] for line in damage} == {"cut.warc.gz", "noise.warc.gz", "none.warc"}
    assert any(f"offset {len(whole)}" in line["detail"] for line in damage if "cut" in line["archive"])
    assert sum(manifest.extra["damage"].values()) == len(damage)
    assert "damage.parquet" in {file.path for file in manifest.files}


def test_tables_and_files_that_cannot_be_read(job, tmp_path):
    good = pa.table({"url": ["http://a.org/1.jpg", None], "text": ["A wren in a hedge", "An oak in winter"]})
    pq.write_table(good, tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing")
    inputs = [str(tmp_path / "*.parquet")]
    with pytest.raises(OpenWITError, match=r"bad.parquet is not a readable Parquet .*skip_unreadable: true"):
        Candidates().run(job, CandidateSettings(inputs=inputs), {}, tmp_path / "stops")
    manifest, _ = Candidates().run(job, CandidateSettings(inputs=inputs, skip_unreadable=True), {}, tmp_path / "out")
    assert funnel(manifest) == {
        "inputs/files": (2, 1, {"unreadable": 1}),
        "candidates/pairs": (2, 1, {"bad_url": 1}),
    }
    assert manifest.extra["damage"] == {"unreadable": 1}


def test_only_so_many_files(job, tmp_path):
    for name in "abc":
        write_warc(tmp_path / f"{name}.warc.gz", warc_record(f"http://{name}.org/", PAGE))
    settings = CandidateSettings(inputs=[str(tmp_path / "*.gz")], max_files=2)
    manifest, _ = Candidates().run(job, settings, {}, tmp_path / "out")
    assert funnel(manifest)["inputs/files"] == (2, 2, {})


@pytest.mark.parametrize(
    ("name", "said"), [("x.wet.gz", "is a WET file"), ("x.mp4", "neither a WARC, WAT or ARC file nor a table")]
)
def test_names_that_tell_nothing(job, tmp_path, name, said):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(OpenWITError, match=said):
        Candidates().run(job, CandidateSettings(inputs=[str(tmp_path / name)]), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_pair_at_all_is_said(job, tmp_path):
    archive = write_warc(tmp_path / "a.warc.gz", warc_record("http://a.org/", b"<html>nothing</html>"))
    with pytest.raises(OpenWITError, match="no usable .image, text. pair .0 found"):
        Candidates().run(job, CandidateSettings(inputs=[archive]), {}, tmp_path / "out")


def test_wat_gives_the_same_pairs_as_its_page(job, tmp_path):
    import json

    envelope = {
        "Container": {"Filename": "a.warc.gz", "Offset": "0"},
        "Envelope": {
            "WARC-Header-Metadata": {
                "WARC-Type": "response", "WARC-Target-URI": "http://a.org/birds/", "WARC-Date": "2024-05-18T01:58:10Z",
            },
            "Payload-Metadata": {
                "Actual-Content-Type": "application/http; msgtype=response",
                "HTTP-Response-Metadata": {
                    "Response-Message": {"Status": "200"},
                    "Headers": {"Content-Type": "text/html"},
                    "HTML-Metadata": {
                        "Head": {"Title": "Birds of the valley"},
                        "Links": [{"path": "IMG@/src", "url": "kite.jpg", "alt": "A red kite over the field"}],
                    },
                },
            },
        },
    }  # fmt: skip
    block = json.dumps(envelope).encode()
    head = (
        "WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: http://a.org/birds/\r\n"
        "WARC-Date: 2024-06-01T00:00:00Z\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    out = io.BytesIO(head.encode() + block + b"\r\n\r\n")
    (tmp_path / "a.warc.wat.gz").write_bytes(gzip.compress(out.getvalue()))
    Candidates().run(job, CandidateSettings(inputs=[str(tmp_path / "a.warc.wat.gz")]), {}, tmp_path / "out")
    row = read(tmp_path / "out", CANDIDATES, "candidates")[0]
    assert (row["url"], row["text"]) == ("http://a.org/birds/kite.jpg", "A red kite over the field")
    assert row["fetch_date"] == "2024-05-18T01:58:10Z"


def test_a_large_table_is_read_by_several_tasks_and_written_in_parts(job, tmp_path, monkeypatch):
    rows = 1000
    texts = [f"a red kite number {n} in flight" for n in range(rows)]
    table = pa.table({"url": [f"http://a.org/{n}.jpg" for n in range(rows)], "text": texts})
    pq.write_table(table, tmp_path / "big.parquet", row_group_size=100)
    settings = CandidateSettings(inputs=[str(tmp_path / "big.parquet")])
    whole, _ = Candidates().run(job, settings, {}, tmp_path / "whole")
    settings = settings.model_copy(update={"part_bytes": 4_000})
    monkeypatch.setattr(stage, "_PART_ROWS", 150)
    monkeypatch.setattr(stage, "_BATCH", 64)
    parts, _ = Candidates().run(job, settings, {}, tmp_path / "parts")
    assert read(tmp_path / "parts", CANDIDATES, "candidates") == read(tmp_path / "whole", CANDIDATES, "candidates")
    assert [row["record_offset"] for row in read(tmp_path / "parts", CANDIDATES, "candidates")] == list(range(rows))
    assert parts.funnel == whole.funnel
    assert len(parts.paths(tmp_path / "parts", "candidates")) == 4
