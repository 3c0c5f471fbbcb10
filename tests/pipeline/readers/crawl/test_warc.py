import gzip
import io
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.warc import PAGE_REASONS, RECORDS, Page, read_pages
from openwit.schemas.common.errors import OpenWITError

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "warc"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/warc is missing")


def http(body: bytes, status: str = "200 OK", content_type: str | None = "text/html", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {content_type}"] if content_type else []), *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def record(block: bytes, kind: str = "response", url: str = "http://a.example/", length: int | None = None) -> bytes:
    media = "application/http; msgtype=response" if block.startswith(b"HTTP") else "text/plain"
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2024-05-18T01:58:10Z\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: {media}\r\n"
        f"Content-Length: {len(block) if length is None else length}"
    )
    return header.encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def page_record(number: int) -> bytes:
    # incompressible enough that damage in the middle of a member is damage to its data
    noise = random.Random(number).randbytes(600).hex().encode()
    return record(http(b"<html><p>page %d</p>%s</html>" % (number, noise)), url=f"http://a.example/{number}")


def read(data: bytes, **options: int) -> tuple[list[Page], ReasonCounter]:
    tally = ReasonCounter()
    pages = list(read_pages(io.BytesIO(data), tally, **options))
    assert tally.counts[RECORDS] == len(pages) + sum(tally.counts[reason] for reason in PAGE_REASONS)
    return pages, tally


def numbers(pages: list[Page]) -> list[int]:
    return [int(page.url.rpartition("/")[2]) for page in pages]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_pages_with_their_provenance(form: str) -> None:
    parts = [FORMS[form](part) for part in (record(b"software: x", "warcinfo"), page_record(0), page_record(1))]
    pages, tally = read(b"".join(parts))
    assert numbers(pages) == [0, 1]
    first = pages[0]
    assert first.body.startswith(b"<html><p>page 0</p>")
    assert (first.url, first.status, first.date) == ("http://a.example/0", 200, "2024-05-18T01:58:10Z")
    assert [page.record_offset for page in pages] == [len(parts[0]), len(parts[0] + parts[1])]
    assert dict(tally.counts) == {RECORDS: 3, "not_response": 1}


def test_every_record_that_is_no_page_has_its_reason() -> None:
    html = b"<html></html>"
    data = b"".join(
        [
            record(http(html), "request"),
            record(http(html), "revisit"),
            record(b"93.184.216.34", "response", "dns:a.example"),
            record(http(html, "404 Not Found")),
            record(http(b"\xff\xd8\xff", content_type="image/jpeg")),
            record(http(b"just text", content_type=None)),
            record(http(b"  ")),
            record(b"HTTP/1.1 what\r\n\r\n"),
            record(http(html, "200 OK", "text/html", "Content-Encoding: gzip").replace(html, b"\x1f\x8b\x08" + html)),
            record(http(b"<html>" + bytes(500_000))),
            record(http(b"<div>" * 60_000)),
            record(http(html)),
        ]
    )
    pages, tally = read(data, max_body_bytes=400_000)
    assert len(pages) == 1
    assert dict(tally.counts) == {
        RECORDS: 12,
        "not_response": 1,
        "revisit": 1,
        "not_http": 1,
        "not_200": 1,
        "not_html": 2,
        "empty_page": 1,
        "bad_http": 2,
        "page_too_large": 1,
        "too_nested": 1,
    }


def test_encodings_charset_and_types() -> None:
    body = b"<html>caf\xe9</html>"
    zipped = http(gzip.compress(body), "200 OK", "Text/HTML; charset=ISO-8859-1", "Content-Encoding: gzip")
    xhtml = http(body, "200 OK", "application/xhtml+xml")
    sniffed = http(b"\xef\xbb\xbf\n<!DOCTYPE html><p>x", "200 OK", None)
    pages, _ = read(record(zipped) + record(xhtml) + record(sniffed))
    assert [(page.body[:6], page.charset) for page in pages] == [
        (b"<html>", "ISO-8859-1"),
        (b"<html>", None),
        (b"\xef\xbb\xbf\n<!", None),
    ]


def test_page_urls() -> None:
    data = b"".join(record(http(b"<p>x"), url=url) for url in ("<http://A.example/x#y>", "hard::name.html"))
    pages, tally = read(data)
    assert [page.url for page in pages] == ["http://a.example/x", "hard::name.html"]
    assert tally.counts["bad_page_url"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_gives_what_is_there(form: str) -> None:
    parts = [FORMS[form](page_record(number)) for number in range(5)]
    whole = b"".join(parts)
    pages, tally = read(whole[: len(whole) - len(parts[4]) // 3])
    assert numbers(pages)[:4] == [0, 1, 2, 3]
    assert tally.counts["archive_damaged"] == 1
    assert "offset" in tally.details["archive_damaged"][0]


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_is_noted(form: str) -> None:
    parts = [FORMS[form](page_record(number)) for number in range(3)]
    whole, before = b"".join(parts), len(parts[0]) + len(parts[1])
    for end in range(before + 1, len(whole) - 4):  # the last bytes are the empty lines or the checksum
        pages, tally = read(whole[:end])
        assert numbers(pages)[:2] == [0, 1]
        assert tally.counts["archive_damaged"] == 1, end
    for end in (before, len(whole)):
        pages, tally = read(whole[:end])
        assert tally.counts["archive_damaged"] == 0


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["flip", "cut", "insert", "zero"])
def test_damage_to_one_compressed_record_costs_that_record(form: str, damage: str) -> None:
    parts = [FORMS[form](page_record(number)) for number in range(8)]
    middle = len(parts[3]) // 2
    hurt = bytearray(parts[3])
    if damage == "flip":
        hurt[middle] ^= 0x10
    elif damage == "cut":
        del hurt[middle : middle + 100]
    elif damage == "insert":
        hurt[middle:middle] = b"garbage in the middle"
    else:
        hurt[middle : middle + 50] = bytes(50)
    pages, tally = read(b"".join((*parts[:3], bytes(hurt), *parts[4:])))
    assert set(numbers(pages)) >= {0, 1, 2, 4, 5, 6, 7}
    if 3 in numbers(pages):  # zstd frames without checksum: a flipped literal cannot be seen
        assert form == "zstd"
    else:
        assert tally.counts["archive_damaged"] >= 1


def test_garbage_between_records_is_passed_over() -> None:
    for form in FORMS.values():
        parts = [form(page_record(number)) for number in range(3)]
        pages, tally = read(parts[0] + b"\r\ngarbage\r\n" + parts[1] + parts[2])
        assert numbers(pages) == [0, 1, 2]
        assert tally.counts["archive_damaged"] == 1


@pytest.mark.parametrize("length", [5, 1500, 10**12])
def test_a_wrong_length_does_not_swallow_the_next_pages(length: int) -> None:
    wrong = record(http(b"<html><p>wrong</p></html>"), url="http://a.example/99", length=length)
    pages, tally = read(page_record(0) + wrong + page_record(1) + page_record(2))
    assert {0, 1, 2} <= set(numbers(pages))
    assert all(b"WARC/1.0" not in page.body for page in pages)
    assert tally.counts["archive_damaged"] >= 1


CASES = Path(__file__).resolve().parents[3] / "data" / "cases" / "warc-separators"


@pytest.mark.parametrize("path", sorted(CASES.iterdir()), ids=lambda path: path.name)
def test_records_in_other_forms_than_the_standards_lose_no_page(path: Path) -> None:
    pages, tally = read(path.read_bytes())
    assert [page.url for page in pages] == [f"http://s{n}.example/" for n in range(3)]
    assert all(page.body.rstrip().endswith(b'beach"></body></html>') for page in pages)
    assert tally.counts["archive_damaged"] == (path.name == "clen_short.warc")


def loose(data: bytes, form: str) -> bytes:
    """A record, or the header line of a capture, as other writers write it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    match form:
        case "lf":
            return head.replace(b"\r\n", b"\n") + b"\n\n" + rest.removesuffix(b"\r\n\r\n") + b"\n\n"
        case "lower":
            return head[:10] + head[10:].lower().replace(b"http://", b"http://") + b"\r\n\r\n" + rest
        case "folded":
            return head.replace(b"\r\nWARC-Target-URI: ", b"\r\nwarc-target-uri:\r\n  ") + b"\r\n\r\n" + rest
        case "no length":
            lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
            return b"\r\n".join(lines) + b"\r\n\r\n" + rest
        case "double CR":
            return head.replace(b"\r\n", b"\r\r\n") + b"\r\r\n\r\r\n" + rest
        case "no separator":
            return data.removesuffix(b"\r\n\r\n")
        case "many separators":
            return data + b"\r\n" * 5
        case _:
            return b"\xef\xbb\xbf" + data


@pytest.mark.parametrize("around", ["plain", "gzip", "gzip of all", "gzip twice"])
@pytest.mark.parametrize(
    "form", ["lf", "lower", "folded", "no length", "double CR", "no separator", "many separators", "BOM"]
)
def test_loose_records_among_strict_ones(form: str, around: str) -> None:
    records = [
        page_record(0),
        loose(page_record(1), form),
        page_record(2),
        loose(page_record(3), form),
        page_record(4),
    ]
    member = gzip.compress if around in ("gzip", "gzip twice") else bytes
    data = b"".join(map(member, records))
    data = gzip.compress(data) if around in ("gzip of all", "gzip twice") else data
    assert numbers(read(data)[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("around", ["gzip of all", "gzip twice", "crlf", "no separator"])
def test_loose_arcs(around: str) -> None:
    parts = [FILEDESC, *map(arc_page, range(3))]
    if around == "crlf":
        parts = [part.replace(b"\n", b"\r\n", 1) for part in parts]
    elif around == "no separator":
        parts = [part.removesuffix(b"\n") for part in parts]
    elif around == "gzip twice":
        parts = [gzip.compress(part) for part in parts]
    data = b"".join(parts)
    assert numbers(read(gzip.compress(data) if around.startswith("gzip") else data)[0]) == [0, 1, 2]


class Counting(io.BytesIO):
    """Counts the bytes that are read of it."""

    scanned = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.scanned += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        size = super().readinto(buffer)
        self.scanned += size
        return size


HOSTILE = {
    "marks": lambda n: b"\nWARC/" * n,
    "records of all": lambda n: record(http(b"x"), length=10**7) * (n // 8),
    "records without end": lambda n: (b"WARC/1.0\r\nContent-Length: 9999999\r\n\r\n") * n,
    "gzip magic": lambda n: b"\x1f\x8b\x08" * n,
    "broken members": lambda n: gzip.compress(page_record(1))[:-40] * (n // 16),
    "dates": lambda n: FILEDESC + (b"http://a" + b" 20080430204826" * 900 + b" \n") * (n // 400),
    "one line": lambda n: b"WARC/1.0 " * n,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_read_of_a_damaged_archive_grows_with_its_size(kind: str) -> None:
    costs = []
    for n in (2_000, 8_000):
        file = Counting(HOSTILE[kind](n))
        list(read_pages(file, ReasonCounter()))
        costs.append(file.scanned / len(file.getvalue()))
    assert costs[1] <= 1.5 * costs[0] + 1


def test_what_is_no_archive_says_so() -> None:
    for data in (b"", b"<html>not an archive</html>", gzip.compress(b"hello"), b"\x1f\x8b\x08", bytes(1000)):
        pages, tally = read(data)
        assert pages == []
        assert "neither WARC nor ARC" in tally.details["archive_damaged"][-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.warc.gz", "does not exist"), ("", "cannot be opened"), ("nosuch://x/y.warc", "cannot be opened")],
)
def test_a_file_that_cannot_be_opened_is_the_users_error(tmp_path: Path, name: str, message: str) -> None:
    source = name if "://" in name else str(tmp_path / name)
    with pytest.raises(OpenWITError, match=message):
        list(read_pages(source))


def test_opens_paths_urls_and_files_that_cannot_seek(tmp_path: Path) -> None:
    path = tmp_path / "x.warc.gz"
    path.write_bytes(gzip.compress(page_record(7)))

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for source in (path, str(path), path.as_uri(), OneWay(path.read_bytes())):
        assert numbers(list(read_pages(source))) == [7]


def arc(header: str, body: bytes, length: int | str | None = None) -> bytes:
    return f"{header} {len(body) if length is None else length}\n".encode() + body + b"\n"


FILEDESC = arc(
    "filedesc://x.arc 0.0.0.0 20080430204825 text/plain",
    b"1 0 Test\nURL IP-address Archive-date Content-type Archive-length\n",
)


def arc_page(number: int) -> bytes:
    return arc(
        f"http://a.example/{number} 127.0.0.1 20080430204826 text/html", http(b"<html><p>%d</p></html>" % number)
    )


@pytest.mark.parametrize("form", ["plain", "gzip"])
def test_reads_arc(form: str) -> None:
    version_2 = arc("http://a.example/2 1.2.3.4 20080430204826 text/html 200 - - 0 x.arc", http(b"<html>2</html>"))
    dns = arc("dns:a.example 1.2.3.4 20080430204826 text/dns", b"1.2.3.4")
    parts = [FORMS[form](part) for part in (FILEDESC, arc_page(0), dns, version_2)]
    pages, tally = read(b"".join(parts))
    assert numbers(pages) == [0, 2]
    assert pages[0].date == "2008-04-30T20:48:26Z"
    assert [page.record_offset for page in pages] == [len(parts[0]), len(b"".join(parts[:3]))]
    assert dict(tally.counts) == {RECORDS: 3, "not_http": 1}


def test_damaged_arc() -> None:
    bad = arc("http://a.example/9 127.0.0.1 20080430204826 text/html", b"", "abc")
    pages, tally = read(FILEDESC + arc_page(0) + bad + b"a line that is no header\n" + arc_page(1))
    assert numbers(pages) == [0, 1]
    assert tally.counts["damaged_record"] == 1
    assert tally.counts["archive_damaged"] == 1
    parts = [gzip.compress(part) for part in (FILEDESC, *map(arc_page, range(5)))]
    parts[2] = parts[2][:-30] + bytes(30)
    pages, tally = read(b"".join(parts))
    assert set(numbers(pages)) >= {0, 2, 3, 4}
    assert tally.counts["archive_damaged"] >= 1


@pytest.mark.parametrize("form", [*FORMS, "arc", "arc.gz"])
def test_fuzzed_archives_neither_raise_nor_lose_count(form: str) -> None:
    rng = random.Random(form)
    if form.startswith("arc"):
        compress = gzip.compress if form == "arc.gz" else bytes
        base = b"".join(compress(part) for part in (FILEDESC, *map(arc_page, range(12))))
    else:
        base = b"".join(FORMS[form](page_record(number)) for number in range(12))
    for _ in range(120):
        data = bytearray(base)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(5):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randrange(200)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randrange(200))
                case 3:
                    data[at : at + 100] = bytes(len(data[at : at + 100]))
                case 4:
                    data[at:at] = data[: rng.randrange(len(data))]
        pages, _ = read(bytes(data[: rng.randrange(1, len(data) + 1)]))
        assert all(isinstance(page.body, bytes) for page in pages)


@needs_data
@pytest.mark.parametrize(
    ("name", "pages", "counts"),
    [
        ("example-with-images.warc.gz", 94, {"not_200": 47, "not_html": 120, "not_http": 38, "not_response": 523}),
        ("example-with-images.arc.gz", 94, {"not_200": 47, "not_html": 120, "not_http": 38}),
        ("whirlwind.warc.gz", 1, {"not_response": 3}),
        ("clueweb-quirk.warc.gz", 29, {"not_response": 1}),
        ("iana.warc.gz", 16, {"not_response": 172, "revisit": 123, "not_html": 28, "not_200": 4}),
        ("clipped.warc.gz", 1, {"archive_damaged": 1, "cut_short": 1}),
        ("malformed/bad.arc", 0, {"damaged_record": 2, "bad_http": 1, "archive_damaged": 1}),
        ("malformed/example-bad-non-chunked.warc.gz", 1, {"revisit": 1, "not_response": 4}),
        ("malformed/example-space-in-target-uri.warc.gz", 0, {"not_response": 2}),
        ("malformed/example-trunc.warc", 1, {"not_response": 3}),
        ("malformed/example-wrong-chunks.warc.gz", 1, {"not_response": 1}),
        ("malformed/gzip_extra_sl.warc.gz", 0, {"not_response": 1}),
        ("malformed/missing-status-text.warc", 0, {"not_200": 1}),
    ],
)
def test_real_and_malformed_archives(name: str, pages: int, counts: dict[str, int]) -> None:
    tally = ReasonCounter()
    found = list(read_pages(DATA / name, tally))
    assert len(found) == pages
    assert {reason: n for reason, n in tally.counts.items() if reason != RECORDS} == counts
    assert tally.counts[RECORDS] == pages + sum(tally.counts[reason] for reason in PAGE_REASONS)


@needs_data
def test_the_same_crawl_as_warc_and_arc_has_the_same_pages() -> None:
    warc, arc_pages = (
        {p.url: p.body for p in read_pages(DATA / f"example-with-images.{kind}.gz")} for kind in ("warc", "arc")
    )
    assert warc == arc_pages


@needs_data
def test_undoes_broken_http_of_real_servers() -> None:
    clueweb = next(read_pages(DATA / "clueweb-quirk.warc.gz"))
    assert clueweb.charset == "EUC-JP"
    assert clueweb.body.startswith(b"<html>")  # says gzip, is plain
    chunked = next(read_pages(DATA / "malformed/example-wrong-chunks.warc.gz"))
    assert chunked.body.rstrip().endswith(b"</html>")
    zipped = next(read_pages(DATA / "malformed/example-bad-non-chunked.warc.gz"))
    assert zipped.body.startswith(b"<!doctype html>")
