"""Ranges of an archive hold its records, each once, whatever the size of a range and wherever the damage is."""

import gzip
import io
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.archive_file import RecordRange
from openwit.pipeline.readers.crawl.archive_parts import (
    NOT_GZIP,
    ONE_MEMBER,
    first_wrong,
    next_record_start,
    why_not_split,
)
from openwit.pipeline.readers.crawl.warc import read_pages


def record(number, size=200, *, length=0):
    chance = random.Random(number)
    body = f"<html>{number} {chance.randbytes(size).hex()}</html>".encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.org/{number}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http) + length}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def member(*records):
    return gzip.compress(b"".join(records), mtime=0)


MAKERS = {
    "plain": lambda n: member(record(n)),
    "large": lambda n: member(record(n, 3000)),
    "cut": lambda n: member(record(n))[:-40],
    "garbled": lambda n: member(record(n))[:150] + b"\x55" * 40 + member(record(n))[190:],
    "bad head": lambda n: b"\x1f\x8b\x08\x00" + member(record(n))[14:],
    "junk": lambda _: b"\0" * 99,
    "too long": lambda n: member(record(n, length=50)),
    "too short": lambda n: member(record(n, length=-20)),
    "other kind": lambda n: member(record(n).replace(b"Type: response", b"Type: request")),
}


def read(data, span=None):
    tally = ReasonCounter(1000)
    pages = [(p.url, p.record_offset, p.body) for p in read_pages(io.BytesIO(data), tally, span=span)]
    return pages, tally


def parts_of(data, part_bytes):
    starts = [*range(0, len(data), part_bytes)] or [0]
    return [RecordRange(start, end) for start, end in pairwise([*starts, None])]


def check(data, part_bytes, *, mixed=False):
    whole, tally = read(data)
    spans = parts_of(data, part_bytes)
    found = [read(data, span) for span in spans]
    while wrong := first_wrong(spans):
        at, start = wrong
        end = spans[at].end
        spans[at] = RecordRange(spans[at].start if start is None else start, end, exact=True)
        found[at] = ([], ReasonCounter()) if start is None else read(data, spans[at])
    assert [page for pages, _ in found for page in pages] == whole
    total = ReasonCounter()
    for _, part in found:
        total.counts.update(part.counts)
    if mixed:  # who reads on after a wrong length looks ahead, and meets the damage behind it twice
        for counts in (total.counts, tally.counts):
            counts["archive_damaged"] = bool(counts["archive_damaged"])
    assert {k: n for k, n in total.counts.items() if n} == {k: n for k, n in tally.counts.items() if n}
    return spans


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(sorted(MAKERS)), min_size=1, max_size=14), st.integers(40, 3000))
def test_every_record_is_in_one_range(kinds, part_bytes):
    data = member(record(500)) + b"".join(MAKERS[kind](n) for n, kind in enumerate(kinds))
    check(data, part_bytes, mixed=len({"cut", "garbled", "bad head", "junk", "too long", "too short"} & {*kinds}) > 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.integers(40, 2000))
def test_members_of_several_records(counts, part_bytes):
    data = b"".join(member(*(record(10 * n + i) for i in range(records))) for n, records in enumerate(counts))
    check(data, part_bytes)


@pytest.mark.parametrize("part_bytes", [1, 7, 100])
def test_ranges_smaller_than_a_record(part_bytes):
    data = b"".join(member(record(n, 20)) for n in range(5))
    spans = check(data, part_bytes)
    assert sum(span.first is not None for span in spans) == 5


def test_a_file_without_a_record_says_so_once():
    check(b"\x1f\x8b\x08" + b"nothing " * 40, 50)


def test_an_archive_within_an_archive_shows_in_where_the_ranges_begin_and_end():
    inner = b"".join(member(record(n)) for n in range(100, 120))
    outer = record(1).replace(b"<html>1", inner + b"<html>1")
    outer = gzip.compress(outer, 0, mtime=0)  # stored as it is
    data = member(record(0)) + outer + member(record(2)) + member(record(3))
    spans = parts_of(data, len(data) // 4)
    for span in spans:
        read(data, span)
    assert first_wrong(spans) == (1, None)
    check(data, len(data) // 4)


def test_what_can_be_split():
    several = b"".join(member(record(n)) for n in range(3))
    assert why_not_split(io.BytesIO(several), 10_000) == ""
    assert why_not_split(io.BytesIO(gzip.compress(record(1) * 3)), 10_000) == ONE_MEMBER
    assert why_not_split(io.BytesIO(record(1)), 10_000) == NOT_GZIP
    assert "zstd" in why_not_split(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(9)), 10_000)
    assert next_record_start(io.BytesIO(several), 0) == 0
    assert next_record_start(io.BytesIO(several), 1) == len(member(record(0)))
    assert next_record_start(io.BytesIO(several), len(several) - 30) is None
