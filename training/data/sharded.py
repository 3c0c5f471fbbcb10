"""A split of a dataset folder with random access: each shard's tar mapped into memory, its index beside it.

Nothing is unpacked and nothing is read ahead of need; a sample costs two slices of a map and one JSON document.
"""

import mmap
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import OpenWITError, SchemaError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from openwit.schemas.tables.samples import SHARD_INDEX


class CorruptSampleError(Exception):
    """A sample that cannot be read. Counted and skipped by the loader, not shown to the user."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class Sample(NamedTuple):
    """One sample as it lies in the shard."""

    key: str
    image: bytes
    texts: tuple[str, ...]


class _Document(msgspec.Struct):
    """What training needs of a sample's JSON member; img2dataset's own shards have a caption only."""

    caption: str | None = ""
    texts: tuple[str, ...] = ()


_DECODER = msgspec.json.Decoder(_Document)


def texts_of(key: str, document: bytes | memoryview, text: bytes | memoryview) -> tuple[str, ...]:
    """The texts of a sample: those of its JSON member, else its caption, else the text member.

    Args:
        key: of the sample, for the message.
        document: the JSON member; empty where there is none.
        text: the text member; empty where there is none.

    Raises:
        CorruptSampleError: the JSON is not what the contract says, the text is no UTF-8, or there is no text.
    """
    try:
        found = _DECODER.decode(document) if len(document) else _Document()
        texts = found.texts or ((found.caption,) if found.caption else ())
        if not texts and len(text):
            texts = tuple(line for line in (str(text, "utf-8").strip(),) if line)
    except msgspec.MsgspecError as error:
        raise CorruptSampleError(key, f"JSON member: {error}") from error
    except UnicodeDecodeError as error:
        raise CorruptSampleError(key, f"text member: {error}") from error
    if not texts:
        raise CorruptSampleError(key, "no text")
    return texts


class Dataset(Protocol):
    """Samples by number, safe to read from several threads."""

    name: str
    split: str
    folder: Path
    manifest_sha256: str

    def __len__(self) -> int: ...
    def key(self, index: int) -> str:
        """Key of a sample, without reading the sample."""
        ...

    def sample(self, index: int) -> Sample:
        """A sample; raises CorruptSampleError."""
        ...


class Shard:
    """One tar, mapped, with its index (of schemas.tables.samples.SHARD_INDEX; both stay on disk until touched)."""

    def __init__(self, tar: Path, index: pa.Table) -> None:
        self._bytes = _map(tar)
        keys = _one_chunk(index["key"])
        _, offsets, data = keys.buffers()
        self._key_ends = memoryview(offsets).cast("i")[keys.offset : keys.offset + len(keys) + 1]
        self._key_data = memoryview(data if data is not None else b"")
        self._image = _ranges(index, "image")
        self._text = _ranges(index, "text")
        self._json = _ranges(index, "json")

    def key(self, row: int) -> str:
        """Key of a row."""
        return str(self._key_data[self._key_ends[row] : self._key_ends[row + 1]], "utf-8")

    def read(self, row: int) -> Sample:
        """The sample of a row; raises CorruptSampleError."""
        key = self.key(row)
        document = self._member(self._json, row)
        text = b"" if document else self._member(self._text, row)
        try:
            texts = texts_of(key, document, text)
        except CorruptSampleError:
            # A document without a caption: the text member is the last resort.
            texts = texts_of(key, document, self._member(self._text, row))
        return Sample(key, self._member(self._image, row), texts)

    def _member(self, ranges: "_Ranges", row: int) -> bytes:
        start = ranges[0][row]
        return self._bytes[start : start + ranges[1][row]]


_Ranges = tuple[memoryview, memoryview]


def _ranges(index: pa.Table, member: str) -> _Ranges:
    # memoryview gives Python's own integers, several times as fast as NumPy's scalars or Arrow's.
    first, second = (
        memoryview(_one_chunk(index[f"{member}_{what}"]).to_numpy(zero_copy_only=True)) for what in ("offset", "size")
    )
    return first, second


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


class Shards:
    """The samples of several shards, numbered from 0 in the order of shards and of samples in them.

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
        """Key of a sample, without reading the sample."""
        shard, row = self._locate(index)
        return shard.key(row)

    def sample(self, index: int) -> Sample:
        """A sample.

        Raises:
            CorruptSampleError: its JSON member is not what the contract says, or holds no text.
        """
        shard, row = self._locate(index)
        return shard.read(row)

    def _locate(self, index: int) -> tuple[Shard, int]:
        number = bisect_right(self._ends, index)
        if index < 0 or number == len(self._ends):
            raise IndexError(index)
        return self._shards[number], index - (self._ends[number - 1] if number else 0)


class ShardedDataset(Shards):
    """The samples of one split of a dataset folder.

    Safe to read from several threads.

    Args:
        folder: dataset folder.
        split: name of a split.

    Raises:
        OpenWITError: no dataset, no such split, or files that do not fit the manifest.
    """

    def __init__(self, folder: Path, split: str) -> None:
        manifest = DatasetManifest.load(folder)
        entries = manifest.shards_of(split)
        self.folder = folder
        self.split = split
        self.name = manifest.name
        self.manifest_sha256 = sha256_of(folder / MANIFEST_NAME)
        super().__init__([_open_shard(folder, entry) for entry in entries], [entry.samples for entry in entries])
        if not len(self):
            raise OpenWITError(f"split {split!r} of dataset {folder} holds no samples: choose another split")


def _open_shard(folder: Path, entry: ShardEntry) -> Shard:
    tar = folder / entry.tar.path
    _check_size(tar, entry.tar.bytes)
    index = _read_index(folder / entry.index.path)
    if index.num_rows != entry.samples:
        raise OpenWITError(
            f"{folder / entry.index.path} lists {index.num_rows} samples, but the manifest says {entry.samples}: "
            "run `wit verify` and rebuild the dataset"
        )
    return Shard(tar, index)


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise OpenWITError(
            f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again"
        ) from None
    if found != expected:
        raise OpenWITError(
            f"{path} has {found} bytes, but the manifest says {expected}: rebuild or copy the dataset again"
        )


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_index(path: Path) -> pa.Table:
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            return SHARD_INDEX.conform(reader.read_all(), str(path))
    except FileNotFoundError:
        raise OpenWITError(
            f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{path} is not a readable Arrow file ({error}): run `wit verify`") from error
