"""Compare folders by their bytes."""

import hashlib
from pathlib import Path


def dataset_tree(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a dataset, without the records of the stage that wrote it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".stage" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
