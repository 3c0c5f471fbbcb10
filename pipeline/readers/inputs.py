"""Expand a recipe's inputs to files: paths, globs, URLs, and lists of paths as Common Crawl publishes them."""

import glob
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from openwit.pipeline.common.remote import is_remote, local_copy, remote_glob
from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.schemas.common.errors import DataError

_LIST_NAME = re.compile(r"\.paths(?:\.txt)?(?:\.gz)?$", re.IGNORECASE)


def expand_inputs(patterns: Sequence[str], key: str, *, list_base: str = COMMON_CRAWL) -> list[str]:
    """Return the files that the patterns match, sorted, each once.

    Args:
        patterns: paths or globs, relative to the current folder; URLs for fsspec (`s3://…`, globs too where the
            filesystem can list); path lists (`warc.paths.gz`) with one path per line.
        key: the recipe's key, for the message.
        list_base: URL or folder that the relative lines of a path list are appended to.

    Raises:
        DataError: a pattern matches no file, or a list cannot be read or is empty.
    """
    found: set[str] = set()
    for pattern in patterns:
        for name in _matches(pattern, key):
            found.update(_listed(name, key, list_base) if _LIST_NAME.search(name) else [name])
    return sorted(found)


def _matches(pattern: str, key: str) -> list[str]:
    is_glob = any(character in pattern for character in "*?[")
    if is_remote(pattern):
        # A question mark in an HTTP URL begins its query.
        if not is_glob or (pattern.startswith("http") and "*" not in pattern):
            return [pattern]
        matches = remote_glob(pattern)
    else:
        matches = [match for match in glob.glob(pattern, recursive=True) if Path(match).is_file()]
    if not matches:
        what = "matches no file" if is_glob else "does not exist"
        where = "" if is_remote(pattern) else f" (relative to {Path.cwd().name}/, the current folder)"
        raise DataError(f"{key}: {pattern} {what}{where}")
    return matches


def _listed(name: str, key: str, base: str) -> Iterator[str]:
    try:
        with local_copy(name) as path:
            data = Path(path).read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: path list {name} cannot be read: {error}") from error
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines:
        raise DataError(f"{key}: path list {name} is empty")
    for line in lines:
        yield line if is_remote(line) or line.startswith("/") else base.rstrip("/") + "/" + line
