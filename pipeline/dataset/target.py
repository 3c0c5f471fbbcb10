"""A dataset behind a URL while it is built: who builds it, what was there before, and the manifest that ends it."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from openwit.pipeline.dataset.store import RemoteFolder
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import MANIFEST_NAME

BUILDING = ".building"
"""Stands in a dataset that is being built; holds the sha256 of its builder's claim."""

_OURS = re.compile(
    rf"{re.escape(BUILDING)}|manifest\.json|card\.(?:html|json)|(?:queries|duplicates)\.parquet"
    r"|[a-z0-9_-]{1,40}/\d{5,}(?:\.tar|\.parquet|\.idx\.arrow|_stats\.json)"
)


def claim_target(store: RemoteFolder, claim: bytes, may_replace: bool) -> None:
    """Makes an empty place ours, or goes on in one that is; writes to it before hours of work rely on that.

    Args:
        claim: what tells this build from others.
        may_replace: files of another dataset may go.

    Raises:
        OpenWITError: it cannot be reached or written, or holds something else.
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
        raise OpenWITError(f"{store} holds {foreign[0]}, which is of no dataset: choose another URL")
    if not may_replace:
        raise OpenWITError(
            f"{store} is not empty and was not made by this build: choose another URL, or --replace to overwrite it"
        )
    # The manifest first: without it nobody takes the rest for a dataset.
    for name in sorted(names, key=lambda name: name != MANIFEST_NAME):
        store.delete(name)


def close_target(store: RemoteFolder, work: Path, tables: Sequence[str]) -> None:
    """Brings the tables and at last the manifest."""
    for name in (*tables, MANIFEST_NAME):
        store.write(name, (work / name).read_bytes())
    store.delete(BUILDING)


def finished_target(store: RemoteFolder, work: Path) -> None:
    """Checks that a dataset which the work folder knows as finished is still there.

    Raises:
        OpenWITError: it is not.
    """
    if store.size(MANIFEST_NAME) is None:
        raise OpenWITError(f"{work} says that {store} is finished, but it is gone: add --replace to build it anew")
