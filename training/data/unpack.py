"""Unpack compressed tars (gzip, bzip2, xz, Zstandard), which give no random access, to a folder of their own.

A format is told by the first bytes, never by the name. What a cut or damaged file gives before the damage is used.
"""

import bz2
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.locks import lock_file
from openwit.training.data.tar_members import DAMAGED, Note, ignore

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")
MAGIC_BYTES = 6

_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_AT_ONCE = 1 << 14
_PLAIN_AT_ONCE = 1 << 20


def compression_of(head: bytes) -> str | None:
    """Return the compression that a file's first bytes show; None for a plain file."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


def plain_chunks(stream: IO[bytes], compression: str, note: Note = ignore) -> Iterator[bytes]:
    """Yield the bytes that a compressed stream holds, of all its concatenated parts, up to the first damage.

    Args:
        stream: the compressed bytes.
        compression: of `compression_of`.
        note: receives `DAMAGED` if the stream is cut or damaged.
    """
    try:
        if compression == "zstd":
            with pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd") as plain:
                while chunk := plain.read(1 << 16):
                    yield chunk
            return
        yield from _decompressed(stream, compression, note)
    except (OSError, zlib.error, lzma.LZMAError, EOFError, pa.ArrowException) as error:
        note(DAMAGED, f"{compression}: {error}")


def _decompressed(stream: IO[bytes], compression: str, note: Note) -> Iterator[bytes]:
    make: Callable[[], Any] = {
        "gzip": lambda: zlib.decompressobj(31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lzma.LZMADecompressor,
    }[compression]
    decompressor = make()
    is_begun = False
    while data := stream.read(_PACKED_AT_ONCE):
        while data:
            if not is_begun and not compression_of(data) and not data.strip(b"\0"):
                return  # padding after the last part
            is_begun = True
            yield decompressor.decompress(data, _PLAIN_AT_ONCE)
            data = getattr(decompressor, "unconsumed_tail", b"")
            while not decompressor.eof and not getattr(decompressor, "needs_input", True):
                yield decompressor.decompress(b"", _PLAIN_AT_ONCE)
            if decompressor.eof:
                data = decompressor.unused_data
                decompressor, is_begun = make(), False
    if is_begun:
        note(DAMAGED, f"the {compression} stream ends too early")


class Plain:
    """A compressed stream as a plain one, for reading forward.

    Args:
        chunks: of `plain_chunks`.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._held = memoryview(chunk)
        size = len(self._held) if size < 0 else size
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)


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
