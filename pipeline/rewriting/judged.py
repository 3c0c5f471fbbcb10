"""Read what earlier steps decided about images and texts of finished datasets: which are left, and why others went.

An image is known by its shard and its place in it, which candidates record as `archive` and `record_offset`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.dataset.rewrite_reasons import SAME_URL
from openwit.pipeline.execution.files import checked, read_columns
from openwit.pipeline.stages.base import StagePaths
from openwit.pipeline.stages.candidates.parts import short_names
from openwit.pipeline.stages.candidates.sources import place_name
from openwit.pipeline.text.clean import clean_text
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached

PLACES, TEXTS = "places.npy", "texts.npy"
REASONS = "reasons.parquet"
_SHOWN = b"shown"
_PAIR = ("archive", "record_offset", "text")
_REASONS = pa.schema([("url", pa.uint64()), ("reason", pa.string()), ("detail", pa.string())])


def place_hash(archive: str, offset: int) -> int:
    """Return a number for the place of an image."""
    return xxhash.xxh3_64_intdigest(f"{archive}\0{offset}".encode("utf-8", "surrogatepass"))


def text_hash(archive: str, offset: int, text: str) -> int:
    """Return a number for a text of an image at a place."""
    return xxhash.xxh3_64_intdigest(f"{archive}\0{offset}\0{clean_text(text)}".encode("utf-8", "surrogatepass"))


def url_hash(url: str) -> int:
    """Return a number for a URL."""
    return xxhash.xxh3_64_intdigest(url.encode("utf-8", "surrogatepass"))


def write_judged(
    folder: Path, texts: Sequence[Path], images: Sequence[Path], steps: Mapping[str, Path], shards: Sequence[str]
) -> None:
    """Write what is left after earlier steps, and why the rest went, where workers map it.

    Args:
        folder: where.
        texts: files of CANDIDATES: the texts that are left.
        images: files of SURVIVORS, or of CANDIDATES: the images that are left.
        steps: folders of the earlier steps, by name.
        shards: names of all, as candidates name them.
    """
    places = [np.fromiter(map(place_hash, *pairs[:2]), np.uint64, len(pairs[0])) for pairs in map(_pairs, images)]
    words = [np.fromiter(map(text_hash, *pairs), np.uint64, len(pairs[0])) for pairs in map(_pairs, texts)]
    for name, found in ((PLACES, places), (TEXTS, words)):
        every = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            np.save(file, every)
    tables = [table for path in steps.values() for table in _drops(StagePaths(path))]
    shown = json.dumps(short_names(sorted(shards))).encode()
    with atomic_path(folder / REASONS) as temporary:
        table = pa.concat_tables([_REASONS.empty_table(), *tables])
        pq.write_table(table.replace_schema_metadata({_SHOWN: shown}), temporary)


def _pairs(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Return archive, offset and text of the pairs of a file of CANDIDATES or SURVIVORS."""
    if "pairs" in pq.read_schema(cached(path)).names:
        flat = read_columns(path, ["pairs"]).column("pairs").combine_chunks().flatten()
        columns = [pc.struct_field(flat, name) for name in _PAIR]
    else:
        table = read_columns(path, list(_PAIR))
        columns = [table.column(name) for name in _PAIR]
    archives, offsets, words = (column.to_pylist() for column in columns)
    return archives, offsets, words


def _drops(paths: StagePaths) -> Iterator[pa.Table]:
    for path in paths.files(paths.drops):
        table = read_columns(checked(path), ["url", "reason", "detail"])
        if table.num_rows:
            urls = np.fromiter(map(url_hash, table.column("url").to_pylist()), np.uint64, table.num_rows)
            columns = [pa.array(urls), table.column("reason"), table.column("detail")]
            yield pa.table(columns, names=_REASONS.names).cast(_REASONS)


class Judged:
    """Look up what is left, in a worker.

    Args:
        folder: that `write_judged` wrote to.
    """

    def __init__(self, folder: Path) -> None:
        self._places = np.load(folder / PLACES, mmap_mode="r")
        self._texts = np.load(folder / TEXTS, mmap_mode="r")
        table = pq.read_table(folder / REASONS)
        self._shown: dict[str, str] = json.loads(table.schema.metadata[_SHOWN])
        columns = (table.column(name).to_pylist() for name in _REASONS.names)
        self._reasons = {url: (why, more) for url, why, more in zip(*columns, strict=True)}

    def is_left(self, archive: str, offsets: Sequence[int]) -> np.ndarray:
        """Return which images of a shard are left: bool (N,)."""
        return _among(self._places, [place_hash(archive, offset) for offset in offsets])

    def texts_left(self, archive: str, offset: int, texts: Sequence[str]) -> list[int]:
        """Return the numbers of the texts of an image that are left."""
        found = _among(self._texts, [text_hash(archive, offset, text) for text in texts])
        return [int(number) for number in np.flatnonzero(found)]

    def reason_of(self, archive: str, offset: int, url: str) -> tuple[str, str | None]:
        """Return why an image is not left, with a detail; steps know it by its place or by its URL."""
        named = self._reasons.get(url_hash(place_name(self._shown[archive], offset)))
        return named or self._reasons.get(url_hash(url), (SAME_URL, None))


def _among(known: np.ndarray, hashes: Sequence[int]) -> np.ndarray:
    wanted = np.array(hashes, np.uint64)
    if not len(known):
        return np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found: np.ndarray = known[places] == wanted
    return found
