"""Expand a recipe's inputs to files: paths, globs, URLs, and lists of paths as Common Crawl publishes them."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import matching_paths, refuse_special, special_kind
from openwit.schemas.common.packed_lists import read_list
from openwit.schemas.common.storage.remote import is_remote, local_copy, remote_glob
from openwit.schemas.common.text_files import decode_text, said
from openwit.schemas.common.wording import counted

_log = logging.getLogger(__name__)

_LIST_NAME = re.compile(r"\.paths(?:\.txt)?(?:\.gz|\.bz2|\.xz|\.zst)?$", re.IGNORECASE)


def expand_inputs(
    patterns: Sequence[str],
    key: str,
    *,
    list_base: str = COMMON_CRAWL,
    wanted: Callable[[str], bool] | None = None,
) -> list[str]:
    """Return the files that the patterns match, sorted, each once.

    A path that exists is taken as it is, whatever characters it has; only then it is a pattern. Named pipes, sockets
    and devices are refused: inputs are read more than once.

    Args:
        patterns: paths or globs, relative to the current folder; folders, whose files at any depth are taken; URLs for
            fsspec (`s3://…`, globs too where the filesystem can list); path lists (`warc.paths.gz`) with one path per
            line.
        key: the recipe's key, for the message.
        list_base: URL or folder that the relative lines of a path list are appended to.
        wanted: whether a file of a folder is taken, by its name; hidden files never are. None takes all.

    Raises:
        DataError: a pattern matches no file, or a named pipe or the like; or a list cannot be read or is empty.
    """
    found: set[str] = set()
    for pattern in patterns:
        for name in _matches(pattern, key, wanted):
            found.update(_listed(name, key, list_base) if _LIST_NAME.search(name) else [name])
    return sorted(found)


def _matches(pattern: str, key: str, wanted: Callable[[str], bool] | None) -> list[str]:
    is_glob = any(character in pattern for character in "*?[")
    if is_remote(pattern):
        # A question mark in an HTTP URL begins its query.
        if not is_glob or (pattern.startswith("http") and "*" not in pattern):
            return [pattern]
        matches = remote_glob(pattern)
    elif Path(pattern).is_dir():
        return _files_below(Path(pattern), key, wanted)
    else:
        matches = [
            match for match in matching_paths(pattern, key) if Path(match).exists() and not Path(match).is_dir()
        ]
    if not matches:
        what = "matches no file" if is_glob else "does not exist"
        where = "" if is_remote(pattern) else f" (relative to {Path.cwd().name}/, the current folder)"
        raise DataError(f"{key}: {pattern} {what}{where}")
    return matches


def _files_below(folder: Path, key: str, wanted: Callable[[str], bool] | None) -> list[str]:
    """Return the files below a folder that can be read; the others are said."""
    taken: list[str] = []
    others: list[str] = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in files:
            if name.startswith((".", "_")):
                continue
            path = str(Path(parent) / name)
            is_taken = (wanted is None or wanted(path)) and special_kind(path) is None
            (taken if is_taken else others).append(path)
    if not taken:
        held = (
            f"holds {counted(len(others), 'file')} of other kinds only, such as {min(others)}"
            if others
            else "is empty"
        )
        raise DataError(f"{key}: folder {folder} {held}")
    if others:
        _log.warning("%s: %s of other kinds in %s not read, such as %s", key, len(others), folder, min(others))
    return taken


def _listed(name: str, key: str, base: str) -> Iterator[str]:
    with local_copy(name) as path:
        text = said(decode_text(read_list(Path(path), f"{key}: path list {name}")), name)
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines:
        raise DataError(f"{key}: path list {name} is empty")
    for line in lines:
        path = line if is_remote(line) or line.startswith("/") else base.rstrip("/") + "/" + line
        if not is_remote(path):
            refuse_special(path, f"{key}: {path}, of path list {name},")
        yield path
