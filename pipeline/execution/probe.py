"""Find out whether workers see the folder of a job, before they write files that nobody finds."""

import socket
import uuid
from pathlib import Path
from typing import NamedTuple

from openwit.pipeline.execution.files import PROBE
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.storage.store_path import is_store


class Probe(NamedTuple):
    """A file that the driver wrote, and what is in it."""

    path: Path
    content: str


def write_probe(folder: Path) -> Probe:
    """Write the probe of a job to the folder of its stage."""
    probe = Probe(folder / PROBE, uuid.uuid4().hex)
    atomic_write(*probe)
    return probe


def check_probe(probe: Probe | None) -> None:
    """Compare the probe in a worker; nothing is compared without one.

    Raises:
        StorageError: this machine does not see the folder, or another of the same name.
    """
    if probe is None:
        return
    try:
        found = probe.path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        found = ""
    if found != probe.content:
        raise unseen(probe.path.parent.parent)


def unseen(folder: Path) -> StorageError:
    """Return the error of a worker that does not see the folder of a job."""
    remedy = (
        "give the workers the same store and credentials"
        if is_store(folder)
        else "give a URL (s3://…, gs://…), or a folder that all machines share"
    )
    return StorageError(f"the worker on {socket.gethostname()} does not see {folder}: {remedy}")
