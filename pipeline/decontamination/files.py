"""Find and read evaluation images in folders, tars, Parquet files and OpenWIT datasets.

The sources that a user names are first listed as pieces, cheaply and in order, so that the pieces can be read in
parallel. An image that cannot be read is counted; only a wrong source is an error.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.ranges import path_or_ranges
from openwit.pipeline.readers.tables.columns import is_binary, is_list
from openwit.schemas.common.decompress import MAGIC_BYTES, TAR_ENDINGS, Plain, compression_of, plain_chunks
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import matching_paths, special_kind
from openwit.schemas.common.storage.remote import is_remote, local_copy, remote_glob
from openwit.schemas.common.tar_members import Forward, Member, is_metadata, members
from openwit.schemas.images.sniff import sniff_format
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest

OTHER_FILE = "other_file"
DAMAGED_FILE = "damaged_file"
TOO_LARGE = "too_large"

MAX_IMAGE_BYTES = 128 << 20
"""Larger files and members are not read."""

_FILES_A_PIECE = 500
_ROWS_A_PIECE = 2_000
_BATCH_ROWS = 32
_PROBED_ROWS = 32
_HEAD_BYTES = 512
_IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".jp2")
)
_PARQUET_SUFFIXES = (".parquet", ".pq")
_IMAGE_COLUMNS = frozenset(("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "image.bytes", "img_bytes"))


@dataclass(frozen=True)
class EvaluationPiece:
    """Some of the evaluation images, read by one task.

    Attributes:
        source: as the user named it.
        paths: files in it; one for a tar or a Parquet file.
        kind: files | tar | parquet.
        groups: for a Parquet file, the first row group and the one after the last.
    """

    source: str
    paths: tuple[str, ...]
    kind: str
    groups: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class EvaluationImage:
    """Bytes that should be an image, and where they were found.

    Attributes:
        file: as the user named it, with the path below a folder.
        member: its name in a tar, its row (and column, if there are several) in a Parquet file; empty for a file.
        body: the bytes.
    """

    file: str
    member: str
    body: bytes


def list_pieces(sources: Sequence[str]) -> list[EvaluationPiece]:
    """List the pieces of the sources, in order, each file once.

    Args:
        sources: folders (read recursively), tars (compressed or not), Parquet files, image files, OpenWIT dataset
            folders, patterns (`*`) of these, and URLs of files that fsspec knows.

    Raises:
        DataError: a source does not exist, holds no file, or has a format that cannot be read.
    """
    pieces: dict[EvaluationPiece, None] = {}
    for source in sources:
        for name in _expand(source):
            pieces.update(dict.fromkeys(_pieces_of(name)))
    return list(pieces)


def read_piece(piece: EvaluationPiece, count: Count) -> Iterator[EvaluationImage]:
    """Yield the images of a piece in order, one at a time.

    Args:
        piece: from `list_pieces`.
        count: receives `OTHER_FILE` (not an image by its name and first bytes), `TOO_LARGE`, and `DAMAGED_FILE` (the
            rest of a tar or Parquet file cannot be read; the number of images in it is unknown).
    """
    if piece.kind == "files":
        yield from _read_files(piece, count)
        return
    if piece.kind == "parquet":
        with path_or_ranges(piece.paths[0]) as source:
            yield from _read_parquet(piece, source, count)
        return
    with local_copy(piece.paths[0]) as path:
        yield from _read_tar(piece, path, count)


def _expand(source: str) -> list[str]:
    if is_remote(source):
        matches = remote_glob(source) if "*" in source else [source]
    else:
        matches = matching_paths(source, "evaluation images")
    if not matches:
        raise DataError(f"evaluation images: {source} {'matches no file' if '*' in source else 'does not exist'}")
    return matches


def _pieces_of(name: str) -> Iterator[EvaluationPiece]:
    if not is_remote(name) and os.path.isdir(name):
        folder = Path(name)
        files = _dataset_tars(folder) if (folder / MANIFEST_NAME).exists() else _files_below(folder)
        if not files:
            raise DataError(f"evaluation images: the folder {name} holds no file")
        images = [path for path in files if _kind(path) == "files"]
        for start in range(0, len(images), _FILES_A_PIECE):
            yield EvaluationPiece(name, tuple(images[start : start + _FILES_A_PIECE]), "files")
        for path in files:
            if _kind(path) != "files":
                yield from _of_archive(name, path, below_folder=True)
    elif _kind(name) == "files":
        yield EvaluationPiece(name, (name,), "files")
    else:
        yield from _of_archive(name, name, below_folder=False)


def _of_archive(source: str, path: str, below_folder: bool) -> Iterator[EvaluationPiece]:
    if _kind(path) == "tar":
        yield EvaluationPiece(source, (path,), "tar")
        return
    with path_or_ranges(path) as found:
        try:
            file = _open_parquet(found)
            columns = _image_columns(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"evaluation images: {path} is not a readable Parquet file: {error}") from error
        if not columns:
            if below_folder:
                # A folder of images often has tables of labels too: counted as another file.
                yield EvaluationPiece(source, (path,), "files")
                return
            names = ", ".join(file.schema_arrow.names[:30])
            raise DataError(f"evaluation images: {path} has no column with images; it has: {names}")
        start = rows = 0
        for group in range(file.num_row_groups):
            rows += file.metadata.row_group(group).num_rows
            if rows >= _ROWS_A_PIECE or group == file.num_row_groups - 1:
                yield EvaluationPiece(source, (path,), "parquet", (start, group + 1))
                start, rows = group + 1, 0


def _dataset_tars(folder: Path) -> list[str]:
    manifest = DatasetManifest.load(folder)
    paths = [str(folder / shard.tar.path) for shard in manifest.shards]
    paths = [each for path in paths for each in (_files_below(Path(path)) if os.path.isdir(path) else [path])]
    for path in paths:
        if not os.path.exists(path):
            raise DataError(f"evaluation images: {path} is missing, but the dataset's manifest lists it")
    return paths


def _files_below(folder: Path) -> list[str]:
    """Return files in order of their paths, without hidden ones; links to folders are not followed."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(here, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _kind(name: str) -> str:
    lower = name.partition("?")[0].lower() if is_remote(name) else name.lower()
    if not lower.endswith((*TAR_ENDINGS, *_PARQUET_SUFFIXES)):
        return "files"
    if not is_remote(name) and special_kind(name) is not None:
        return "files"  # a pipe in a folder, which is counted as another file
    return "tar" if lower.endswith(TAR_ENDINGS) else "parquet"


def _shown(piece: EvaluationPiece, path: str) -> str:
    """Return the name of a file for the user: the source as named, with the path below a folder."""
    if path == piece.source or is_remote(path):
        return path
    return f"{piece.source.rstrip('/')}/{PurePosixPath(Path(path).relative_to(piece.source).as_posix())}"


def _read_files(piece: EvaluationPiece, count: Count) -> Iterator[EvaluationImage]:
    for path in piece.paths:
        shown = _shown(piece, path)
        try:
            with local_copy(path) as local:
                if not os.path.isfile(local):  # reading a pipe would block
                    count(OTHER_FILE, 1, shown)
                    continue
                with open(local, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    body = _body_of(shown, size, file, count)
        except OSError as error:
            count(DAMAGED_FILE, 1, f"{shown}: {error}")
            continue
        if body is not None:
            yield EvaluationImage(shown, "", body)


def _body_of(shown: str, size: int, file: IO[bytes], count: Count) -> bytes | None:
    """Return the bytes of an image, recognised by name or first bytes; None and a count for anything else."""
    if PurePosixPath(shown).suffix.lower() in _IMAGE_SUFFIXES:
        head = b""
    else:
        head = file.read(min(size, _HEAD_BYTES))
        if sniff_format(head) is None:
            count(OTHER_FILE, 1, shown)
            return None
    if size > MAX_IMAGE_BYTES:
        count(TOO_LARGE, 1, f"{shown}: {size} bytes")
        return None
    return head + file.read(size - len(head))


def _read_tar(piece: EvaluationPiece, path: str, count: Count) -> Iterator[EvaluationImage]:
    shown = _shown(piece, piece.paths[0])

    is_cut = False

    def note(_: str, about: str) -> None:
        if not is_cut:
            count(DAMAGED_FILE, 1, f"{shown}: {about}"[:300])

    def cut(_: str, about: str) -> None:
        nonlocal is_cut
        note("", about)
        is_cut = True  # what follows from it is not counted again

    try:
        with open(path, "rb") as file:
            compression = compression_of(file.read(MAGIC_BYTES))
            file.seek(0)
            archive = Forward(file if compression is None else Plain(plain_chunks(file, compression, cut)))
            for member in members(archive, note):
                if not member.target and not is_metadata(member.name):
                    body = _member_body(archive, member, shown, count)
                    if body is not None and len(body) < member.size:
                        cut("", f"it ends inside {member.name}")
                    elif body is not None:
                        yield EvaluationImage(shown, member.name, body)
    except OSError as error:
        count(DAMAGED_FILE, 1, f"{shown}: {error}")


def _member_body(archive: Forward, member: Member, shown: str, count: Count) -> bytes | None:
    """Return the bytes of a member that is an image, by its name or first bytes; fewer where the tar is cut."""
    name = f"{shown}/{member.name}"
    is_named = PurePosixPath(member.name).suffix.lower() in _IMAGE_SUFFIXES
    if is_named and member.size > MAX_IMAGE_BYTES:
        count(TOO_LARGE, 1, f"{name}: {member.size} bytes")
        return None
    start, end = member.offset, member.offset + member.size
    head = b"" if is_named else archive[start : min(end, start + _HEAD_BYTES)]
    if not is_named and sniff_format(head) is None:
        count(OTHER_FILE, 1, name)
        return None
    if member.size > MAX_IMAGE_BYTES:
        count(TOO_LARGE, 1, f"{name}: {member.size} bytes")
        return None
    return head + archive[start + len(head) : end]


def _open_parquet(source: str | BinaryIO) -> pq.ParquetFile:
    file = source if isinstance(source, str) else pa.PythonFile(source, mode="r")
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def _image_columns(file: pq.ParquetFile) -> list[str]:
    """Return the columns that hold image bytes: by name and type, else by type and the first bytes of their values."""
    schema = file.schema_arrow
    possible = [name for name in schema.names if _may_hold_images(schema.field(name).type)]
    named = [name for name in possible if name.lower() in _IMAGE_COLUMNS]
    others = [name for name in possible if name not in named]
    if others and file.num_row_groups:
        for batch in file.iter_batches(batch_size=_PROBED_ROWS, row_groups=[0], columns=others):
            for name in others:
                bodies = [body for value in batch.column(name).to_pylist() for _, body in _bodies(value)]
                if any(sniff_format(body) for body in bodies):
                    named.append(name)
            break
    return [name for name in schema.names if name in named]


def _may_hold_images(kind: pa.DataType) -> bool:
    if is_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and is_binary(kind.field(index).type)
    return is_binary(kind)


def _bodies(value: Any) -> Iterator[tuple[str, bytes]]:
    """Yield the images in a cell (none, one, or those of a list), each with a suffix for its name."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from ((f"[{number}]", body) for _, body in _bodies(item))
    elif isinstance(value, dict):
        if value.get("bytes") is not None:
            yield "", value["bytes"]
    elif value is not None:
        yield "", value


def _read_parquet(piece: EvaluationPiece, source: str | BinaryIO, count: Count) -> Iterator[EvaluationImage]:
    shown = _shown(piece, piece.paths[0])
    try:
        file = _open_parquet(source)
        columns = _image_columns(file)
        row = sum(file.metadata.row_group(group).num_rows for group in range(piece.groups[0]))
        groups = list(range(*piece.groups))
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=columns):
            cells = {name: batch.column(name) for name in columns}
            for at in range(batch.num_rows):
                for name in columns:
                    suffix = f":{name}" if len(columns) > 1 else ""
                    for number, body in _bodies(cells[name][at].as_py()):
                        yield EvaluationImage(shown, f"{row}{suffix}{number}", body)
                row += 1
    except (pa.ArrowException, OSError) as error:
        count(DAMAGED_FILE, 1, f"{shown}: {error}"[:300])
