"""Open images that lie as files: a table of paths and captions, or a folder with captions or classes.

They have what a dataset has: a full shuffle, each image once an epoch, exact resumption. Rows of a table that name the
same image are one sample of several texts.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.wording import counted
from openwit.training.data.sample_texts import CorruptSampleError, texts_of
from openwit.training.data.sharded import Place, Reading, Sample
from openwit.training.data.tar_samples import IMAGE_SUFFIXES

IMAGE_COLUMNS = ("filepath", "file_path", "image_path", "path", "file_name", "filename", "image", "file", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "title", "alt_text", "alt", "description", "sentence")
_METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
_TEXTS = {".txt": "text", ".text": "text", ".caption": "text", ".json": "json"}
Report = Callable[[str], None]
Row = tuple[str, tuple[str, ...]]


class FileSamples:
    """Images of files with their texts. Safe to read from several threads.

    Args:
        folder: to which the paths are relative.
        split: what the messages call it.
        paths: of the images.
        texts: returns the texts of an image by its number; raises CorruptSampleError.
        identity: of the texts; with the paths it makes these samples other than others.
    """

    def __init__(
        self, folder: Path, split: str, paths: Sequence[str], texts: Callable[[int], tuple[str, ...]], identity: str
    ) -> None:
        self.folder = folder
        self.name = folder.resolve().name or "files"
        self.split = split
        self._paths = list(paths)
        self._texts = texts
        digest = hashlib.sha256(identity.encode())
        for path in self._paths:
            digest.update(path.encode(errors="surrogateescape") + b"\n")
        self.manifest_sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._paths)

    def key(self, index: int) -> str:
        """Return the path of an image, as it was given."""
        return self._paths[index]

    def sample(self, index: int) -> Sample:
        """Read an image and its texts.

        Raises:
            CorruptSampleError: a file cannot be read, or there is no text.
        """
        path = self._paths[index]
        texts = self.texts(index)
        return Sample(path, _bytes_of(self.folder / path, path), texts)

    def texts(self, index: int) -> tuple[str, ...]:
        """Return the texts of an image; raises CorruptSampleError."""
        return self._texts(index)

    def reading(self, _places: Sequence[Place]) -> AbstractContextManager[Reading]:
        """Return a context in which the samples of a batch can be read."""
        return nullcontext(self.sample)


def captioned_table(table: Path, *, image: str | None, caption: str | None, report: Report) -> FileSamples:
    """Open the images that a CSV, TSV or Parquet file names, or one of JSON lines.

    Args:
        table: the file; the separator of a CSV is found in its first line.
        image, caption: columns; None: found by their names. A caption may be a list.
        report: receives a sentence on what was found.

    Raises:
        DataError: it cannot be read, has no such columns, or its images are not there.
    """
    refuse_special(table, f"data.table: {table}")
    if not table.is_file():
        raise DataError(f"data.table: {table} does not exist")
    found: dict[str, list[str]] = {}
    rows = empty = 0
    for path, texts in _rows(table, image, caption):
        rows += 1
        if path and texts:
            found.setdefault(path, []).extend(text for text in texts if text not in found.get(path, ()))
        else:
            empty += 1
    if not found:
        raise DataError(f"data.table: {table} has no row with a path and a caption")
    paths = list(found)
    folder = _base(table, paths)
    aside = f"; left aside: {counted(empty, 'row')} without a path or a caption" if empty else ""
    report(f"{table}: {counted(rows, 'row')} of {counted(len(paths), 'image')} below {folder}{aside}")
    texts_found = [tuple(texts) for texts in found.values()]
    identity = hashlib.sha256(repr(texts_found).encode(errors="surrogateescape")).hexdigest()
    return FileSamples(folder, table.name, paths, texts_found.__getitem__, identity)


def captioned_folder(folder: Path, *, class_caption: str, report: Report) -> FileSamples:
    """Open the images of a folder: with a text file beside each, with a metadata table, or in a folder for each class.

    Raises:
        DataError: it is missing, or holds no image with a caption.
    """
    if not folder.is_dir():
        raise DataError(f"data.folder: {folder} is not a folder")
    table = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if table is not None:
        return captioned_table(table, image=None, caption=None, report=report)
    images, beside = _files(folder)
    if beside:
        return _with_texts(folder, images, beside, report)
    paths = [path for path in images if "/" in path]
    if not paths:
        raise DataError(
            f"data.folder: {folder} has {counted(len(images), 'image')}, and no captions: KEY.txt beside KEY.jpg, a "
            "metadata.csv, or a folder for each class"
        )
    classes = [Path(path).parent.name.replace("_", " ").replace("-", " ").strip() for path in paths]
    texts = _ClassCaptions(classes, class_caption)
    aside = (
        f"; left aside: {counted(len(images) - len(paths), 'image')} of no class" if len(images) > len(paths) else ""
    )
    kinds = counted(len(set(classes)), "class", plural="classes")
    report(f"{folder}: {counted(len(paths), 'image')} of {kinds}, captions as {texts(0)[0]!r}{aside}")
    return FileSamples(folder, "folder", paths, texts, class_caption)


def has_captions(folder: Path) -> bool:
    """Return whether a folder has captions: a metadata table, or a text file beside an image."""
    return any((folder / name).is_file() for name in _METADATA) or bool(_files(folder)[1])


@dataclass(frozen=True)
class _ClassCaptions:
    """Captions of images by their classes. A class, so that it can be sent to another process."""

    classes: list[str]
    pattern: str

    def __call__(self, index: int) -> tuple[str, ...]:
        return (self.pattern.replace("{}", self.classes[index]),)


@dataclass(frozen=True)
class _TextsBeside:
    """Texts in files beside images, by the stem of the image."""

    folder: Path
    paths: list[str]
    beside: dict[str, dict[str, str]]

    def __call__(self, index: int) -> tuple[str, ...]:
        path = self.paths[index]
        parts = {kind: _bytes_of(self.folder / name, path) for kind, name in self.beside[_stem(path)].items()}
        return texts_of(path, parts.get("json", b""), parts.get("text", b""))[0]


def _with_texts(folder: Path, images: list[str], beside: dict[str, dict[str, str]], report: Report) -> FileSamples:
    paths = [path for path in images if _stem(path) in beside]
    if not paths:
        raise DataError(f"data.folder: {folder} has no image with a text file of its name")
    alone = len(images) - len(paths)
    aside = f"; left aside: {counted(alone, 'image')} without" if alone else ""
    report(f"{folder}: {counted(len(paths), 'image')} with captions beside them{aside}")
    return FileSamples(folder, "folder", paths, _TextsBeside(folder, paths, beside), "texts beside")


def _files(folder: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the images, sorted, and the text files by the stem that they share with an image."""
    images: list[str] = []
    beside: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            continue
        suffix = path.suffix.lower()
        if suffix[1:] in IMAGE_SUFFIXES:
            images.append(name)
        elif suffix in _TEXTS:
            beside.setdefault(_stem(name), {})[_TEXTS[suffix]] = name
    stems = {_stem(path) for path in images}
    return images, {stem: kinds for stem, kinds in beside.items() if stem in stems}


def _stem(path: str) -> str:
    return path[: path.rindex(".")]


def _base(table: Path, paths: Sequence[str]) -> Path:
    """Return the folder to which the paths are relative: the table's, or the one of the command."""
    if "://" in paths[0]:
        raise DataError(
            f"data.table: {table} holds URLs ({paths[0]}), not files: `wit build` downloads them into a dataset"
        )
    for base in (table.parent, Path()):
        if any((base / path).is_file() for path in paths[:20]):
            return base
    raise DataError(f"data.table: {table}: {paths[0]} does not exist, neither below {table.parent} nor here")


def _rows(table: Path, image: str | None, caption: str | None) -> Iterator[Row]:
    suffix = table.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            yield from _of_parquet(table, image, caption)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _of_json_lines(table, image, caption)
        else:
            yield from _of_csv(table, image, caption)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise DataError(f"data.table: {table} cannot be read: {error}") from error


def _of_parquet(table: Path, image: str | None, caption: str | None) -> Iterator[Row]:
    with pq.ParquetFile(table) as file:
        names = _columns(table, file.schema_arrow.names, image, caption)
        for batch in file.iter_batches(columns=list(names)):
            paths, captions = (batch.column(batch.schema.get_field_index(name)).to_pylist() for name in names)
            yield from _cleaned(zip(paths, captions, strict=True))


def _of_json_lines(table: Path, image: str | None, caption: str | None) -> Iterator[Row]:
    names: tuple[str, str] | None = None
    with table.open("rb") as file:
        for line in file:
            found, _ = lenient_json(line) if line.strip() else (None, "")
            if not isinstance(found, dict):
                continue
            names = names or _columns(table, list(found), image, caption)
            yield from _cleaned([(found.get(names[0]), found.get(names[1]))])


def _of_csv(table: Path, image: str | None, caption: str | None) -> Iterator[Row]:
    csv.field_size_limit(1 << 24)
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline()
        file.seek(0)
        separator = next((each for each in "\t,;|" if each in head), ",")
        reader = csv.reader((line.replace("\0", "") for line in file), delimiter=separator)
        header = [name.strip() for name in next(reader, [])]
        places = [header.index(name) for name in _columns(table, header, image, caption)]
        for row in reader:
            if row:
                yield from _cleaned([tuple(row[place] if place < len(row) else "" for place in places)])


def _cleaned(rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    for path, caption in rows:
        texts = caption if isinstance(caption, list) else [caption]
        kept = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
        yield (path.strip() if isinstance(path, str) else ""), kept


def _columns(table: Path, names: Sequence[str], image: str | None, caption: str | None) -> tuple[str, str]:
    return (
        _column(table, names, image, IMAGE_COLUMNS, "data.image_column"),
        _column(table, names, caption, CAPTION_COLUMNS, "data.caption_column"),
    )


def _column(table: Path, names: Sequence[str], given: str | None, known: Sequence[str], key: str) -> str:
    if given is not None:
        if given in names:
            return given
        raise DataError(f"{key}: {table} has no column {given!r}, only {', '.join(map(repr, names))}")
    lower = {name.lower(): name for name in reversed(names)}
    for name in known:
        if name in lower:
            return lower[name]
    raise DataError(f"{table}: none of its columns ({', '.join(map(repr, names))}) is known: set {key}")


def _bytes_of(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptSampleError(key, f"{path.name}: {error.strerror or error}") from error
