"""Divide pairs among fetch tasks by the host of their URL, and those of a task by their URL."""

import xxhash

from openwit.pipeline.common.urls import host_of

HOST_BUCKETS = 4096
_STORED_ROWS = 1024
"""Neighbours of a table whose image bytes are read by one task: whoever reads one of them has most of the others."""
_STORED_BYTES = 32 << 20
"""Bytes of a tar whose images are read by one task."""
_NAME_BITS = 20
"""Of the place of an image in a folder, which tell its name: see `readers.samples.folders`."""


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
    """Return the name of a stretch of a table, tar or folder that holds image bytes."""
    if archive.endswith("/"):
        return f"{archive}\0{(record_offset >> _NAME_BITS) // _STORED_ROWS}"
    is_tar = archive.partition("?")[0].lower().endswith(".tar")
    return f"{archive}\0{record_offset // (_STORED_BYTES if is_tar else _STORED_ROWS)}"
