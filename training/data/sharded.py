"""A split of a dataset folder with random access: each sample is found through the index of its shard.

Nothing is unpacked; a sample costs a read of its image and one of its JSON document. The samples of a batch are
announced to the kernel, which reads them ahead. Needs no torch.
"""

import contextlib
import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.wording import counted
from openwit.schemas.images.opening import OTHER_FORMATS, open_image, upright_srgb
from openwit.schemas.images.sniff import ENDINGS
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry, check_sum
from openwit.schemas.table import without_payload
from openwit.training.data.sample_texts import CorruptSampleError, fast_words, texts_of
from openwit.training.data.shard_file import LocalTar, ShardFile, read_index

if TYPE_CHECKING:
    import pandas as pd


class Sample(NamedTuple):
    """One sample as stored in the shard, its image still encoded.

    `repaired` says that its JSON member was not valid, and was repaired or passed over; `sources` where each text was
    found, if it is known.
    """

    key: str
    image: bytes
    texts: tuple[str, ...]
    repaired: bool = False
    sources: tuple[str, ...] = ()


class Example(NamedTuple):
    """One decoded sample.

    Attributes:
        image: PIL image in mode RGB, or what the dataset's transform returned for it.
        texts: its texts, at least one; the first is the caption.
        metadata: the sample's JSON document (url, licence, size, …); empty if it has none.
        key: of the sample, unique in the dataset.
    """

    image: Any
    texts: tuple[str, ...]
    metadata: dict[str, Any]
    key: str


Transform = Callable[[Image.Image], Any]
"""Applied to each PIL image (RGB) of a dataset, such as `LoadedModel.preprocess`."""


Place = tuple[int, int]
"""Epoch and index of a sample."""
Reading = Callable[[int], Sample]
"""Reads a sample by index; raises CorruptSampleError."""


class Dataset(Protocol):
    """Samples by index; can be read from several threads."""

    name: str
    split: str
    folder: Path
    manifest_sha256: str

    def __len__(self) -> int: ...
    def key(self, index: int) -> str:
        """Return the key of a sample, without reading the sample."""
        ...

    def sample(self, index: int) -> Sample:
        """Read a sample; raises CorruptSampleError."""
        ...

    def reading(self, places: Sequence[Place]) -> AbstractContextManager[Reading]:
        """Return a context in which the samples of a batch can be read."""
        ...


def close_dataset(dataset: Any) -> None:
    """End what a dataset runs beside, if it does."""
    close = getattr(dataset, "close", None)
    if close is not None:
        close()


class ShardRows:
    """The index of a shard (schemas.tables.samples.SHARD_INDEX): keys, and where the members of each sample lie."""

    def __init__(self, index: pa.Table) -> None:
        keys = _one_chunk(index["key"])
        _, offsets, data = keys.buffers()
        self._key_ends = memoryview(offsets).cast("i")[keys.offset : keys.offset + len(keys) + 1]
        self._key_data = memoryview(data if data is not None else b"")
        self._image = _ranges(index, "image")
        self._text = _ranges(index, "text")
        self.json = _ranges(index, "json")
        self.index = index  # owns the memory

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self._key_data[self._key_ends[row] : self._key_ends[row + 1]], "utf-8")

    def parts(self, row: int) -> list[tuple[int, int]]:
        """Return the ranges of bytes, (start, stop) each, that hold the members of a row: one if they lie together."""
        image, image_size = self._image[0][row], self._image[1][row]
        text, text_size = self._text[0][row], self._text[1][row]
        json, json_size = self.json[0][row], self.json[1][row]
        if image < text < json < image + image_size + text_size + json_size + _HEADERS and text_size and json_size:
            return [(image, json + json_size)]
        spans = ((image, image_size), (text, text_size), (json, json_size))
        return [(start, start + size) for start, size in spans if size]

    def read(self, row: int, fd: int) -> Sample:
        """Read the sample of a row from an open tar; raises CorruptSampleError.

        The image is read by itself, into the bytes that are returned: to cut it from a longer read would copy it once
        more, which takes longer than a second read. The text member is read only if the JSON member gives no texts.
        """
        start, size = self._image[0][row], self._image[1][row]
        image = os.pread(fd, size, start) if size else b""
        at, length = self.json[0][row], self.json[1][row]
        document = os.pread(fd, length, at) if length else b""
        key = self.key(row)
        texts, sources = fast_words(document) if document else ((), ())
        if len(image) < size or len(document) < length:
            raise CorruptSampleError(key, _CUT)
        if texts:
            return Sample(key, image, texts, False, sources)
        at, length = self._text[0][row], self._text[1][row]
        text = os.pread(fd, length, at) if length else b""
        if len(text) < length:
            raise CorruptSampleError(key, _CUT)
        found, repaired = texts_of(key, document, text)
        return Sample(key, image, found, repaired)

    def sample(self, row: int, held: Sequence[tuple[int, bytes]]) -> Sample:
        """Return the sample of a row from the bytes of its parts, (start, bytes) each; raises CorruptSampleError."""
        document = self._member(self.json, row, held)
        texts, sources = fast_words(document) if document else ((), ())
        repaired = False
        key = self.key(row)
        if not texts:
            texts, repaired = texts_of(key, document, self._member(self._text, row, held))
        return Sample(key, self._member(self._image, row, held), texts, repaired, sources)

    def _member(self, ranges: "_Ranges", row: int, held: Sequence[tuple[int, bytes]]) -> bytes:
        start, size = ranges[0][row], ranges[1][row]
        if not size:
            return b""
        for first, body in held:
            if 0 <= start - first <= len(body) - size:
                return body[start - first : start - first + size]
        raise CorruptSampleError(self.key(row), _CUT)


class Shard:
    """One tar with its index.

    Args:
        file: returns the open tar.
        index: see `ShardRows`.
    """

    def __init__(self, file: Callable[[], ShardFile], index: pa.Table) -> None:
        self._file = file
        self._rows = ShardRows(index)

    @classmethod
    def of(cls, file: ShardFile, rows: ShardRows) -> "Shard":
        """Return a shard whose index was read."""
        made = cls.__new__(cls)
        made._file, made._rows = lambda: file, rows
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Shard, (self._file, self._rows.index)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return self._rows.key(row)

    def read(self, row: int) -> Sample:
        """Read the sample of a row; raises CorruptSampleError."""
        file = self._file()  # held while it is read: of many tars, others may be opened in its place meanwhile
        return self._rows.read(row, file.fd)

    def is_cold(self, row: int) -> bool:
        """Return whether the first byte of a row would have to be waited for, where the system tells."""
        if _NO_WAIT is None:
            return True
        file = self._file()
        try:
            os.preadv(file.fd, [bytearray(1)], self._rows.parts(row)[0][0], _NO_WAIT)
        except BlockingIOError:
            return True
        except (OSError, IndexError):
            return False
        return False

    def announce(self, row: int) -> None:
        """Let the kernel read a row ahead, where it can."""
        if _WILL_NEED is not None:
            file = self._file()
            for start, stop in self._rows.parts(row):
                os.posix_fadvise(file.fd, start, stop - start, _WILL_NEED)

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the JSON document of a row; empty if it has none. Raises CorruptSampleError."""
        start, size = self._rows.json[0][row], self._rows.json[1][row]
        if not size:
            return {}
        file = self._file()
        found, reason = lenient_json(os.pread(file.fd, size, start))
        if not isinstance(found, dict):
            raise CorruptSampleError(self.key(row), f"JSON member: {reason or 'it is not an object'}")
        return found


class FileShard(Shard):
    """A folder with a file for each member of a sample, with its index.

    Args:
        folder: of the files.
        index: see `ShardRows`.
    """

    def __init__(self, folder: Path, index: pa.Table) -> None:
        self._folder = folder
        self._rows = ShardRows(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileShard, (self._folder, self._rows.index)

    def read(self, row: int) -> Sample:
        """Read the sample of a row; raises CorruptSampleError."""
        key = self.key(row)
        image, document = self._image(key), self._bytes(key, "json")
        texts, sources = fast_words(document) if document else ((), ())
        if texts:
            return Sample(key, image, texts, False, sources)
        found, repaired = texts_of(key, document, self._bytes(key, "txt"))
        return Sample(key, image, found, repaired)

    def is_cold(self, row: int) -> bool:  # noqa: ARG002
        """Return that it is not known: each row has files of its own."""
        return False

    def announce(self, row: int) -> None:
        """Do nothing: files that are not open cannot be read ahead."""

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the JSON document of a row; empty if it has none. Raises CorruptSampleError."""
        key = self.key(row)
        found, reason = lenient_json(self._bytes(key, "json"))
        if not isinstance(found, dict):
            raise CorruptSampleError(key, f"JSON file: {reason or 'it is not an object'}")
        return found

    def _image(self, key: str) -> bytes:
        """Return the image of a key, whose extension is that of its format."""
        for extension in ENDINGS.values():
            with contextlib.suppress(FileNotFoundError):
                return (self._folder / f"{key}.{extension}").read_bytes()
        return self._bytes(key, "jpg")

    def _bytes(self, key: str, extension: str) -> bytes:
        try:
            return (self._folder / f"{key}.{extension}").read_bytes()
        except OSError as error:
            raise CorruptSampleError(key, f"{self._folder}: {error.strerror or error}") from error


_CUT = "the tar ends inside it"
_HEADERS = 8192  # between members that lie together: headers, padding, long names
_PROBES = 4
_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_WILL_NEED: int | None = getattr(os, "POSIX_FADV_WILLNEED", None)
_Ranges = tuple[memoryview, memoryview]


def _ranges(index: pa.Table, member: str) -> _Ranges:
    # memoryview gives Python's own integers, several times as fast as NumPy's scalars or Arrow's.
    first, second = (
        memoryview(_one_chunk(index[f"{member}_{what}"]).to_numpy(zero_copy_only=True)) for what in ("offset", "size")
    )
    return first, second


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def announce(rows: Sequence[tuple[Shard, int]]) -> None:
    """Let the kernel read rows ahead, all at once, unless those that are probed are in memory."""
    if len(rows) > 1 and any(shard.is_cold(row) for shard, row in rows[:: -(-len(rows) // _PROBES)]):
        for shard, row in rows:
            shard.announce(row)


class Shards:
    """Samples of several shards, indexed from 0 in the order of shards and of samples in them.

    Args:
        shards: the shards.
        counts: samples in each.
    """

    def __init__(self, shards: Sequence[Shard], counts: Sequence[int]) -> None:
        self._shards = list(shards)
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def key(self, index: int) -> str:
        """Return the key of a sample, without reading the sample."""
        shard, row = self._locate(index)
        return shard.key(row)

    def sample(self, index: int) -> Sample:
        """Read a sample, its image still encoded.

        Raises:
            CorruptSampleError: its JSON member does not follow the contract, or holds no text.
        """
        shard, row = self._locate(index)
        return shard.read(row)

    def reading(self, places: Sequence[Place]) -> AbstractContextManager[Reading]:
        """Announce the samples of a batch to the kernel; return a context in which they can be read."""
        announce([self._locate(index) for _, index in places])
        return nullcontext(self.sample)

    @property
    def shard_counts(self) -> list[int]:
        """Samples of each shard."""
        return list(map(operator.sub, self._ends, [0, *self._ends[:-1]]))

    def metadata(self, index: int) -> dict[str, Any]:
        """Return the JSON document of a sample; empty if it has none.

        Raises:
            CorruptSampleError: it is not a JSON object.
        """
        shard, row = self._locate(index)
        return shard.metadata(row)

    def _locate(self, index: int) -> tuple[Shard, int]:
        number = bisect_right(self._ends, index)
        if index < 0 or number == len(self._ends):
            raise IndexError(index)
        return self._shards[number], index - (self._ends[number - 1] if number else 0)


class ShardedDataset(Shards):
    """Samples of one split of a dataset folder: a sequence with `len()` and `[i]`.

    It can be read from several threads, and pickled (then it is opened again), so that a torch DataLoader with workers
    takes it; combine examples with `openwit.training.data.torch_dataset.collate`.

    Args:
        folder: dataset folder.
        split: name of a split.
        transform: applied to each image by `[i]`; None keeps PIL images.

    Raises:
        DataError: there is no dataset, no such split, or files do not match the manifest.

    Example:
        >>> dataset = ShardedDataset(Path("out/demo/dataset"), "val", transform=model.preprocess)
        >>> loader = DataLoader(dataset, batch_size=64, num_workers=2, collate_fn=collate)
    """

    def __init__(self, folder: Path, split: str, *, transform: Transform | None = None) -> None:
        self.transform = transform
        manifest = DatasetManifest.load(folder)
        entries = manifest.shards_of(split)
        self.folder = folder
        self.split = split
        self.name = manifest.name
        self.manifest_sha256 = sha256_of(folder / MANIFEST_NAME)
        super().__init__([_open_shard(folder, entry) for entry in entries], [entry.samples for entry in entries])
        if not len(self):
            raise DataError(f"split {split!r} of dataset {folder} holds no samples: choose another split")

    def __getitem__(self, index: int) -> Example:
        """Decode a sample; negative indices count from the end.

        Raises:
            IndexError: there is no such sample.
            TypeError: the index is no integer.
            CorruptSampleError: the image cannot be decoded, or its JSON member does not follow the contract.
        """
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(f"a sample's index is an integer, got {index!r}: take [dataset[i] for i in …]") from None
        index = index + len(self) if index < 0 else index
        sample = self.sample(index)
        try:
            with open_image(sample.image, other_formats=OTHER_FORMATS) as opened:
                image = upright_srgb(opened)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CorruptSampleError(sample.key, f"image: {error}") from error
        found = image if self.transform is None else self.transform(image)
        return Example(found, sample.texts, self.metadata(index), sample.key)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def to_pandas(self, *, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return what is known of each sample as a pandas DataFrame: row i is the sample `[i]`. Reads no images.

        Args:
            columns: of the shards' metadata (`openwit.schemas.tables.samples`); None for all.

        Raises:
            DataError: there is no such column.
        """
        manifest = DatasetManifest.load(self.folder)
        paths = [check_sum(self.folder, entry.metadata) for entry in manifest.shards_of(self.split)]
        names = [without_payload(pq.read_schema(path)).names for path in paths]
        missing = sorted(set(columns or ()) - set(names[0]))
        if missing:
            raise DataError(f"the metadata of {self.folder} has no column {missing[0]!r}")
        tables = [
            pq.read_table(path, columns=known if columns is None else list(columns))
            for path, known in zip(paths, names, strict=True)
        ]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return frame

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.split, self.transform)


def _reopen(folder: Path, split: str, transform: Transform | None) -> ShardedDataset:
    return ShardedDataset(folder, split, transform=transform)


def _open_shard(folder: Path, entry: ShardEntry) -> Shard:
    tar = folder / entry.tar.path
    if entry.format != "files":
        _check_size(tar, entry.tar.bytes)
    elif not tar.is_dir():
        raise DataError(f"{tar} is missing, but the manifest lists it: rebuild or copy the dataset again")
    index_path = folder / entry.index.path
    try:
        index = read_index(index_path)
    except FileNotFoundError:
        raise DataError(
            f"{index_path} is missing, but the manifest lists it: rebuild or copy the dataset again"
        ) from None
    if index.num_rows != entry.samples:
        raise DataError(
            f"{folder / entry.index.path} lists {counted(index.num_rows, 'sample')}, but the manifest says "
            f"{entry.samples}: run `wit verify` and rebuild the dataset"
        )
    check_sum(folder, entry.index)
    return FileShard(tar, index) if entry.format == "files" else Shard(LocalTar(tar).file, index)


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    if found != expected:
        raise DataError(
            f"{path} has {found} bytes, but the manifest says {expected}: rebuild or copy the dataset again"
        )
