"""From the globs of a recipe to input files."""

import glob
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import UserError


def expand_inputs(patterns: Sequence[str], key: str) -> list[str]:
    """Files that the patterns name, sorted, each once; URLs pass through.

    Args:
        patterns: paths or globs, relative to the current folder, or fsspec URLs (`s3://…`).
        key: the recipe's key, for the message.

    Raises:
        UserError: a pattern names no file.
    """
    found: set[str] = set()
    for pattern in patterns:
        if "://" in pattern:
            found.add(pattern)
            continue
        matches = [m for m in glob.glob(pattern, recursive=True) if Path(m).is_file()]
        if not matches:
            what = "matches no file" if any(c in pattern for c in "*?[") else "does not exist"
            raise UserError(f"{key}: {pattern} {what} (looked from {Path.cwd().name}/, the current folder)")
        found.update(matches)
    return sorted(found)
