"""Detect the format of a table from its file name, and open it, local or remote."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.readers.tables.line_stream import LineStream
from openwit.schemas.common.decompress import AFTER_END, MAGIC_BYTES, Plain, compression_of, plain_chunks
from openwit.schemas.common.errors import DataError, NetworkError, RecipeError, one_line

BROKEN_LINE = Reason("broken_line", "a line of a table that could not be read")
DAMAGED_ROWS = Reason("damaged_rows", "rows of a table that could not be read")
ROW_REASONS = (BROKEN_LINE, DAMAGED_ROWS)
"""Why a row of a table could not be read: a line that cannot be parsed, or a damaged stretch of the file.

The number of rows in a stretch of text is unknown: it is counted with n = 0 and a detail.
"""

GUESSED = "read_under_a_guess"
REPAIRED = "repaired"
ROW_NOTES = (GUESSED, REPAIRED)
"""Notes beside the reasons, which drop nothing: a charset, delimiter or quoting that nothing declares; and lines of
JSON that were repaired. They are counted with n = 0 and a detail."""

BATCH_ROWS = 16_384
LONGEST_MESSAGE = 300
"""Characters kept of the message of a library, which may quote a whole row."""

TEXT_LISTS = pa.list_(pa.string())

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl",
}  # fmt: skip
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_OF_ARROW = ("lz4", "brotli")
_TEXT_SUFFIXES = (".txt", ".text", ".lst", ".list")
_READ_BYTES = 1 << 16
_REST = "the rest of the file cannot be read: "


def is_table_name(name: str) -> bool:
    """Return whether a file's extension is that of a table."""
    try:
        format_of(name)
    except DataError:
        return False
    return True


def is_text_name(name: str) -> bool:
    """Return whether a file is plain text by its name, compressed or not."""
    path = PurePosixPath(name.partition("?")[0].lower())
    if path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix in _TEXT_SUFFIXES


def format_of(name: str) -> tuple[str, str | None]:
    """Return (parquet | csv | tsv | jsonl, Arrow's name of the compression or None) for a file name.

    Raises:
        DataError: the extension is not that of a table.
    """
    path = PurePosixPath(name.partition("?")[0].lower())
    compression = _COMPRESSIONS.get(path.suffix)
    kind = _FORMATS.get(path.with_suffix("").suffix if compression else path.suffix)
    if kind is None:
        raise DataError(
            f"{name} is not a table by its name: use .parquet, .csv, .tsv or .jsonl (.gz, .zst, .bz2 and .xz too)"
        )
    return kind, compression if kind != "parquet" else None


def head_of(name: str, compression: str | None, size: int) -> bytes:
    """Return the first bytes of a text table, decompressed.

    Raises:
        DataError: it cannot be read.
    """
    damage: list[str] = []

    def note(reason: str, n: int = 1, detail: str = "") -> None:  # noqa: ARG001
        damage.append(detail)

    with opened_text(name, compression, note) as file:
        head = b""
        try:
            while len(head) < size and (chunk := file.read(size - len(head))):
                head += chunk
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} cannot be read: {one_line(error, LONGEST_MESSAGE)}") from error
    if not head and damage:
        raise DataError(f"{name}: nothing of it can be read: {damage[0].removeprefix(_REST)}")
    return head


@contextlib.contextmanager
def opened(name: str) -> Iterator[Any]:
    """Open a file for Arrow.

    Raises:
        DataError: it does not exist or cannot be opened.
        NetworkError: the URL cannot be opened.
        RecipeError: the package for the URL is not installed.
    """
    with _raw(name) as file:
        yield pa.PythonFile(file, mode="r") if "://" in name else file


@contextlib.contextmanager
def opened_text(name: str, compression: str | None, count: Count = ignore) -> Iterator[Any]:
    """Open a text table, decompressed as its first bytes show; its name decides only where those show nothing.

    Compressed text that is cut or damaged ends after its last whole line, and the damage is counted.

    Raises:
        DataError, NetworkError, RecipeError: see `opened`.
    """
    with _raw(name) as file:
        found = compression_of(file.read(MAGIC_BYTES))
        file.seek(0)
        damage: list[str] = []
        if found is not None:
            stream: Any = Plain(plain_chunks(file, found, lambda _, about: damage.append(about)))
        elif compression in _OF_ARROW:
            stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)
        else:
            yield file
            return
        yield io.BufferedReader(_WholeLines(stream, damage, count), _READ_BYTES)


@contextlib.contextmanager
def _raw(name: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        try:
            if "://" in name:
                file = stack.enter_context(fsspec.open(name, "rb"))
            else:
                file = pa.OSFile(name, "rb")
                stack.callback(file.close)
        except FileNotFoundError:
            raise DataError(f"{name} does not exist") from None
        except ImportError as error:
            raise RecipeError(f"{name} needs a package that is not installed: {error}") from error
        except (OSError, ValueError) as error:
            kind = NetworkError if "://" in name else DataError
            raise kind(f"{name} cannot be opened: {one_line(error, LONGEST_MESSAGE)}") from error
        yield file


class _WholeLines(LineStream):
    """Read text from a compressed stream up to the first damage, in whole lines, so that no cell is cut off.

    Args:
        stream: the decompressed bytes.
        damage: what the stream found damaged; it ends there.
        count: receives the damage.
    """

    def __init__(self, stream: Any, damage: list[str], count: Count) -> None:
        super().__init__()
        self._stream = stream
        self._damage = damage
        self._count = count

    def _chunk(self) -> bytes:
        try:
            data: bytes = self._stream.read(_READ_BYTES)
        except (pa.ArrowException, OSError) as error:
            self._damage.append(one_line(error, LONGEST_MESSAGE))
            return b""
        return data

    def _last(self, data: bytes) -> bytes:
        if self._damage:
            self._count(DAMAGED_ROWS, 0, f"{_REST}{self._damage[0]}")
        return data if not self._damage or AFTER_END in self._damage[0] else b""
