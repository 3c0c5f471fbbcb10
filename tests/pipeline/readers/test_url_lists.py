"""Tests for reading lists of URLs."""

import io

from openwit.pipeline.common.counting import ignore
from openwit.pipeline.readers.url_lists import listed_urls


def test_a_part_is_read_from_the_file_that_is_open() -> None:
    file = io.BytesIO(b"https://a.org/1\nhttps://a.org/2\nhttps://a.org/3\n")
    found = list(listed_urls(file, "not-opened.txt", ignore, (1, 33)))
    assert found == [(16, "https://a.org/2"), (32, "https://a.org/3")]
