"""Compute features by chunks, over all processes; what a folder holds already is verified and used again."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.transforms import evaluation_transform
from openwit.training.evaluation.decoding import Pictured, Readable, decoded_batches, opened
from openwit.training.evaluation.features.cache import Cache, Chunk
from openwit.training.evaluation.features.encoders import Encoder, key_digest
from openwit.training.evaluation.shares import ALONE, Shares

CHUNK = 1024
"""Images in a chunk: what is computed again, at most, by each process after a kill."""

Progress = Callable[[int, int], None]
"""Receives (done, total) of the images."""


@dataclass(frozen=True)
class Features:
    """Features of the images of a set that can be read.

    Attributes:
        rows: (I, D) float32, memory-mapped if there is a folder.
        indices: (I,) number of each image in the set.
        unreadable: keys of the images that were skipped.
        sha256: of all keys and encoded images of the set, in order.
        images: (N,) `image_number` of each image of the set, 0 of one that could not be read.
        encoder: name of what computed them.
        key: see `Encoder.key`.
    """

    rows: NDArray[np.float32]
    indices: NDArray[np.int64]
    unreadable: list[str]
    sha256: str
    images: NDArray[np.uint64]
    encoder: str
    key: dict[str, Any]

    def __len__(self) -> int:
        return len(self.rows)


def compute_features(
    encoder: Encoder,
    data: Readable[Pictured],
    *,
    batch_size: int = 256,
    folder: Path | None = None,
    shares: Shares = ALONE,
    progress: Progress | None = None,
) -> Features:
    """Return the features of all images of a set.

    Each image is read once more than decoded, to verify that what the folder holds is of these very bytes; a chunk
    whose images changed is computed again.

    Args:
        encoder: of images.
        data: the set, such as a `ClassificationSet` or a dataset's split.
        batch_size: images at once.
        folder: kept features of any models and sets; None: nothing is kept.
        shares: of the processes of a run; they share the folder, make the same calls and get the same result.
        progress: receives (done, total).

    Raises:
        DataError: no image can be read, or features are not finite.
        StorageError: another command computes the same features there, or the disk is full.
    """
    if not len(data):
        raise DataError("the set holds no images")
    keys = hashlib.sha256("\0".join(data.key(index) for index in range(len(data))).encode()).hexdigest()
    name = key_digest({"encoder": encoder.key, "keys": keys, "chunk": CHUNK})
    cache = None if folder is None else Cache(folder / name[:16], shares)
    work = _Work(encoder, data, batch_size, shares, progress)
    if cache is None:
        parts = shares.joined(work.chunks(lambda _, __: None, lambda _, chunk: chunk))
        rows = np.concatenate([part.rows for part in parts if len(part.rows)] or [np.zeros((0, 0), np.float32)])
        return checked(rows, parts, encoder)
    with cache.locked():
        parts = work.through(cache)
        return checked(cache.rows(), parts, encoder)


def checked(rows: NDArray[np.float32], parts: Sequence[Chunk], encoder: Encoder) -> Features:
    """Return the features of all chunks.

    Raises:
        DataError: no image can be read.
    """
    indices = np.concatenate([part.indices for part in parts])
    unreadable = [key for part in parts for key in part.unreadable]
    if not len(indices):
        raise DataError(f"none of the {len(unreadable):,} images can be read")
    digest = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()
    images = np.concatenate([part.images for part in parts])
    return Features(rows, indices, unreadable, digest, images, encoder.name, encoder.key)


@dataclass
class _Work:
    """What one process computes."""

    encoder: Encoder
    data: Readable[Pictured]
    batch_size: int
    shares: Shares
    progress: Progress | None

    def through(self, cache: Cache) -> list[Chunk]:
        """Fill the cache with what it lacks, and return all chunks, without their rows."""

        def keep(number: int, chunk: Chunk) -> Chunk:
            cache.write(number, chunk)
            return chunk.bare()

        parts = self.shares.joined(self.chunks(cache.known, keep))
        cache.assemble(parts)
        return parts

    def chunks(
        self, known: Callable[[int, str], Chunk | None], keep: Callable[[int, Chunk], Chunk]
    ) -> dict[int, Chunk]:
        """Return this process's chunks by number: known ones, else computed and passed to `keep`."""
        found: dict[int, Chunk] = {}
        mine = self.shares.of(-(-len(self.data) // CHUNK))
        total = sum(len(self._indices(number)) for number in mine if number is not None)
        done = 0
        for number in mine:
            if number is None:
                continue
            indices = self._indices(number)
            checksums = checksums_of(self.data, indices)
            digest = digest_of(self.data, indices, checksums)
            chunk = known(number, digest)
            chunk = chunk if chunk is not None else keep(number, self._compute(indices, digest, done, total))
            images = np.array([image_number(each) for each in checksums], dtype=np.uint64)
            found[number] = replace(chunk, images=images)
            done += len(indices)
            if self.progress is not None:
                self.progress(done, total)
        return found

    def _indices(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, len(self.data)))

    def _compute(self, indices: range, digest: str, done: int, total: int) -> Chunk:
        inputs = self.encoder.inputs
        transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
        size = min(self.batch_size, CHUNK)
        part = _Part(self.data, indices.start, len(indices))
        rows: list[NDArray[np.float32]] = []
        numbers: list[int] = []
        unreadable: list[str] = []
        for batch, bad in decoded_batches(part, transform, len(part), size, range(-(-len(part) // size))):
            unreadable += bad
            numbers += [indices.start + decoded.number for decoded in batch]
            if batch:
                rows.append(self._encoded(np.stack([decoded.pixels for decoded in batch]), batch[0].sample.key))
            if self.progress is not None:
                self.progress(done + len(numbers) + len(unreadable), total)
        joined = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
        return Chunk(joined, np.array(numbers, dtype=np.int64), unreadable, digest)

    def _encoded(self, pixels: NDArray[np.uint8], first: str) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.encoder(pixels).numpy()
        if not np.isfinite(rows).all():
            raise DataError(f"features of {self.encoder.name} are not finite in the batch from image {first!r} on")
        return rows


@dataclass(frozen=True)
class _Part:
    """Neighbouring samples of a set."""

    data: Readable[Pictured]
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def key(self, index: int) -> str:
        return self.data.key(self.start + index)

    def sample(self, index: int) -> Pictured:
        return self.data.sample(self.start + index)


def checksums_of(data: Readable[Pictured], indices: Sequence[int]) -> list[bytes]:
    """Return the sha256 of each encoded image of some samples; empty of one that cannot be read."""
    found = []
    with opened(data, indices) as read:
        for index in indices:
            try:
                found.append(hashlib.sha256(read(index).image).digest())
            except (CorruptSampleError, OSError):
                found.append(b"")
    return found


def digest_of(data: Readable[Pictured], indices: Sequence[int], checksums: Sequence[bytes]) -> str:
    """Return the sha256 of keys and encoded images of some samples, given the images' own."""
    digest = hashlib.sha256()
    for index, image in zip(indices, checksums, strict=True):
        digest.update(data.key(index).encode() + b"\0" + (image or b"unreadable"))
    return digest.hexdigest()


def image_number(checksum: bytes) -> int:
    """Return the first eight bytes of a checksum as a number, by which images of two sets are compared; 0 of none."""
    return int.from_bytes(checksum[:8], "big")
