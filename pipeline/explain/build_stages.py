"""What the stages of a build left of one image or pair, found in their files."""

from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.urls import normalise_url
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.queries import QUERY_COUNTS


class BuildStages:
    """The folder `stages/` of a build.

    Args:
        folder: it need not be there, and what is missing in it is not found; None for none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def drops(self, stage: str) -> list[Path]:
        """Files of pairs that left at a stage."""
        return self._files(f"{stage}/drops")

    def queries(self, stage: str) -> pa.Table | None:
        """The query list with counts that a stage left."""
        path = None if self._folder is None else self._folder / stage / "queries.parquet"
        return QUERY_COUNTS.read(path) if path is not None and path.exists() else None

    def images_of(self, url: str, pair_ids: Set[bytes]) -> list[dict[str, Any]]:
        """Fetched images of a URL in its normal form or with one of some pairs: url, sha256, phash, pairs."""
        found = []
        for path in self._files("fetch/images"):
            for table in _groups(path, ["url", "pairs"]):
                mask = url_mask(table.column("url"), {url})
                rows = set(pc.indices_nonzero(mask).to_pylist())
                if pair_ids:
                    pairs = table.column("pairs").combine_chunks()
                    ids = pc.struct_field(pairs.flatten(), "pair_id")
                    named = pc.is_in(ids, pa.array(sorted(pair_ids), pa.binary(16)))
                    rows |= set(pairs.value_parent_indices().filter(named).to_pylist())
                found += [table.column("url")[row].as_py() for row in sorted(rows)]
        return [image for name in dict.fromkeys(found) for image in self._images_named(name)]

    def url_of(self, pair_id: bytes) -> str | None:
        """The URL at which a selected pair stood."""
        for path in self._files("select/selected"):
            found = _filtered(path, ["url"], pc.field("pair_id") == pa.scalar(pair_id, pa.binary(16)))
            if found.num_rows:
                return str(found.column("url")[0].as_py())
        return None

    def matched_by(self, pair_id: bytes) -> list[int]:
        """The queries that a candidate matches."""
        for path in self._files("select/matches"):
            found = _filtered(path, ["query_ids"], pc.field("pair_id") == pa.scalar(pair_id, pa.binary(16)))
            if found.num_rows:
                ids: list[int] = found.column("query_ids")[0].as_py()
                return ids
        return []

    def _images_named(self, url: str) -> Iterator[dict[str, Any]]:
        for path in self._files("fetch/images"):
            yield from _filtered(path, ["url", "sha256", "phash", "pairs"], pc.field("url") == url).to_pylist()

    def _files(self, name: str) -> list[Path]:
        return [] if self._folder is None else sorted((self._folder / name).glob("[!.]*.parquet"))


def drop_rows(path: Path, urls: Set[str], pair_ids: Set[bytes]) -> Iterator[dict[str, Any]]:
    """Rows of a file of drops of some URLs, given in their normal form, or of some pairs."""
    for table in _groups(path, None):
        mask = url_mask(table.column("url"), urls)
        if pair_ids:
            ids = table.column("pair_id")
            mask = pc.or_(mask, pc.fill_null(pc.is_in(ids, pa.array(sorted(pair_ids), pa.binary(16))), False))
        yield from table.filter(mask).to_pylist()


def url_mask(urls: pa.ChunkedArray, wanted: Iterable[str]) -> pa.Array:
    """Which URLs are one of `wanted` once normalised: a page may spell a URL in another way than the next."""
    named = set(wanted)
    distinct = urls.combine_chunks().dictionary_encode()
    same = pa.array([normalise_url(url) in named for url in distinct.dictionary.to_pylist()], pa.bool_())
    return same.take(distinct.indices)


def _groups(path: Path, columns: list[str] | None) -> Iterator[pa.Table]:
    """A Parquet file, a row group in memory at once."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise OpenWITError(f"{path} cannot be read: {error}") from error


def _filtered(path: Path, columns: list[str], filters: pc.Expression) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise OpenWITError(f"{path} cannot be read: {error}") from error
