"""Download one file: resumed after any interruption, never glued from two versions, whole under its name or absent."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict

import requests

from openwit.pipeline.inputs.client import Client, PassingError, Version, version_of
from openwit.pipeline.inputs.remote_file import RemoteFile
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage_faults import storage_faults

OnBytes = Callable[[int], None]
"""Called with the bytes of the file that are there."""


def download(client: Client, file: RemoteFile, on_bytes: OnBytes) -> tuple[Version, int]:
    """Download a file; return its version and its size.

    Raises:
        MissingError: the server has no such file.
        DataError: its checksum is not the published one.
        NetworkError: the server cannot be reached or refuses, after several attempts.
        StorageError: the disk is full, or the folder cannot be written.
    """
    arrived = 0

    def count(bytes_there: int, new: int) -> None:
        nonlocal arrived
        arrived += new
        on_bytes(bytes_there)

    with storage_faults(file.target):
        file.target.parent.mkdir(parents=True, exist_ok=True)
        version = client.again(lambda: _attempt(client, file, count), file.url, lambda: arrived)
        _verify(file)
        size = file.partial.stat().st_size
        with file.partial.open("rb") as whole:
            os.fsync(whole.fileno())
        os.replace(file.partial, file.target)
        file.note.unlink(missing_ok=True)
    return version, size


def _attempt(client: Client, file: RemoteFile, count: Callable[[int, int], None]) -> Version:
    """Fetch what is missing of the partial file, in one request."""
    held, start = _held(file)
    if held.size is not None and start == held.size:
        return held
    # `If-Range`: a server that has another version by now sends the whole of it.
    headers = {"Range": f"bytes={start}-", "If-Range": held.validator} if start else {}
    with client.open(file.url, headers) as response:
        if response.status_code == 416:
            _discard(file)
            raise PassingError("the file became shorter than the part that had arrived")
        client.check(response)
        found = version_of(response)
        if response.status_code == 206:
            if not start or _first_byte(response) != start or not found.is_of(held):
                _discard(file)
                raise PassingError("the file changed on the server")
        else:
            start = 0
            atomic_write(file.note, json.dumps({"url": file.url, **asdict(found)}))
        count(start, 0)
        with file.partial.open("r+b" if start else "wb", buffering=0) as out:
            out.seek(start)
            for chunk in client.chunks(response):
                view = memoryview(chunk)
                while view:
                    view = view[out.write(view) :]
                start += len(chunk)
                count(start, len(chunk))
    if found.size is not None and start < found.size:
        raise PassingError(f"the connection was cut after {start:,} of {found.size:,} bytes")
    if found.size is not None and start > found.size:
        _discard(file)
        raise PassingError(f"the server sent more than the {found.size:,} bytes that it announced")
    return found


def held_bytes(file: RemoteFile) -> int:
    """Return the bytes of a partial file that a download will go on from."""
    return _held(file)[1]


def _held(file: RemoteFile) -> tuple[Version, int]:
    """Return the version that the partial file is of, and its bytes; 0 where it cannot be gone on from."""
    try:
        note = json.loads(file.note.read_bytes())
        size = file.partial.stat().st_size
        held = Version(note["etag"], note["modified"], note["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return Version(), 0
    if note.get("url") != file.url or not held.validator or (held.size is not None and size > held.size):
        return Version(), 0
    return held, size


def _discard(file: RemoteFile) -> None:
    file.partial.unlink(missing_ok=True)
    file.note.unlink(missing_ok=True)


def _first_byte(response: requests.Response) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return -1 if found is None else int(found[1])


def _verify(file: RemoteFile) -> None:
    """Compare the partial file with the published checksum; one that differs is deleted."""
    if file.checksum is None:
        return
    digest = file.checksum.of(file.partial)
    if digest.lower() != file.checksum.digest.lower():
        _discard(file)
        raise DataError(
            f"{file.url} has the {file.checksum.algorithm} {digest}, but {file.checksum.digest} was published: it was "
            "damaged on its way or has just been replaced; nothing of it was kept"
        )
