"""A glance at the quotes of many lines finds the records that looking at each line finds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.readers.tables import open_quotes
from openwit.pipeline.readers.tables.open_quotes import RecordSplitter

PIECES = ['"', '""', ",", "\n", "\r\n", "\r", "a", "http://b", '"a","b"\n', 'c,"d\ne"\n', '"f\ng","h\ni"\n', "j,k\n"]


@pytest.mark.parametrize("fast_bytes", [0, 10, 1 << 14])
def test_at_a_glance_or_line_by_line(fast_bytes, monkeypatch):
    monkeypatch.setattr(open_quotes, "_FAST_BYTES", fast_bytes)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.sampled_from(PIECES), max_size=30))
    def check(pieces):
        text = ("u,t\n" + "".join(pieces) + "\n").encode()
        slow, fast = [], []
        lines = RecordSplitter(",", slow.append)
        blocks = RecordSplitter(",", fast.append)
        assert b"".join(blocks.feed_lines(text)) == b"".join(lines.feed(text.splitlines(keepends=True)))
        assert (blocks.pending, blocks.lines, fast) == (lines.pending, lines.lines, slow)

    check()


def test_quotes_in_order_are_not_looked_at_line_by_line(monkeypatch):
    seen = []
    state = open_quotes._state
    monkeypatch.setattr(open_quotes, "_state", lambda line, *a, **k: seen.append(line) or state(line, *a, **k))
    splitter = RecordSplitter(",", lambda _: None)
    text = b"u,t\n" + b'"http://a.org/1","he said ""a, b""\nand c"\r\n' * 5_000
    assert len(b"".join(splitter.feed_lines(text))) == len(text)
    assert splitter.lines == 10_001
    assert len(seen) < 1_000
