"""Read Parquet tables: their rows without the images, the images of some rows, and the sizes of row groups."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.tables.columns import ResolvedColumns, resolve_columns
from openwit.pipeline.readers.tables.files import BATCH_ROWS, DAMAGED_ROWS, GUESSED, LONGEST_MESSAGE, opened
from openwit.pipeline.readers.tables.partitions import partitions_of
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder
from openwit.pipeline.readers.tables.table_ranges import RowRange
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.storage.remote import is_remote

_IMAGE_BATCH_ROWS = 64


def read_images(
    path: str | Path, rows: Iterable[int], *, columns: TableColumns | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (row, image bytes) of the requested rows of a Parquet table in ascending order; empty bytes for a null.

    Only row groups with a requested row are read, and of those only the image column, a few rows at a time.

    Raises:
        DataError: the file cannot be read, holds no images, or has fewer rows than requested.
    """
    name = str(path)
    wanted = sorted(set(rows))
    columns = (columns or TableColumns()).model_copy(update={"keep": ()})
    with open_parquet(name) as file:
        image = resolve_columns(file.schema_arrow, columns, where=name, texts_required=False).image
        if image is None:
            raise DataError(f"{name} holds no image bytes: its images must be downloaded from their URLs")
        if wanted and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
            raise DataError(
                f"{name} has {file.metadata.num_rows} rows, but row {wanted[-1]} is requested: it changed since its "
                "candidates were read, read them again"
            )
        try:
            yield from _wanted_images(file, image, wanted)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is damaged: {one_line(error, LONGEST_MESSAGE)}") from error


def parquet_sizes(path: str | Path, columns: TableColumns) -> list[tuple[int, int]]:
    """Return (rows, stored bytes of the columns that are read, images apart) of each row group of a Parquet table.

    Raises:
        DataError: as `open_table`.
    """
    name = str(path)
    with open_parquet(name, in_ranges=True) as file:
        light = resolve_columns(
            file.schema_arrow, columns, where=name, folders=partitions_of(name), texts_required=False
        ).light()
        sizes = []
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            found = [group.column(at) for at in range(group.num_columns)]
            read = (c for c in found if any(f"{c.path_in_schema}.".startswith(f"{column}.") for column in light))
            sizes.append((group.num_rows, sum(column.total_compressed_size for column in read)))
        return sizes


def check_images(file: pq.ParquetFile, columns: ResolvedColumns, name: str) -> None:
    """Refuse a table whose image column holds no bytes at all, such as a struct with paths only."""
    if columns.image is None or columns.url is not None or file.metadata.num_rows == 0:
        return
    kind = file.schema_arrow.field(file.schema_arrow.names.index(columns.image)).type
    is_struct = pa.types.is_struct(kind)
    path = f"{columns.image}.bytes" if is_struct else columns.image
    untyped = is_struct and pa.types.is_null(kind.field("bytes").type)
    for group in range(0 if untyped else file.num_row_groups):
        row_group = file.metadata.row_group(group)
        found = [row_group.column(at) for at in range(row_group.num_columns)]
        statistics = next((column.statistics for column in found if column.path_in_schema == path), None)
        if statistics is None or statistics.null_count is None or statistics.null_count < row_group.num_rows:
            return
    held = "paths of images without their bytes" if is_struct else "no image bytes"
    raise DataError(
        f"{name}: column {columns.image!r} holds {held}: write the images' bytes into the table, as "
        "Hugging Face's `dataset.to_parquet` embeds them, or give a column of URLs"
    )


def _wanted_images(file: pq.ParquetFile, image: str, wanted: list[int]) -> Iterator[tuple[int, bytes]]:
    is_struct = pa.types.is_struct(file.schema_arrow.field(image).type)
    first = 0
    position = 0  # in wanted
    for group in range(file.num_row_groups):
        after = first + file.metadata.row_group(group).num_rows
        if position < len(wanted) and wanted[position] < after:
            row = first
            columns = [f"{image}.bytes"] if is_struct else [image]
            for batch in file.iter_batches(_IMAGE_BATCH_ROWS, [group], columns, use_threads=False):
                values = batch.column(0).field("bytes") if is_struct else batch.column(0)
                while position < len(wanted) and wanted[position] < row + batch.num_rows:
                    yield wanted[position], values[wanted[position] - row].as_py() or b""
                    position += 1
                row += batch.num_rows
        first = after


@contextlib.contextmanager
def open_parquet(name: str, *, in_ranges: bool = False) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, local or at a URL.

    Args:
        in_ranges: whether of a file at a URL only the parts that are asked for are read.

    Raises:
        DataError: the file cannot be read, or is none.
    """
    with contextlib.ExitStack() as stack:
        if in_ranges and is_remote(name):
            file = pa.PythonFile(stack.enter_context(open_ranges(name)), mode="r")
        else:
            file = stack.enter_context(opened(name))
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is not a readable Parquet file: {one_line(error, LONGEST_MESSAGE)}") from error
        yield parquet


def parquet_batches(
    name: str, columns: ResolvedColumns, count: Count, part: RowRange | None
) -> Iterator[pa.RecordBatch | int]:
    """Yield the rows of a table, or of a part, in batches without the image; a number is of rows left out."""
    decoder = TextDecoder()
    with open_parquet(name, in_ranges=part is not None) as file:
        part = part or RowRange(0, file.metadata.num_rows)
        yield part.first
        first = 0  # row of the row group
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first < part.end and part.first < first + rows:
                within = RowRange(max(part.first - first, 0), min(part.end - first, rows))
                yield from _group_batches(file, group, columns, count, within, decoder)
            first += rows
    for note in decoder.notes():
        count(GUESSED, 0, note)


def _group_batches(
    file: pq.ParquetFile, group: int, columns: ResolvedColumns, count: Count, within: RowRange, decoder: TextDecoder
) -> Iterator[pa.RecordBatch | int]:
    """Yield rows of a row group, counted from its first; those that cannot be read are counted."""
    done = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, [group], columns.light(), use_threads=False):
            start, end = max(within.first - done, 0), min(within.end - done, batch.num_rows)
            done += batch.num_rows
            if start < end:
                yield decoder.sound(batch.slice(start, end - start))
            if done >= within.end:
                return
    except (pa.ArrowException, OSError) as error:
        if lost := within.end - max(done, within.first):
            count(DAMAGED_ROWS, lost, f"row group {group}: {one_line(error, LONGEST_MESSAGE)}")
            yield lost
