"""Open inputs of the candidates stage as streams of found pairs: archives, tables, samples, your own readers."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from openwit.pipeline.common.column_values import json_row, row_of
from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.demands import MISSING, checked_demands
from openwit.pipeline.readers.crawl.archive_file import RecordRange, Source
from openwit.pipeline.readers.crawl.warc import read_pages
from openwit.pipeline.readers.custom import read_records
from openwit.pipeline.readers.pages.html import FoundImage, extract
from openwit.pipeline.readers.pages.page_images import DroppedImage, ignore_dropped
from openwit.pipeline.readers.pages.wat import read_wat
from openwit.pipeline.readers.samples.by_text import has_origin
from openwit.pipeline.readers.samples.fields import FieldValues
from openwit.pipeline.readers.samples.folders import is_image_name
from openwit.pipeline.readers.samples.sample import Sample
from openwit.pipeline.readers.samples.tars import UNPACK
from openwit.pipeline.readers.tables.batches import TableBatch
from openwit.pipeline.readers.tables.files import is_table_name, is_text_name
from openwit.pipeline.readers.tables.kept_columns import NOTHING_KEPT, KeptColumns
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.table_ranges import TableRange
from openwit.pipeline.readers.tables.tables import open_table
from openwit.pipeline.stages.candidates.pair import TABLE, Drop, Pair
from openwit.schemas.common.decompress import TAR_ENDINGS
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.storage.remote import is_remote

_NO_DEMANDS: Mapping[str, str] = MappingProxyType({})
PAGES_TAKEN, IMAGES_TAKEN = "pages_taken", "images_taken"
_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


class InputKind(StrEnum):
    """Format of an input file."""

    ARCHIVE = "archive"
    WAT = "wat"
    TABLE = "table"
    TAR = "tar"
    IMAGES = "folder of images"
    URLS = "list of URLs"


SAMPLE_KINDS = frozenset({InputKind.TAR, InputKind.TABLE, InputKind.IMAGES})
"""Kinds of inputs that may be a shard of a finished dataset."""


def kind_of(name: str) -> InputKind:
    """Return what a file holds, by its name.

    Raises:
        DataError: no built-in reader reads files of such a name.
    """
    if name.endswith("/") and not is_remote(name):
        return InputKind.IMAGES
    last = name.lower().partition("?")[0].rpartition("/")[2]
    if last.endswith(".tar"):
        return InputKind.TAR
    if last.endswith(TAR_ENDINGS):
        raise DataError(f"candidates.inputs: {name} is a compressed tar: {UNPACK}")
    if ".wet" in last:
        raise DataError(
            f"candidates.inputs: {name} is a WET file: it holds texts without their images; use WARC or WAT"
        )
    if ".wat" in last:
        return InputKind.WAT
    if ".warc" in last or ".arc" in last:
        return InputKind.ARCHIVE
    if is_table_name(last):
        return InputKind.TABLE
    if is_text_name(last):
        return InputKind.URLS
    if is_image_name(last):
        raise DataError(f"candidates.inputs: {name} is an image: name its folder, whose images are read together")
    raise DataError(
        f"candidates.inputs: {name} is by its name neither a WARC, WAT or ARC file nor a table "
        "(.parquet, .csv, .tsv, .jsonl), a tar, a list of URLs (.txt) or a folder of images or of a finished dataset"
        f"{'' if not is_remote(name) else '; of a store, name the tars of a folder (PREFIX/*.tar)'}"
    )


def is_input_name(name: str) -> bool:
    """Return whether a built-in reader reads files of such a name in a folder, where text files are notes."""
    try:
        return kind_of(name) is not InputKind.URLS
    except DataError:
        return False


def archive_pairs(
    source: Source,
    name: str,
    count_record: Count,
    count_image: Count,
    *,
    drops: list[Drop] | None = None,
    span: RecordRange | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of the pages of a WARC or ARC file.

    Args:
        source: where to read.
        name: the file as the recipe names it.
        count_record: called for every record, with a reason for each that is not a page, else with PAGES_TAKEN.
        count_image: called for every image, with a reason for each that is dropped, else with IMAGES_TAKEN.
        drops: takes the images that have a text and were dropped, before the pairs of their page.
        span: read these records only.
    """
    for page in read_pages(source, count_record, span=span):
        count_record(PAGES_TAKEN)
        dropped: list[DroppedImage] = []
        images = extract(page, count_image, on_drop=ignore_dropped if drops is None else dropped.append)
        count_image(IMAGES_TAKEN, len(images))
        if drops is not None:
            drops += _image_drops(dropped, name, page.url, page.record_offset)
        yield from _page_pairs(images, name, page.url, page.record_offset, page.date)


def wat_pairs(
    source: Source,
    name: str,
    count_record: Count,
    count_image: Count,
    *,
    drops: list[Drop] | None = None,
    span: RecordRange | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of the pages that a WAT file describes; see `archive_pairs`."""
    dropped: list[DroppedImage] = []
    on_drop: Callable[[DroppedImage], None] = ignore_dropped if drops is None else dropped.append
    for page in read_wat(source, count_record, count_image=count_image, on_drop=on_drop, span=span):
        count_record(PAGES_TAKEN)
        count_image(IMAGES_TAKEN, len(page.images))
        if drops is not None:
            drops += _image_drops(dropped, name, page.url, page.record_offset)
            dropped.clear()
        yield from _page_pairs(page.images, name, page.url, page.record_offset, page.date)


def table_pairs(
    path: str,
    name: str,
    columns: TableColumns,
    count_row: Count,
    part: TableRange | None = None,
    *,
    shown: str,
    texts_required: bool = True,
    kept: KeptColumns = NOTHING_KEPT,
    split: str | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of a table.

    Args:
        path: where to read.
        name: the file as the recipe names it.
        columns: the user's names of columns.
        count_row: called with a reason for rows that could not be read, and with notes.
        part: rows to read; None reads all.
        shown: its name in the placeholder for a missing URL.
        texts_required: whether a table without texts is refused.
        kept: types of the columns that are kept.
        split: of rows that name none.
    """
    reader = open_table(
        path, columns, count=count_row, part=part, source=name, texts_required=texts_required, kept=kept
    )
    for batch in reader.batches():
        for row in _rows(batch):
            url = row["url"] or (place_name(shown, row["row"]) if reader.has_images else "")
            carried, problem = _with_demands(row["columns"], row["demands"])
            for text in row["texts"] or [""]:
                yield Pair(
                    url=url,
                    text=text,
                    text_source=TABLE,
                    image_source=TABLE,
                    archive=name,
                    record_offset=row["row"],
                    split=_SPLIT_NAMES.get(row["split"], row["split"]) if row["split"] else split,
                    license=row["license"],
                    has_bytes=reader.has_images,
                    language=_language(row["language"]),
                    columns=carried,
                    problem=problem,
                )


def sample_pairs(
    samples: Iterator[Sample],
    name: str,
    shown: str,
    kept: KeptColumns = NOTHING_KEPT,
    *,
    split: str | None = None,
    values: FieldValues | None = None,
    on_origin: Callable[[], None] = lambda: None,
    demanded: Mapping[str, str] = _NO_DEMANDS,
) -> Iterator[Pair]:
    """Yield the pairs of images that an input holds, with their texts.

    Args:
        samples: of a tar, a folder or a shard of ours.
        name: the input as the recipe names it.
        shown: its name in the placeholder for a missing URL.
        kept: what is kept of each sample beside its texts.
        split: of samples that name none.
        values: of the JSON beside samples; None for samples that know them.
        on_origin: called if samples tell where their texts were found before.
        demanded: fields of their JSON with what they demand of the image, see `demanded_columns`.
    """
    told = False
    for sample in samples:
        listed = sample.columns if values is None else [values.of(sample.facts)]
        rows = [kept.of_row(sample.key, each) for each in listed] or [kept.of_row(sample.key)]
        demands = _of_facts(sample.facts, demanded)
        columns = [_with_demands(row, demands) for row in rows]
        if not told and listed and has_origin(listed[0]):
            on_origin()
            told = True
        url = sample.url or place_name(shown, sample.place)
        for number, text in enumerate(sample.texts or [""]):
            yield Pair(
                url=url,
                text=text,
                text_source=_of_text(sample.text_sources, number) or TABLE,
                image_source=TABLE,
                archive=name,
                record_offset=sample.place,
                split=_SPLIT_NAMES.get(sample.split, sample.split) if sample.split else split,
                page_url=_of_text(sample.page_urls, number) or sample.page_url,
                fetch_date=sample.fetch_date,
                license=_of_text(sample.licenses, number) or sample.license,
                has_bytes=True,
                language=_language(_of_text(sample.languages, number) or sample.language),
                columns=columns[number if number < len(columns) else 0][0],
                problem=columns[0][1],
            )


def _with_demands(columns: str | None, demands: Mapping[str, Any] | None) -> tuple[str | None, tuple[str, str] | None]:
    """Return the kept columns of a row together with what it demands of its image, and what is wrong with that."""
    if demands is None:
        return columns, None
    found, problem = checked_demands(demands)
    return (json_row({**row_of(columns), **found}) if found else columns), problem


def _of_facts(facts: Mapping[str, Any], demanded: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the JSON beside an image demands of it."""
    return {name: facts.get(field, MISSING) for name, field in demanded.items()} if demanded else None


def _of_text(values: Sequence[str | None] | None, number: int) -> str | None:
    return values[number] if values else None


def url_pairs(urls: Iterator[tuple[int, str]], name: str) -> Iterator[Pair]:
    """Yield the images of a list of URLs, without a text."""
    for place, url in urls:
        yield Pair(url, "", TABLE, TABLE, name, place)


def custom_pairs(
    path: str,
    name: str,
    plugin: PluginSettings,
    shown: str,
    kept: KeptColumns = NOTHING_KEPT,
    values: FieldValues | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of a file that a reader of the recipe reads.

    Args:
        path: where to read.
        name: the file as the recipe names it.
        plugin: the reader.
        shown: its name in the placeholder for a missing URL.
        kept: what is kept of each record.
        values: of its further columns; None keeps none.

    Raises:
        DataError: the reader fails or yields something else than records.
    """
    for record in read_records(path, name, plugin):
        has_bytes = record.image is not None
        columns = kept.of_row(record.key, None if values is None else values.of(record.columns))
        for text in record.texts or ("",):
            yield Pair(
                url=record.url or (place_name(shown, record.number) if has_bytes else ""),
                text=text,
                text_source=TABLE,
                image_source=TABLE,
                archive=name,
                record_offset=record.number,
                split=_SPLIT_NAMES.get(record.split, record.split) if record.split else None,
                page_url=record.page_url,
                fetch_date=record.fetch_date,
                license=record.license,
                has_bytes=has_bytes,
                page_title=record.page_title or "",
                columns=columns,
            )


def _language(declared: str | None) -> str | None:
    """Return the ISO 639-1 code of a declared language such as en, en-US or zh_Hant; None if there is none."""
    code = re.split("[-_]", (declared or "").strip().lower(), maxsplit=1)[0]
    return code if re.fullmatch("[a-z]{2,3}", code) else None


def place_name(shown: str, row: int) -> str:
    """Return a name in place of a URL for an image that an input holds; `shown` tells the input from all others."""
    return f"table:{shown}#{row}"


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


def _image_drops(dropped: Sequence[DroppedImage], name: str, page_url: str, offset: int) -> Iterator[Drop]:
    """Yield the dropped images of a page as drops that name the page and its place."""
    for image in dropped:
        pair = Pair(image.url, image.text, "", "", name, offset, page_url=page_url)
        yield Drop(pair, image.reason, f"on {page_url}, in {name} at byte {offset}")


def _rows(batch: TableBatch) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {"texts": batch.texts.to_pylist()}
    for name in ("url", "split", "license", "language"):
        column = getattr(batch, name)
        columns[name] = [None] * len(batch) if column is None else column.to_pylist()
    columns["columns"] = [None] * len(batch) if batch.columns is None else list(batch.columns)
    columns["demands"] = [None] * len(batch) if batch.demands is None else list(batch.demands)
    for position, values in enumerate(zip(*columns.values(), strict=True)):
        yield {"row": batch.first_row + position, **dict(zip(columns, values, strict=True))}
