"""Read the articles of a Wikipedia dump (`pages-articles` XML) from bzip2 (multistream or not), gzip or plain files.

Pages are cut out of the stream by their tags, without an XML parser: the dump writer's format is fixed, memory is
limited, and a truncated dump gives all pages before its end.
"""

import bz2
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.readers.crawl.archive_file import Source, open_source
from openwit.pipeline.readers.crawl.decompress import DUMP_DAMAGED, READ_BYTES, plain_chunks

PAGES = "pages"
DUMP_NOTES = (PAGES, DUMP_DAMAGED)
"""Notes counted beside the reasons: pages seen, and stretches of the dump that could not be read."""

OTHER_NAMESPACE = Reason("other_namespace", "a page that is no article")
REDIRECT = Reason("redirect", "an article that only points to another")
DISAMBIGUATION = Reason("disambiguation", "a page that lists the meanings of a name")
NOT_WIKITEXT = Reason("not_wikitext", "a page in another format than wikitext")
EMPTY_ARTICLE = Reason("empty_article", "an article without text")
DAMAGED_PAGE = Reason("damaged_page", "a page of the dump that could not be read")
ARTICLE_REASONS = (OTHER_NAMESPACE, REDIRECT, DISAMBIGUATION, NOT_WIKITEXT, EMPTY_ARTICLE, DAMAGED_PAGE)
"""Why a page is not an article whose words are counted; pages = articles + the sum of the reasons."""

_MAX_DAMAGED = 1000  # streams of a part of a dump
_MAX_PAGE_BYTES = 64 << 20  # MediaWiki's limit is 2 MiB of wikitext; more is damage

_BZIP2_START = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # a stream's first block, or the end of an empty one
_BZIP2_START_BYTES = 10

_NAMESPACE = re.compile(rb"<ns>\s*+(-?\d{1,9})\s*+</ns>")
_ID = re.compile(rb"<id>\s*+(\d{1,18})\s*+</id>")
_MODEL = re.compile(rb"<model>([^<]*+)</model>")
_TEXT_TAG = re.compile(rb"<text(?:\s[^<>]*+)?+>|<text/>")
_REDIRECT = re.compile(
    r"\s*+#\s*+(?:redirect|weiterleitung|redirection|redirección|rinvia|redirecionamento|doorverwijzing|patrz|"
    r"перенаправление|перенаправлення|omdirigering|ohjaus|přesměruj|átirányítás|yönlendi̇?rme|転送|리다이렉트|重定向|تحويل)\b",
    re.IGNORECASE,
)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*+(?:[\w ()/-]{0,40}\bdisambig(?:uation|ua|uasi)?(?! needed| inline)(?:[ -][\w ]{1,40})?|"
    r"[\w -]{0,40}\bdab|hndis|geodis|surname|given name|"
    r"begriffsklärung|homonymie|desambiguaci[oó]n|desambig(?:uação)?|dp|ujednoznacznienie|неоднозначность|"
    r"неоднозначність|förgrening|täsmennyssivu|rozcestník|egyértelműsítő|anlam ayrımı|aimai|"
    r"曖昧さ回避|동음이의|消歧义|"
    r"توضيح)\s*+(?:\||\}\})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Article:
    """An article of the main namespace.

    Attributes:
        title: as Wikipedia writes it, with spaces.
        text: wikitext (see `openwit.pipeline.readers.wikipedia.wikitext.plain_text`).
        page_id: Wikipedia's id of the page, or -1.
    """

    title: str
    text: str
    page_id: int


def read_articles(
    source: Source, count: Count = ignore, *, start: int = 0, end: int | None = None
) -> Iterator[Article]:
    """Yield the articles of a dump in its order.

    A byte range of a multistream bzip2 dump can be read by itself: the streams that begin in [start, end). Disjoint
        ranges have no page in common, and together they give the whole dump, so that many readers can share one file
        without an index. Other files cannot be divided: only the range that includes byte 0 has their pages.

    Args:
        source: a path, a URL for fsspec, or an open binary file.
        count: receives `PAGES` for each page, one of `ARTICLE_REASONS` for each that is not an article, and
            `DUMP_DAMAGED`.
        start, end: byte range of the compressed file.

    Raises:
        DataError, NetworkError: the file cannot be opened. Damage inside is counted, never raised.
    """
    file, stack = open_source(source)
    with stack:
        for page in _pages(_plain_chunks(file, count, start, end), count):
            count(PAGES)
            article = _article(page, count)
            if article is not None:
                yield article


def _plain_chunks(file: BinaryIO, count: Count, start: int, end: int | None) -> Iterator[bytes]:
    """Yield decompressed bytes; an empty chunk where a damaged stretch is missing."""
    head = file.read(_BZIP2_START_BYTES)
    file.seek(0)
    if _BZIP2_START.match(head):
        yield from _bzip2_chunks(file, count, start, end)
        return
    if start == 0:
        yield from plain_chunks(file, count)


def _bzip2_chunks(file: BinaryIO, count: Count, start: int, end: int | None) -> Iterator[bytes]:
    position = _next_stream(file, start)
    damaged = 0
    while position is not None and (end is None or position < end):
        file.seek(position)
        decompressor = bz2.BZ2Decompressor()
        consumed = position
        try:
            while not decompressor.eof:
                data = file.read(READ_BYTES) if decompressor.needs_input else b""
                if decompressor.needs_input and not data:
                    count(DUMP_DAMAGED, 1, f"the file ends inside the bzip2 stream at byte {position}")
                    return
                consumed += len(data)
                yield decompressor.decompress(data, 4 * READ_BYTES)
        except OSError as error:
            count(DUMP_DAMAGED, 1, f"bzip2 stream at byte {position}: {error}")
            yield b""
            damaged += 1
            if damaged == _MAX_DAMAGED:  # hardly a dump: each costs a search for the next stream
                count(DUMP_DAMAGED, 1, f"everything after byte {position}: {damaged} streams are damaged")
                return
            position = _next_stream(file, position + 1)
            continue
        position = consumed - len(decompressor.unused_data)
        file.seek(position)
        if not _BZIP2_START.match(file.read(_BZIP2_START_BYTES)):
            position = _next_stream(file, position)


def _next_stream(file: BinaryIO, position: int) -> int | None:
    file.seek(position)
    tail = b""
    while chunk := file.read(READ_BYTES):
        window = tail + chunk
        found = _BZIP2_START.search(window)
        if found is not None:
            return position - len(tail) + found.start()
        position += len(chunk)
        tail = window[-(_BZIP2_START_BYTES - 1) :]
    return None


def _pages(chunks: Iterator[bytes], count: Count) -> Iterator[bytes]:
    buffer = b""
    searched = 0  # of the buffer, for the end of the page that begins in it
    for chunk in chunks:
        if not chunk and b"<page>" in buffer:  # damage: an unfinished page has no end
            count(PAGES)
            count(DAMAGED_PAGE)
            buffer = b""
        buffer += chunk
        read = 0
        while True:
            begin = buffer.find(b"<page>", read)
            if begin < 0:
                buffer = buffer[max(read, len(buffer) - len(b"<page>")) :]
                searched = 0
                break
            finish = buffer.find(b"</page>", max(begin, searched))
            if finish < 0:
                buffer = buffer[begin:]
                searched = max(0, len(buffer) - len(b"</page>"))
                break
            yield buffer[begin:finish]
            read, searched = finish + len(b"</page>"), 0
        if len(buffer) > _MAX_PAGE_BYTES:
            count(PAGES)
            count(DAMAGED_PAGE, 1, f"a page of more than {_MAX_PAGE_BYTES} bytes")
            buffer = b""
            searched = 0
    if b"<page>" in buffer:
        count(PAGES)
        count(DAMAGED_PAGE, 1, "the dump ends inside a page")


def _article(page: bytes, count: Count) -> Article | None:
    title = _between(page, b"<title>", b"</title>")
    tag = _TEXT_TAG.search(page)
    text = None if tag is None else _text(page, tag)
    if title is None or tag is None or text is None:
        count(DAMAGED_PAGE, 1, "a page without title or text")
        return None
    header = page[: tag.start()]
    namespace = _NAMESPACE.search(header)
    if namespace is not None and namespace.group(1) != b"0":
        count(OTHER_NAMESPACE)
        return None
    if b"<redirect" in header:
        count(REDIRECT)
        return None
    model = _MODEL.search(header)
    if model is not None and model.group(1) != b"wikitext":
        count(NOT_WIKITEXT)
        return None
    name = _unescaped(title)
    wikitext = _unescaped(text)
    if not wikitext.strip():
        count(EMPTY_ARTICLE)
        return None
    if _REDIRECT.match(wikitext):
        count(REDIRECT)
        return None
    if name.endswith("(disambiguation)") or _DISAMBIGUATION.search(wikitext):
        count(DISAMBIGUATION)
        return None
    identifier = _ID.search(header)
    return Article(name, wikitext, int(identifier.group(1)) if identifier is not None else -1)


def _between(page: bytes, opening: bytes, closing: bytes) -> bytes | None:
    begin = page.find(opening)
    end = page.find(closing, begin) if begin >= 0 else -1
    return page[begin + len(opening) : end] if end >= 0 else None


def _text(page: bytes, tag: re.Match[bytes]) -> bytes | None:
    if tag.group().endswith(b"/>"):
        return b""
    end = page.rfind(b"</text>", tag.end())
    return page[tag.end() : end] if end >= 0 else None


def _unescaped(xml: bytes) -> str:
    text = xml.decode("utf-8", "replace")
    if "&" not in text:
        return text
    # The dump writer escapes only these; &amp; must be last, or it would create others.
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#039;", "'"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text
