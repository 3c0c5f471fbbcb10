"""A split of a dataset folder with random access: each shard's tar mapped into memory, its index beside it.

Nothing is unpacked and nothing is read ahead of need; a sample costs two slices of a map and one JSON document.
"""

import mmap
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from schemas.atomic import sha256_of
from schemas.errors import SchemaError, UserError
from schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from schemas.samples import SHARD_INDEX


class CorruptSampleError(Exception):
    """A sample that cannot be read. Counted and skipped by the loader, not shown to the user."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key


class Sample(NamedTuple):
    """One sample as it lies in the shard."""

    key: str
    image: bytes
    texts: tuple[str, ...]


class _Document(msgspec.Struct):
    """What training needs of a sample's JSON member; img2dataset's own shards have a caption only."""

    caption: str = ""
    texts: tuple[str, ...] = ()


class _Shard:
    """One tar, mapped, with its index (both stay on disk until touched)."""

    def __init__(self, folder: Path, entry: ShardEntry) -> None:
        tar = folder / entry.tar.path
        _check_size(tar, entry.tar.bytes)
        self._bytes = _map(tar)
        index = _read_index(folder / entry.index.path)
        if index.num_rows != entry.samples:
            raise UserError(
                f"{folder / entry.index.path} lists {index.num_rows} samples, but the manifest says {entry.samples}: "
                "run `wit verify` and rebuild the dataset"
            )
        self._keys = index["key"]
        self._image = index["image_offset"].to_numpy(), index["image_size"].to_numpy()
        self._json = index["json_offset"].to_numpy(), index["json_size"].to_numpy()
        self._decoder = msgspec.json.Decoder(_Document)

    def key(self, row: int) -> str:
        return str(self._keys[row].as_py())

    def read(self, row: int) -> Sample:
        key = self.key(row)
        try:
            document = self._decoder.decode(self._member(self._json, row))
        except msgspec.MsgspecError as error:
            raise CorruptSampleError(key, f"JSON member: {error}") from error
        texts = document.texts or ((document.caption,) if document.caption else ())
        if not texts:
            raise CorruptSampleError(key, "no text")
        return Sample(key, self._member(self._image, row), texts)

    def _member(self, ranges: tuple["pa.ndarray", "pa.ndarray"], row: int) -> bytes:
        start = int(ranges[0][row])
        return self._bytes[start : start + int(ranges[1][row])]


class ShardedDataset:
    """The samples of one split, numbered from 0 in the order of shards and of samples in them.

    Safe to read from several threads.

    Args:
        folder: dataset folder.
        split: name of a split.

    Raises:
        UserError: no dataset, no such split, or files that do not fit the manifest.
    """

    def __init__(self, folder: Path, split: str) -> None:
        manifest = DatasetManifest.load(folder)
        entries = manifest.shards_of(split)
        self.folder = folder
        self.split = split
        self.name = manifest.name
        self.manifest_sha256 = sha256_of(folder / MANIFEST_NAME)
        self._shards = [_Shard(folder, entry) for entry in entries]
        self._ends = list(accumulate(entry.samples for entry in entries))
        if not len(self):
            raise UserError(f"split {split!r} of dataset {folder} holds no samples: choose another split")

    def __len__(self) -> int:
        return self._ends[-1]

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

    def _locate(self, index: int) -> tuple[_Shard, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self._shards[number], index - (self._ends[number - 1] if number else 0)


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    if found != expected:
        raise UserError(
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
        raise UserError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{path} is not a readable Arrow file ({error}): run `wit verify`") from error
