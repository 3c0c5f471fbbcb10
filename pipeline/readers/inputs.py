"""Expand a recipe's inputs to files: paths, globs, URLs, and lists of paths as Common Crawl publishes them."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

from openwit.pipeline.readers.samples.datasets import dataset_shards, has_manifest
from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import matching_paths, refuse_special, shown_name, special_kind
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
    is_image: Callable[[str], bool] | None = None,
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
        is_image: whether a file is an image, by its name: of images in a folder, their folders are returned, with a
            slash at the end, and of a finished dataset its tars. None treats images as other files.

    Raises:
        DataError: a pattern matches no file, or a named pipe or the like; or a list cannot be read or is empty.
    """
    found: set[str] = set()
    for pattern in patterns:
        for name in _matches(pattern, key, wanted, is_image):
            found.update(_listed(name, key, list_base) if _LIST_NAME.search(name) else [name])
    return sorted(found)


def _matches(
    pattern: str, key: str, wanted: Callable[[str], bool] | None, is_image: Callable[[str], bool] | None
) -> list[str]:
    is_glob = any(character in pattern for character in "*?[")
    if is_remote(pattern):
        # A question mark in an HTTP URL begins its query.
        if not is_glob or (pattern.startswith("http") and "*" not in pattern):
            is_file = is_image is None or wanted is None or wanted(pattern) or bool(_LIST_NAME.search(pattern))
            return [pattern] if is_file else dataset_shards(pattern) or [pattern]
        matches = remote_glob(pattern)
    elif Path(pattern).is_dir():
        shards = dataset_shards(pattern) if is_image is not None and has_manifest(pattern) else None
        return shards or _files_below(Path(pattern), key, wanted, is_image)
    else:
        matches = [
            match for match in matching_paths(pattern, key) if Path(match).exists() and not Path(match).is_dir()
        ]
    if not matches:
        what = "matches no file" if is_glob else "does not exist"
        where = "" if is_remote(pattern) else f" (relative to {Path.cwd().name}/, the current folder)"
        raise DataError(f"{key}: {pattern} {what}{where}")
    return matches


def _files_below(
    folder: Path, key: str, wanted: Callable[[str], bool] | None, is_image: Callable[[str], bool] | None
) -> list[str]:
    """Return the files below a folder that can be read, and the folders of images; what is left out is said."""
    taken: list[str] = []
    others: list[str] = []
    pictured: set[str] = set()
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above, or to one that was seen
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        shown = [name for name in files if not name.startswith((".", "_"))]
        if is_image is not None and any(is_image(name) for name in shown):
            pictured.add(parent)
        for name in shown:
            path = str(Path(parent) / name)
            if parent in pictured and ((is_image is not None and is_image(name)) or name.endswith((".txt", ".json"))):
                continue
            is_taken = (wanted is None or wanted(path)) and special_kind(path) is None
            (taken if is_taken else others).append(path)
    beside = _facts_of_shards(taken, pictured)
    if is_image is not None and beside:
        taken = [path for path in taken if path not in beside]
        others += beside
    taken += [f"{parent.rstrip('/')}/" for parent in pictured]
    if not taken:
        held = (
            f"holds {counted(len(others), 'file')} of other kinds only, such as {shown_name(min(others))}"
            if others
            else "is empty"
        )
        raise DataError(f"{key}: folder {folder} {held}")
    if others:
        example = shown_name(min(others))
        _log.warning("%s: %s of other kinds in %s not read, such as %s", key, len(others), folder, example)
    return taken


def _facts_of_shards(taken: Sequence[str], pictured: Set[str]) -> set[str]:
    """Return the files that only describe others, as img2dataset writes them: X.parquet, X_stats.json of X.tar, X/."""
    images = {path.removesuffix(".tar") for path in taken if path.endswith(".tar")} | {p.rstrip("/") for p in pictured}
    tables = {path.removesuffix(".parquet") for path in taken if path.endswith(".parquet")}
    described = {f"{stem}.parquet" for stem in images} | {f"{stem}_stats.json" for stem in images | tables}
    return described & set(taken)


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
