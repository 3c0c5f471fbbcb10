"""Unpack compressed tars (gzip, bzip2, xz, Zstandard), which give no random access, to a folder of their own.

A format is known by the first bytes, never by the name. What a cut or damaged file gives before the damage is used.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.decompress import MAGIC_BYTES, compression_of, plain_chunks
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.common.tar_members import DAMAGED, Note


def default_folder() -> Path:
    """Return where tars are unpacked if the settings name no folder: below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openwit" / "tars"


def unpack_tars(
    paths: Sequence[Path], folder: Path | None, *, max_bytes: int, note: Note, report: Callable[[str], None]
) -> list[Path]:
    """Return the paths with an unpacked copy in place of each compressed tar; earlier copies are used again.

    Args:
        paths: tars, compressed or not.
        folder: for the copies; None for the default one. Several processes may share it: one of them unpacks.
        max_bytes: upper limit of what the copies hold together.
        note: receives `DAMAGED` for a tar that is cut or damaged.
        report: receives a sentence on what is unpacked.

    Raises:
        RecipeError: the copies would be larger than the limit.
    """
    found: list[Path] = []
    total, packed = 0, [path for path in paths if _compression(path)]
    where = folder or default_folder()
    if packed:
        kinds = ", ".join(sorted({_compression(path) or "" for path in packed}))
        report(
            f"{len(packed)} of {len(paths)} tars are compressed ({kinds}), without random access: unpacked to {where}"
        )
    for path in paths:
        compression = _compression(path)
        if compression is None:
            found.append(path)
            continue
        copy = _unpack(path, compression, where, max_bytes - total, note)
        total += copy.stat().st_size
        found.append(copy)
    return found


def _compression(path: Path) -> str | None:
    with path.open("rb") as file:
        return compression_of(file.read(MAGIC_BYTES))


def _unpack(path: Path, compression: str, folder: Path, room: int, note: Note) -> Path:
    state = path.stat()
    identity = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()
    target = folder / f"{hashlib.sha256(identity).hexdigest()[:24]}.tar"
    damage = target.with_suffix(".damage")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        lock_file(lock, wait=True)
        if target.is_file():
            if damage.is_file():
                note(DAMAGED, damage.read_text())
            return target
        noted: list[str] = []
        written = 0
        with atomic_path(target) as temporary, path.open("rb") as source, temporary.open("wb") as out:
            for chunk in plain_chunks(source, compression, lambda _, about: noted.append(about)):
                written += len(chunk)
                if written > room:
                    raise RecipeError(
                        f"{path} unpacks to more than data.cache_bytes leaves ({room:,} bytes): raise it, or unpack "
                        "the tars yourself"
                    )
                out.write(chunk)
            if noted:
                damage.write_text(noted[0])
        for about in noted:
            note(DAMAGED, about)
    return target
