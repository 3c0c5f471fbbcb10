"""Find one image or pair in the files that the steps of a build wrote."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.stages import STAGES, stage_named
from openwit.pipeline.stages.base import IMAGES, SELECTED, Kind, Stage, StagePaths
from openwit.pipeline.stages.meanings import meaning_of
from openwit.pipeline.stages.select import Select, SelectPaths
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.queries import QUERY_COUNTS

SELECT = Select.name


@dataclass(frozen=True)
class BuiltStep:
    """A step of the build that made a dataset: its name, its stage if that can be imported, and its paths."""

    name: str
    stage: Stage[Any] | None
    paths: StagePaths

    def meaning_of(self, reason: str) -> str:
        """Return what a drop reason of the step means; "" if it is not known."""
        return meaning_of(reason, self.stage)


class BuildStages:
    """The folder `stages/` of a build.

    Args:
        folder: may be missing or incomplete; None for none.
        manifest: of the dataset that the build made; it knows the steps.
    """

    def __init__(self, folder: Path | None, manifest: DatasetManifest) -> None:
        named = {} if folder is None else {name: folder / name for name in manifest.recipe or STAGES}
        self.steps = [_built(name, path, manifest) for name, path in named.items()]

    def queries(self) -> pa.Table | None:
        """Return the query list with the counts of the selection; None if it is missing."""
        for step in self._of_stage(SELECT):
            if step.paths.query_counts.exists():
                return QUERY_COUNTS.read(step.paths.query_counts)
        return None

    def images_of(self, url: str, pair_ids: Set[bytes]) -> list[dict[str, Any]]:
        """Return fetched images by normalised URL or pair ID: url, sha256, phash, pairs."""
        found = []
        for path in self._files(IMAGES):
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
        """Return the URL of a selected pair; None if it is not found."""
        for path in self._files(SELECTED):
            found = _filtered(path, ["url"], pc.field("pair_id") == pa.scalar(pair_id, pa.binary(16)))
            if found.num_rows:
                return str(found.column("url")[0].as_py())
        return None

    def matched_by(self, pair_id: bytes) -> list[int]:
        """Return the IDs of the queries that a candidate matches."""
        for path in (path for step in self._of_stage(SELECT) for path in SelectPaths(step.paths.folder).match_files()):
            found = _filtered(path, ["query_ids"], pc.field("pair_id") == pa.scalar(pair_id, pa.binary(16)))
            if found.num_rows:
                ids: list[int] = found.column("query_ids")[0].as_py()
                return ids
        return []

    def _images_named(self, url: str) -> Iterator[dict[str, Any]]:
        for path in self._files(IMAGES):
            yield from _filtered(path, ["url", "sha256", "phash", "pairs"], pc.field("url") == url).to_pylist()

    def _of_stage(self, name: str) -> list[BuiltStep]:
        return [step for step in self.steps if step.stage is not None and step.stage.name == name]

    def _files(self, kind: Kind) -> list[Path]:
        """Return the files of the first step that writes a kind; later steps of the kind hold a subset of its rows."""
        for step in self.steps:
            if step.stage is not None and step.stage.output == kind:
                return step.paths.files(step.paths.output(kind))
        return []


def _built(name: str, folder: Path, manifest: DatasetManifest) -> BuiltStep:
    try:
        stage = stage_named(manifest.steps.get(name, {}).get("stage", name))
    except RecipeError:  # a stage of a package that is not installed here: its drops are found nevertheless
        return BuiltStep(name, None, StagePaths(folder))
    return BuiltStep(name, stage, stage.paths(folder))


def drop_rows(path: Path, urls: Set[str], pair_ids: Set[bytes]) -> Iterator[dict[str, Any]]:
    """Return the dropped rows of a file for some URLs, given in their normal form, or for some pairs."""
    for table in _groups(path, None):
        mask = url_mask(table.column("url"), urls)
        if pair_ids:
            ids = table.column("pair_id")
            mask = pc.or_(mask, pc.fill_null(pc.is_in(ids, pa.array(sorted(pair_ids), pa.binary(16))), False))
        yield from table.filter(mask).to_pylist()


def url_mask(urls: pa.ChunkedArray, wanted: Iterable[str]) -> pa.Array:
    """Return which URLs are one of `wanted` once normalised: pages spell one URL in several ways."""
    named = set(wanted)
    distinct = urls.combine_chunks().dictionary_encode()
    same = pa.array([normalise_url(url) in named for url in distinct.dictionary.to_pylist()], pa.bool_())
    return same.take(distinct.indices)


def _groups(path: Path, columns: list[str] | None) -> Iterator[pa.Table]:
    """Read a Parquet file, one row group in memory at a time."""
    try:
        with pq.ParquetFile(cached(path)) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _filtered(path: Path, columns: list[str], filters: pc.Expression) -> pa.Table:
    try:
        return pq.read_table(cached(path), columns=columns, filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
