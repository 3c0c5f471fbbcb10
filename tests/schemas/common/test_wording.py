"""Counts agree with their nouns."""

import pytest

from openwit.schemas.common.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "plural", "text"),
    [
        (0, "sample", None, "0 samples"),
        (1, "sample", None, "1 sample"),
        (2102, "sample", None, "2,102 samples"),
        (1, "query", "queries", "1 query"),
        (2, "query", "queries", "2 queries"),
    ],
)
def test_counted(count, noun, plural, text):
    assert counted(count, noun, plural=plural) == text
