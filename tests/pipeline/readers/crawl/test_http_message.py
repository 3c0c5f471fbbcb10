import gzip
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.readers.crawl.http_message import (
    MAX_HEADER_BYTES,
    BadMessageError,
    BodyTooLargeError,
    charset_of,
    decode_body,
    parse_response,
)

HTML = b"<html><body>" + b"words " * 100 + b"</body></html>"
CAP = 1 << 20


@pytest.mark.parametrize(
    ("message", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", 200, b"body"),
        (b"HTTP/1.1 200 OK\nA: b\n\nbody", 200, b"body"),  # LF alone (ClueWeb09)
        (b"HTTP/1.0 302 \r\r\nA: b\r\r\n\r\nbody", 302, b"body"),  # no status text, CR twice
        (b"http/2 404\r\n\r\n", 404, b""),
        (b"HTTP/1.1 200 OK\r\nA: cut", 200, b""),
    ],
)
def test_reads_header_blocks_as_crawls_have_them(message: bytes, status: int, body: bytes) -> None:
    response = parse_response(message)
    assert (response.status, message[response.body_start :]) == (status, body)


def test_first_of_repeated_fields_counts_and_names_lose_case() -> None:
    response = parse_response(
        b"HTTP/1.1 200 OK\r\nCONTENT-type: Text/HTML; Charset='x-sjis'\r\nContent-Type: b/c\r\n\r\n"
    )
    assert response.media_type == "text/html"
    assert response.charset == "x-sjis"


@pytest.mark.parametrize(
    "message", [b"", b"<html>", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200\r\n" + b"A: b\r\n" * 20_000]
)
def test_what_is_no_response_is_refused(message: bytes) -> None:
    with pytest.raises(BadMessageError):
        parse_response(message)
    assert len(message) < 50 or len(message) > MAX_HEADER_BYTES


@pytest.mark.parametrize(
    ("value", "charset"),
    [
        ("text/html; charset=utf-8", "utf-8"),
        ('text/html;charset="ISO-8859-1"; x=y', "ISO-8859-1"),
        ("text/html", None),
        ("text/html; charset=", None),
    ],
)
def test_charset_of(value: str, charset: str | None) -> None:
    assert charset_of(value) == charset


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(st.binary(max_size=2000), st.integers(1, 500))
def test_dechunking_undoes_chunking(body: bytes, size: int) -> None:
    assert decode_body(chunked(body, size), {"transfer-encoding": "chunked"}, max_bytes=CAP) == body


def test_a_body_that_only_claims_to_be_chunked_stays() -> None:
    assert decode_body(HTML, {"transfer-encoding": "chunked"}, max_bytes=CAP) == HTML


def test_a_broken_chunk_keeps_what_follows() -> None:
    broken = b"5\r\nhello\r\nzzz\r\nworld"
    assert decode_body(broken, {"transfer-encoding": "chunked"}, max_bytes=CAP) == b"hellozzz\r\nworld"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),  # bare deflate, as some servers send it
        ("zstd", lambda body: pa.Codec("zstd").compress(body, asbytes=True)),
        ("br", lambda body: pa.Codec("brotli").compress(body, asbytes=True)),
        ("identity", bytes),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    ],
)
def test_decompresses_and_bears_a_false_claim(encoding: str, encode) -> None:  # type: ignore[no-untyped-def]
    fields = {"content-encoding": encoding.upper()}
    assert decode_body(encode(HTML), fields, max_bytes=CAP) == HTML
    assert decode_body(HTML, fields, max_bytes=CAP) == HTML
    both = {**fields, "transfer-encoding": "chunked"}
    assert decode_body(chunked(encode(HTML), 100), both, max_bytes=CAP) == HTML


def test_a_compressed_body_that_ends_early_gives_its_start() -> None:
    body = b"".join(b"<p>%d</p>" % number for number in range(50_000))
    cut = decode_body(gzip.compress(body)[:-2000], {"content-encoding": "gzip"}, max_bytes=CAP)
    assert len(cut) > 200_000
    assert body.startswith(cut)


def test_damaged_compression_and_bombs() -> None:
    with pytest.raises(BadMessageError, match="damaged"):
        decode_body(b"\x1f\x8b\x08\x00" + b"\xff" * 50, {"content-encoding": "gzip"}, max_bytes=CAP)
    with pytest.raises(BodyTooLargeError):
        decode_body(gzip.compress(bytes(50 << 20)), {"content-encoding": "gzip"}, max_bytes=CAP)
    with pytest.raises(BodyTooLargeError):
        decode_body(bytes(CAP + 1), {}, max_bytes=CAP)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", "zstd", "x, gzip, br", ""]))
def test_no_bytes_raise_anything_else(body: bytes, encoding: str) -> None:
    for prefix in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c"):
        try:
            response = parse_response(b"HTTP/1.1 200\r\n" + prefix + body)
            decode_body(prefix + body, {"content-encoding": encoding, **response.fields}, max_bytes=CAP)
        except (BadMessageError, BodyTooLargeError):
            pass


@pytest.mark.parametrize(
    "coding", ["utf-8", "UTF-8", "aws-chunked", "binary", "none", "identity", "", ",", "x, y", "gzip;q=1", "br"]
)
def test_words_that_are_no_coding_are_no_reason(coding: str) -> None:
    for body in (HTML, b"plain text, no tag", b"\xef\xbb\xbf" + HTML):
        assert decode_body(body, {"content-encoding": coding}, max_bytes=CAP) == body


@pytest.mark.parametrize("coding", ["utf-8, gzip", "gzip, aws-chunked", "x-gzip", "none", "", "GZIP, identity"])
def test_what_is_compressed_is_unpacked_whatever_is_said(coding: str) -> None:
    assert decode_body(gzip.compress(HTML), {"content-encoding": coding}, max_bytes=CAP) == HTML
    assert decode_body(gzip.compress(HTML), {"transfer-encoding": "gzip"}, max_bytes=CAP) == HTML
    two = gzip.compress(HTML[:50]) + gzip.compress(HTML[50:])
    assert decode_body(two, {"content-encoding": coding}, max_bytes=CAP) == HTML


def test_a_bomb_that_nobody_declared_ends_at_the_limit() -> None:
    with pytest.raises(BodyTooLargeError):
        decode_body(gzip.compress(bytes(5 << 20)), {}, max_bytes=CAP)


def test_blanks_around_a_charset_cost_one_pass() -> None:
    assert charset_of("charset=" + " " * 60_000 + ";") is None
    assert charset_of("text/html; charset = ' latin1 '") == "latin1"
