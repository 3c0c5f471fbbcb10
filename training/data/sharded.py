"""A split of a dataset folder with random access: each shard's tar is memory-mapped and found through its index.

Nothing is unpacked or read ahead; a sample costs two slices of a map and one JSON document. Needs no torch.
"""

import mmap
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, SchemaError
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.wording import counted
from openwit.schemas.images.opening import OTHER_FORMATS, open_image, upright_srgb
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry, check_sum
from openwit.schemas.tables.samples import SHARD_INDEX
from openwit.training.data.sample_texts import CorruptSampleError, fast_words, texts_of

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


class Shard:
    """One memory-mapped tar with its index (schemas.tables.samples.SHARD_INDEX); pages are read on access."""

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
        """Return the key of a row."""
        return str(self._key_data[self._key_ends[row] : self._key_ends[row + 1]], "utf-8")

    def read(self, row: int) -> Sample:
        """Read the sample of a row; raises CorruptSampleError."""
        document = self._member(self._json, row)
        texts, sources = fast_words(document) if document else ((), ())
        repaired = False
        if not texts:
            texts, repaired = texts_of(self.key(row), document, self._member(self._text, row))
        return Sample(self.key(row), self._member(self._image, row), texts, repaired, sources)

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the JSON document of a row; empty if it has none. Raises CorruptSampleError."""
        document = self._member(self._json, row)
        if not document:
            return {}
        found, reason = lenient_json(document)
        if not isinstance(found, dict):
            raise CorruptSampleError(self.key(row), f"JSON member: {reason or 'it is not an object'}")
        return found

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
        missing = sorted(set(columns or ()) - set(pq.read_schema(paths[0]).names))
        if missing:
            raise DataError(f"the metadata of {self.folder} has no column {missing[0]!r}")
        tables = [pq.read_table(path, columns=None if columns is None else list(columns)) for path in paths]
        return pa.concat_tables(tables).to_pandas()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.split, self.transform)


def _reopen(folder: Path, split: str, transform: Transform | None) -> ShardedDataset:
    return ShardedDataset(folder, split, transform=transform)


def _open_shard(folder: Path, entry: ShardEntry) -> Shard:
    tar = folder / entry.tar.path
    _check_size(tar, entry.tar.bytes)
    index_path = folder / entry.index.path
    index = _read_index(index_path)
    if index.num_rows != entry.samples:
        raise DataError(
            f"{folder / entry.index.path} lists {counted(index.num_rows, 'sample')}, but the manifest says "
            f"{entry.samples}: run `wit verify` and rebuild the dataset"
        )
    check_sum(folder, entry.index)
    return Shard(tar, index)


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    if found != expected:
        raise DataError(
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
        raise DataError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{path} is not a readable Arrow file ({error}): run `wit verify`") from error
