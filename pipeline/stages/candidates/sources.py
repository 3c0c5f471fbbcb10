"""Inputs of the candidates stage: crawl archives, WAT metadata and tables, each as a stream of found pairs."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.crawl.warc import read_pages
from openwit.pipeline.readers.pages.html import FoundImage, extract
from openwit.pipeline.readers.pages.wat import read_wat
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import TableBatch, is_table_name, open_table
from openwit.pipeline.stages.candidates.pair import TABLE, Pair
from openwit.schemas.common.errors import OpenWITError

PAGES_TAKEN, IMAGES_TAKEN = "pages_taken", "images_taken"
_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


class InputKind(StrEnum):
    """What an input file holds."""

    ARCHIVE = "archive"
    WAT = "wat"
    TABLE = "table"


def kind_of(name: str) -> InputKind:
    """What a file holds, by its name.

    Raises:
        OpenWITError: the name tells nothing that this stage reads.
    """
    last = name.lower().partition("?")[0].rpartition("/")[2]
    if ".wet" in last:
        raise OpenWITError(
            f"candidates.inputs: {name} is a WET file: it holds texts without their images; use WARC or WAT"
        )
    if ".wat" in last:
        return InputKind.WAT
    if ".warc" in last or ".arc" in last:
        return InputKind.ARCHIVE
    if is_table_name(last):
        return InputKind.TABLE
    raise OpenWITError(
        f"candidates.inputs: {name} is by its name neither a WARC, WAT or ARC file nor a table "
        "(.parquet, .csv, .tsv, .jsonl)"
    )


def archive_pairs(path: str, name: str, count_record: Count, count_image: Count) -> Iterator[Pair]:
    """Pairs of the pages of a WARC or ARC file.

    Args:
        path: where to read.
        name: the file as the recipe names it.
        count_record: gets every record, a reason for each that is no page, PAGES_TAKEN for the others.
        count_image: gets every image, a reason for each that gives nothing, IMAGES_TAKEN for the others.
    """
    for page in read_pages(path, count_record):
        count_record(PAGES_TAKEN)
        images = extract(page, count_image)
        count_image(IMAGES_TAKEN, len(images))
        yield from _page_pairs(images, name, page.url, page.record_offset, page.date)


def wat_pairs(path: str, name: str, count_record: Count, count_image: Count) -> Iterator[Pair]:
    """Pairs of the pages that a WAT file describes; see `archive_pairs`."""
    for page in read_wat(path, count_record, count_image):
        count_record(PAGES_TAKEN)
        count_image(IMAGES_TAKEN, len(page.images))
        yield from _page_pairs(page.images, name, page.url, page.record_offset, page.date)


def table_pairs(
    path: str, name: str, columns: TableColumns, count_row: Count, row_groups: tuple[int, int] | None = None
) -> Iterator[Pair]:
    """Pairs of a table.

    Args:
        path: where to read.
        name: the file as the recipe names it.
        columns: the user's names of columns.
        count_row: gets a reason for rows that could not be read.
        row_groups: (first, end) of a Parquet table's row groups, where not all of them are wanted.
    """
    reader = open_table(path, columns, count_row, row_groups)
    for batch in reader.batches():
        for row in _rows(batch):
            url = row["url"] or (f"table:{Path(name).name}#{row['row']}" if reader.has_images else "")
            for text in row["texts"] or [""]:
                yield Pair(
                    url=url,
                    text=text,
                    text_source=TABLE,
                    image_source=TABLE,
                    archive=name,
                    record_offset=row["row"],
                    split=_SPLIT_NAMES.get(row["split"], row["split"]),
                    license=row["license"],
                    has_bytes=reader.has_images,
                )


def _page_pairs(
    images: Sequence[FoundImage], name: str, page_url: str, offset: int, date: str | None
) -> Iterator[Pair]:
    for image in images:
        for text_source, text in image.texts:
            yield Pair(
                url=image.url,
                text=text,
                text_source=text_source,
                image_source=image.image_source,
                archive=name,
                record_offset=offset,
                page_url=page_url,
                fetch_date=date,
                license=image.license,
                page_title=image.page_title,
                relative=image.relative,
            )


def _rows(batch: TableBatch) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {"texts": batch.texts.to_pylist()}
    for name in ("url", "split", "license"):
        column = getattr(batch, name)
        columns[name] = [None] * len(batch) if column is None else column.to_pylist()
    for position, values in enumerate(zip(*columns.values(), strict=True)):
        yield {"row": batch.first_row + position, **dict(zip(columns, values, strict=True))}
