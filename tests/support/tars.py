"""Write tars of members made by hand."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def tar_of(files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of files, given by name and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar of files; return its path."""
    path.write_bytes(tar_of(files, form))
    return path


def add_without_data(tar: tarfile.TarFile, entries: Iterable[tuple[str, bytes, str]]) -> None:
    """Add members without data, given by name, type and the target of a link."""
    for name, kind, target in entries:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
