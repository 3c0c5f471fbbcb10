"""Write folders that are complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.atomic import TEMPORARY_PREFIX
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage_faults import storage_faults


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; rename it to `target` if the block ends without an error.

    Every file is flushed to disk before the rename. On an error the temporary folder is removed.

    Raises:
        RecipeError: `target` exists and is not an empty folder.
        StorageError: it cannot be written.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise RecipeError(f"{target} exists already: name another folder, or remove it")
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with storage_faults(target):
            temporary.mkdir(parents=True)
            yield temporary
            for path in sorted(temporary.rglob("*")):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
