"""Lines of a file of an object store, which cannot be appended to: they are sent in pieces that readers join.

Beside `metrics.jsonl` there is then a folder `metrics.jsonl.parts` of pieces, each named by the byte of the whole at
which it begins. Each line is sent once in a piece, and once more when the file is closed: then the whole is written,
and the pieces are removed. A piece that begins before the end of what was read so far is in it already, so a process
that is killed between the two loses nothing and doubles nothing.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.storage.leases import Hold
from openwit.schemas.common.storage.store_path import is_store

_SUFFIX = ".parts"
_DIGITS = 15


class StoredLines:
    """Lines of a file in a store; a thread sends them, at most every `SECONDS`, and when the file is closed.

    Args:
        path: of the file; what it holds is kept.
        held: the lock of its folder; nothing is written once that is lost.
    """

    SECONDS = 30.0

    def __init__(self, path: Path, held: Hold | None = None) -> None:
        self._path, self._held = path, held or Hold()
        self._text = joined(path)
        self._whole = bool(self._text) and not _pieces(path)
        self._new: list[str] = []
        self._parts = [self._text]
        self._end = len(self._text.encode())
        self._sent = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._sending: Future[None] | None = None

    def write(self, line: str) -> None:
        """Append a line.

        Raises:
            StorageError, NetworkError: earlier lines could not be written.
        """
        self._new.append(line)
        if time.monotonic() - self._sent >= self.SECONDS and (self._sending is None or self._sending.done()):
            self._send()

    def flush(self) -> None:
        """Begin to send what there is, after what is being sent.

        Raises:
            StorageError, NetworkError: earlier lines could not be written.
        """
        self._send()

    def close(self) -> None:
        """Write the whole, and remove its pieces.

        Raises:
            StorageError, NetworkError: it cannot be written.
        """
        try:
            if self._sending is not None:
                self._sending.result()
            self._held.check(ask=True)
            if self._new or not self._whole:
                rewrite(self._path, "".join([*self._parts, *self._new]))
        finally:
            self._pool.shutdown()

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.result()
        self._held.check()
        self._sent = time.monotonic()
        if not self._new:
            return
        text, self._new = "".join(self._new), []
        self._sending = self._pool.submit(atomic_write, _folder(self._path) / f"{self._end:0{_DIGITS}d}.jsonl", text)
        self._parts.append(text)
        self._end += len(text.encode())
        self._whole = False


def joined(path: Path) -> str:
    """Return the text of a file and its pieces; empty if there is none."""
    whole = path.read_bytes() if path.exists() else b""
    parts = [whole]
    end = len(whole)
    for start, piece in _pieces(path):
        if start >= end:
            parts.append(piece.read_bytes())
            end = start + len(parts[-1])
    return b"".join(parts).decode(errors="replace")


def rewrite(path: Path, text: str) -> None:
    """Write a file anew as a whole, and remove its pieces, the last first."""
    atomic_write(path, text)
    for _, piece in reversed(_pieces(path)):
        piece.unlink(missing_ok=True)


def _pieces(path: Path) -> list[tuple[int, Path]]:
    folder = _folder(path)
    if not is_store(path) or not folder.exists():
        return []
    return sorted((int(piece.stem), piece) for piece in folder.glob(f"{'[0-9]' * _DIGITS}.jsonl"))


def _folder(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)
