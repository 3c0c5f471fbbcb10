"""Claim a URL for a dataset that is being built, clear what was there before, and finish it with the manifest."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from openwit.pipeline.dataset.store import RemoteFolder
from openwit.schemas.common.errors import DataError, StorageError
from openwit.schemas.manifest import MANIFEST_NAME

BUILDING = ".building"
"""Marks a dataset that is being built; holds the sha256 of the build's claim."""

_OURS = re.compile(
    rf"{re.escape(BUILDING)}|manifest\.json|card\.(?:html|json|sha256)|(?:queries|duplicates)\.parquet"
    r"|[a-z0-9_-]{1,40}/\d{5,}(?:\.tar|\.parquet|\.idx\.arrow|_stats\.json)"
    r"|[a-z0-9_-]{1,40}/\d{5,}/[^/]+\.(?:[a-z0-9]{2,5})"
)


def claim_target(store: RemoteFolder, claim: bytes, *, may_replace: bool) -> None:
    """Claim an empty store for this build, or resume in one that it claimed before.

    Writes to the store immediately, before hours of work rely on it.

    Args:
        claim: identifies this build.
        may_replace: files of another dataset may be deleted.

    Raises:
        NetworkError: the store cannot be reached.
        StorageError: it cannot be written, or holds something else.
    """
    there = store.sizes()
    held = None
    if BUILDING in there:
        with contextlib.suppress(FileNotFoundError):
            held = store.read(BUILDING)
    if held == claim:
        return
    if there:
        _clear(store, list(there), may_replace)
    store.write(BUILDING, claim)


def _clear(store: RemoteFolder, names: Sequence[str], may_replace: bool) -> None:
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise StorageError(f"{store} holds {foreign[0]}, which is not part of a dataset: choose another URL")
    if not may_replace:
        raise StorageError(
            f"{store} is not empty and was not made by this build: choose another URL, or set `replace` to "
            "overwrite it"
        )
    # The manifest first: without it, readers do not treat the rest as a dataset.
    for name in sorted(names, key=lambda name: name != MANIFEST_NAME):
        store.delete(name)


def close_target(store: RemoteFolder, work: Path, *, tables: Sequence[str]) -> None:
    """Upload the tables and finally the manifest; remove the claim."""
    for name in (*tables, MANIFEST_NAME):
        store.write(name, (work / name).read_bytes())
    store.delete(BUILDING)


def finished_target(store: RemoteFolder, work: Path) -> None:
    """Check that a dataset which the work folder records as finished still exists.

    Raises:
        DataError: it does not.
    """
    if store.size(MANIFEST_NAME) is None:
        raise DataError(f"{work} records that {store} is finished, but it is gone: set `replace` to build it again")
