"""Divide pairs among fetch tasks by the host of their URL, and those of a task by their URL."""

import xxhash

from openwit.pipeline.common.urls import host_of

HOST_BUCKETS = 4096
_STORED_ROWS = 1024
"""Neighbours of a table whose image bytes are read by one task: whoever reads one of them has most of the others."""


def host_bucket(url: str, has_bytes: bool, archive: str, record_offset: int) -> int:
    """Return the bucket of a pair: all URLs of a host are in one, for politeness.

    Image bytes in a table need no politeness; they are spread by stretches of rows.

    Args:
        url, has_bytes, archive, record_offset: columns of `CANDIDATES`.
    """
    key = stored_rows(archive, record_offset) if has_bytes else host_of(url)
    return xxhash.xxh3_64_intdigest(key.encode()) % HOST_BUCKETS


def place(url: str, has_bytes: bool, archive: str, record_offset: int) -> int:
    """Return a hash by which the pairs of a bucket are divided: equal for those that are fetched together."""
    return xxhash.xxh3_64_intdigest((stored_rows(archive, record_offset) if has_bytes else url).encode())


def stored_rows(archive: str, record_offset: int) -> str:
    """Return the name of a stretch of rows of a table that holds image bytes."""
    return f"{archive}\0{record_offset // _STORED_ROWS}"
