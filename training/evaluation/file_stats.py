"""Tell whether files of a set have changed since they were read, by size and date."""

import hashlib
import json
from pathlib import Path


def files_below(path: Path) -> list[Path]:
    """Return the file, or the files below a folder, without hidden ones, sorted."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
    return [path]


def stats_digest(path: Path, *, but: Path) -> str:
    """Return a checksum of names, sizes and dates of the files that a path or a pattern names.

    Args:
        path: a file, a folder or a pattern.
        but: folder whose files do not count, such as the one that is being written.
    """
    own = but.resolve()
    paths = [path] if path.exists() else sorted(path.parent.glob(path.name))
    found = [
        (each, below, below.stat())
        for each in paths
        for below in files_below(each)
        if own not in below.resolve().parents
    ]
    listed = [[below.relative_to(each.parent).as_posix(), s.st_size, s.st_mtime_ns] for each, below, s in found]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
