"""Read image bytes from the inputs of the candidates stage again: tables, tars, folders, or by a custom reader."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from openwit.pipeline.dataset.layouts import EXTENSIONS
from openwit.pipeline.execution.stage import StageManifest
from openwit.pipeline.readers.custom import check_readers, read_record_images, reader_of
from openwit.pipeline.readers.samples.datasets import is_shard
from openwit.pipeline.readers.samples.folders import folder_images
from openwit.pipeline.readers.samples.tars import is_tar_name, tar_images
from openwit.pipeline.readers.tables.parquet_tables import read_images
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.storage.remote import local_copy


@dataclass(frozen=True)
class CandidateInputs:
    """Settings with which the candidates stage read its inputs: `columns` and `readers`."""

    columns: TableColumns = field(default_factory=TableColumns)
    readers: dict[str, PluginSettings] = field(default_factory=dict)

    def images(self, archive: str, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (row, image bytes) of the wanted rows of one input, ascending; empty bytes for a null.

        Raises:
            OpenWITError: the input cannot be read, or no longer holds these images.
        """
        reader = reader_of(archive, self.readers)
        if reader is None and archive.endswith("/"):
            yield from folder_images(archive, rows)
            return
        if reader is None and is_tar_name(archive):
            yield from tar_images(archive, rows)
            return
        if reader is None:
            columns = TableColumns(image=EXTENSIONS["image"]) if is_shard(archive, self.columns) else self.columns
            yield from read_images(archive, sorted(rows), columns=columns)
            return
        with local_copy(archive) as path:
            yield from read_record_images(path, archive, reader, numbers=rows)


def inputs_of(upstream: StageManifest) -> CandidateInputs:
    """Return how the candidates of a stage were read, from its history.

    Raises:
        RecipeError: a reader cannot be loaded.
    """
    for record in upstream.history:
        if record.stage == "candidates":
            columns = TableColumns.model_validate(record.settings.get("columns", {}))
            named = record.settings.get("readers", {})
            readers = {suffix: PluginSettings.model_validate(plugin) for suffix, plugin in named.items()}
            check_readers(readers)
            return CandidateInputs(columns, readers)
    return CandidateInputs()
