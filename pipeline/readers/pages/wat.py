"""Read the pages of a crawl from the WAT files of Common Crawl: JSON with their links in WARC metadata records.

A WAT file is a fraction of the size of the WARC file it describes, and no HTML has to be parsed; but it has less
information. The program that writes it (ia-web-commons, class ExtractingParseObserver) keeps `src`, `alt` and `title`
of every `<img>`, the `<meta>` and `<link>` elements, the last `<base>`, and the links. It keeps no `srcset`,
`<picture>`, `<figure>`, declared size or attribute of lazy loaders, nor which link contains which image: so images
come from `src` and Open Graph, texts from `alt`, `title` and Open Graph.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import resolve
from openwit.pipeline.readers.crawl.archive_file import (
    ARCHIVE_DAMAGED,
    ArchiveRecord,
    RecordRange,
    Source,
    open_source,
)
from openwit.pipeline.readers.crawl.warc import (
    BAD_HTTP,
    BAD_PAGE_URL,
    CUT_SHORT,
    DAMAGED_RECORD,
    EMPTY_PAGE,
    HTML_TYPES,
    MAX_BODY_BYTES,
    NOT_200,
    NOT_HTML,
    NOT_HTTP,
    NOT_RESPONSE,
    PAGE_TOO_LARGE,
    RECORDS,
    REVISIT,
    read_records,
)
from openwit.pipeline.readers.pages.html import ExtractSettings, FoundImage
from openwit.pipeline.readers.pages.page_images import (
    ALT,
    DATA_URI,
    MAX_TITLE,
    NO_TEXT,
    NO_URL,
    SRC,
    TITLE,
    DroppedImage,
    PageImages,
    Reference,
    Texts,
    append_text,
    choose_license,
    document_base,
    ignore_dropped,
    is_data,
)

BAD_JSON = Reason("bad_json", "a record whose JSON could not be read")

WAT_REASONS = (
    NOT_RESPONSE,
    REVISIT,
    NOT_HTTP,
    BAD_HTTP,
    NOT_200,
    NOT_HTML,
    EMPTY_PAGE,
    PAGE_TOO_LARGE,
    BAD_JSON,
    DAMAGED_RECORD,
)
"""Why a record is not a page, as in `crawl.warc.PAGE_REASONS`. `NOT_RESPONSE`: the record does not describe a
response; `EMPTY_PAGE`: HTML by its type, without any element; `PAGE_TOO_LARGE`: more JSON than the limit. Each record
that is not a page has exactly one reason."""

REPAIRED_JSON = "repaired_json"
WAT_NOTES = (RECORDS, CUT_SHORT, BAD_PAGE_URL, REPAIRED_JSON, ARCHIVE_DAMAGED)
"""Notes counted beside the reasons, as in `crawl.warc.PAGE_NOTES`. `REPAIRED_JSON`: envelopes, of pages or not, with
bytes that are not UTF-8, unpaired surrogates, or values of a wrong type; these are replaced by U+FFFD or ignored."""

_IMAGE_PATH = "IMG@/src"
_LINK_PATH = "A@/href"
_LICENSE = "license"
_DEEDS = "creativecommons.org/"
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_DIGITS = 18  # fits 64 bits
_DEFAULTS = ExtractSettings()


@dataclass(frozen=True, slots=True)
class WatPage:
    """An HTML page as a WAT file describes it.

    Attributes:
        url: absolute URL of the page; as in the archive if that is not an http(s) URL.
        record_offset: first byte of the record in the WAT file.
        date: when the page was fetched, ISO 8601, or None.
        images: those with at least one text, in document order, `og:image` last.
        source_filename: the WARC file with the page, or None.
        source_offset: first byte of the page's record in that file, or None.
    """

    url: str
    record_offset: int
    date: str | None
    images: list[FoundImage]
    source_filename: str | None
    source_offset: int | None


class _Link(msgspec.Struct, gc=False):
    path: str | None = None
    url: str | None = None
    alt: str | None = None
    title: str | None = None
    rel: str | None = None


class _Meta(msgspec.Struct, gc=False):
    name: str | None = None
    property: str | None = None
    content: str | None = None


class _Head(msgspec.Struct, rename="pascal"):
    base: str | None = None
    title: str | None = None
    link: list[_Link] = []
    metas: list[_Meta] = []


class _Html(msgspec.Struct, rename="pascal"):
    head: _Head = msgspec.field(default_factory=_Head)
    links: list[_Link] = []


class _Message(msgspec.Struct, rename="pascal"):
    status: str | int | None = None


class _Response(msgspec.Struct):
    message: _Message = msgspec.field(name="Response-Message", default_factory=_Message)
    # Servers write names in any case.
    headers: dict[str, str | list[str]] = msgspec.field(name="Headers", default_factory=dict)
    html: _Html | None = msgspec.field(name="HTML-Metadata", default=None)


class _Payload(msgspec.Struct):
    response: _Response | None = msgspec.field(name="HTTP-Response-Metadata", default=None)


class _WarcHeader(msgspec.Struct):
    kind: str | None = msgspec.field(name="WARC-Type", default=None)
    url: str | None = msgspec.field(name="WARC-Target-URI", default=None)
    date: str | None = msgspec.field(name="WARC-Date", default=None)


class _Envelope(msgspec.Struct):
    header: _WarcHeader = msgspec.field(name="WARC-Header-Metadata", default_factory=_WarcHeader)
    payload: _Payload = msgspec.field(name="Payload-Metadata", default_factory=_Payload)


class _Container(msgspec.Struct, rename="pascal"):
    filename: str | None = None
    offset: str | int | None = None


class _Wat(msgspec.Struct, rename="pascal"):
    envelope: _Envelope
    container: _Container = msgspec.field(default_factory=_Container)


_DECODER = msgspec.json.Decoder(_Wat)
_S = TypeVar("_S", bound=msgspec.Struct)


def read_wat(
    source: Source,
    count_record: Count = ignore,
    *,
    count_image: Count = ignore,
    settings: ExtractSettings | None = None,
    on_drop: Callable[[DroppedImage], None] = ignore_dropped,
    max_block_bytes: int = MAX_BODY_BYTES,
    span: RecordRange | None = None,
) -> Iterator[WatPage]:
    """Yield the HTML pages that a WAT file (plain, gzip, zstd or lz4) describes, in file order.

    Args:
        source: a path, a URL for fsspec, or an open binary file.
        count_record: receives `RECORDS` for each record, one of `WAT_REASONS` for each that is not a page, and the
            notes.
        count_image: receives `IMAGES` for each image of a page, and one of `IMAGE_REASONS` for each without an entry.
        settings: rules for images; None for the defaults.
        on_drop: receives each image that has a text and is dropped, before its page is yielded.
        max_block_bytes: envelopes with more JSON are dropped, which limits memory.
        span: read these records only, as in `crawl.warc.read_pages`.

    Raises:
        DataError, NetworkError: the file cannot be opened. Damage inside is counted, never raised.
    """
    settings = settings or _DEFAULTS
    file, stack = open_source(source)
    with stack:
        for record in read_records(file, max_block_bytes, count=count_record, wanted=_is_metadata, span=span):
            count_record(RECORDS)
            page = _page(record, count_record, _ImageReader(count_image, settings, on_drop))
            if page is not None:
                if record.cut_short:
                    count_record(CUT_SHORT, 1, f"offset {record.offset}")
                yield page


def _is_metadata(kind: str, _is_http: bool) -> bool:
    return kind == "metadata"


def _page(record: ArchiveRecord, count: Count, reader: "_ImageReader") -> WatPage | None:
    where = f"offset {record.offset}"
    reason = _record_reason(record)
    wat = _decode(record.block, count, where) if reason is None else None
    if wat is None:
        reason = reason or (DAMAGED_RECORD if record.cut_short else BAD_JSON)
        count(reason, 1, "" if reason == NOT_RESPONSE else where)
        return None
    html = _html_or_reason(wat.envelope)
    if isinstance(html, str):
        count(html, 1, where if html == BAD_HTTP else "")
        return None
    header = wat.envelope.header
    given_url = (header.url or record.url).strip().strip("<>")
    url = resolve(None, given_url)
    if url is None:
        count(BAD_PAGE_URL, 1, f"{where}: {given_url[:200]}")
    return WatPage(
        url or given_url,
        record.offset,
        header.date or record.date,
        reader.images(html, url or given_url),
        wat.container.filename or None,
        _whole_number(wat.container.offset),
    )


def _record_reason(record: ArchiveRecord) -> str | None:
    if record.kind != "metadata":
        return NOT_RESPONSE
    if record.damaged:
        return DAMAGED_RECORD
    return PAGE_TOO_LARGE if record.too_large else None


def _html_or_reason(envelope: _Envelope) -> _Html | str:
    kind = (envelope.header.kind or "").lower()
    response = envelope.payload.response
    if kind == "revisit":
        return REVISIT
    # Envelopes of ARC records have no WARC-Type.
    if kind not in ("response", "") or (response is None and not kind):
        return NOT_RESPONSE
    if response is None:
        return NOT_HTTP
    status = _whole_number(response.message.status)
    if status is None:
        return BAD_HTTP
    if status != 200:
        return NOT_200
    if response.html is None:
        return EMPTY_PAGE if _media_type(response.headers) in HTML_TYPES else NOT_HTML
    return response.html


def _media_type(headers: dict[str, str | list[str]]) -> str:
    for name, value in headers.items():
        if name.lower() == "content-type":
            first = value if isinstance(value, str) else "".join(value[:1])
            return first.partition(";")[0].strip().lower()
    return ""


@dataclass(frozen=True, slots=True)
class _ImageReader:
    count: Count
    settings: ExtractSettings
    on_drop: Callable[[DroppedImage], None]

    def images(self, html: _Html, page_url: str) -> list[FoundImage]:
        head = html.head
        base = document_base(page_url, head.base)
        images = PageImages(base, self.count, self.settings, self.on_drop)
        licenses = [(link.url or "", link.rel) for link in head.link if link.rel and _LICENSE in link.rel.lower()]
        for link in html.links:
            if link.path == _IMAGE_PATH:
                _add_image(images, link)
            elif link.path == _LINK_PATH and _may_be_license(link):
                licenses.append((link.url or "", link.rel or ""))
        images.add_open_graph((meta.property or meta.name or "", meta.content or "") for meta in head.metas)
        return images.found(choose_license(base, licenses), (head.title or "").strip()[:MAX_TITLE])


def _add_image(images: PageImages, link: _Link) -> None:
    if not images.admit():
        return
    texts: Texts = []
    append_text(texts, ALT, link.alt)
    append_text(texts, TITLE, link.title)
    src = (link.url or "").strip()
    if not texts:
        images.drop(NO_TEXT)
    elif not src:
        images.drop(NO_URL, "", texts)
    elif is_data(src):
        images.drop(DATA_URI, src, texts)
    else:
        images.add(Reference(src, SRC), texts)


def _may_be_license(link: _Link) -> bool:
    if link.rel and _LICENSE in link.rel.lower():
        return True
    return link.url is not None and _DEEDS in link.url


def _whole_number(value: str | int | None) -> int | None:
    if isinstance(value, int):
        return value if 0 <= value < 10**_MAX_DIGITS else None
    digits = (value or "").strip()
    return int(digits) if len(digits) <= _MAX_DIGITS and digits.isascii() and digits.isdigit() else None


def _decode(block: bytes, count: Count, where: str) -> _Wat | None:
    """Return the envelope, or None if the block is not a JSON object with one."""
    try:
        return _DECODER.decode(block)
    except (ValueError, RecursionError):
        pass
    # msgspec is strict; json accepts unpaired surrogates and control characters.
    try:
        value = json.loads(block.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    wat = _lenient(_Wat, value) if isinstance(value, dict) and isinstance(value.get("Envelope"), dict) else None
    if wat is not None:
        count(REPAIRED_JSON, 1, where)
    return wat


def _lenient(struct: type[_S], values: dict[str, Any]) -> _S:
    """Return a struct from decoded JSON, ignoring values of a wrong type."""
    fields = {}
    for info in msgspec.structs.fields(struct):
        value = _lenient_value(info.type, values.get(info.encode_name))
        if value is not None:
            fields[info.name] = value
    return struct(**fields)


def _lenient_value(kind: Any, value: object) -> object:
    """Return the value if it has the type, else None; of lists and dicts, only the items that have the type."""
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    for option in options:
        item_types = get_args(option)
        if isinstance(value, str):
            if option is str:
                return _SURROGATE.sub("\ufffd", value)
        elif isinstance(value, list):
            if get_origin(option) is list:
                items = (_lenient_value(item_types[0], item) for item in value)
                return [item for item in items if item is not None]
        elif isinstance(value, dict):
            if get_origin(option) is dict:
                pairs = ((key, _lenient_value(item_types[1], item)) for key, item in value.items())
                return {key: item for key, item in pairs if item is not None}
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                return _lenient(option, value)
        elif option is int and type(value) is int:
            return value
    return None
