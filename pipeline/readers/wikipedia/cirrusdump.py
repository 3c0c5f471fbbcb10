"""Read the articles of a CirrusSearch dump: Wikipedia's search index as JSON, with clean plain text.

The format: lines in pairs, Elasticsearch's bulk form. First the action, `{"index":{"_type":"page","_id":"12"}}` (newer
dumps omit `_type`), then the document: `namespace`, `title`, `text`, `template`, `category`, `redirect` (the
redirects that lead *to* the page), `heading`, `incoming_links` and more (as WikiExtractor's cirrus-extract.py reads
it). Until 2025-12-29 a wiki was one file, https://dumps.wikimedia.org/other/cirrussearch/ (there DEPRECATED.txt;
Phabricator T401923 is why); since then it is many, .../other/cirrus_search_index/DATE/index_name=enwiki_content/
enwiki_content-DATE-00000.json.bz2. `popularity_score`, a page's share of all page views, is reported missing from the
newer files; `incoming_links` is in both.

`text` is used unchanged. MediaWiki made it from the rendered page, without headings (those are in `heading`), tables
and infoboxes (`auxiliary_text`), but with the entries of reference lists in older dumps ("  ^ ..."). Paragraphs and
sections are separated by a space, not a newline: where a section ends without a full stop (a list, a caption), its
last word and the first word of the next section are counted as a bigram, unlike in wikitext, which is read line by
line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.readers.crawl.archive_file import Source, open_source
from openwit.pipeline.readers.crawl.decompress import plain_chunks
from openwit.pipeline.readers.wikipedia.wikidump import (
    DAMAGED_PAGE,
    DISAMBIGUATION,
    EMPTY_ARTICLE,
    NOT_WIKITEXT,
    OTHER_NAMESPACE,
    PAGES,
    REDIRECT,
)

DAMAGED_LINE = Reason("damaged_line", "a line of the dump that could not be read")
CIRRUS_REASONS = (
    OTHER_NAMESPACE, REDIRECT, DISAMBIGUATION, NOT_WIKITEXT, EMPTY_ARTICLE, DAMAGED_PAGE, DAMAGED_LINE,
)  # fmt: skip
"""Why a page is not an article whose words are counted; pages = articles + the sum of the reasons.

`damaged_page`: its document has no title or no text, or its index line has no document. `damaged_line`: not JSON of
the dump's form, longer than 64 MiB, or cut off; each such line counts as a page.
"""

_MAX_LINE_BYTES = 64 << 20
_SNIFF_BYTES = 1 << 20
_BLANKS = b" \t\r\n\xef\xbb\xbf"

_DISAMBIGUATION_TITLE = re.compile(
    r"\((?:disambiguation|begriffsklärung|homonymie|desambiguaci[oó]n|desambiguação|disambigua|doorverwijspagina|"
    r"ujednoznacznienie|значения|значення|olika betydelser|曖昧さ回避|消歧義|消歧义|동음이의)\)$",
    re.IGNORECASE,
)
# "disambiguation needed" and similar templates mark a link in an article.
_DISAMBIGUATION_TEMPLATE = re.compile(
    r"(?:[\w ()/-]{0,40}\bdisambig(?:uation|ua|uasi)?(?:[ -](?!needed|link|inline)[\w ]{1,40})?|"
    r"[\w -]{0,40}\bdab|"
    r"hndis|geodis|surname|given name|begriffsklärung|homonymie|desambiguaci[oó]n|desambig(?:uação)?|dp|"
    r"ujednoznacznienie|неоднозначность|неоднозначність|förgrening|täsmennyssivu|rozcestník|egyértelműsítő|"
    r"anlam ayrımı|aimai|曖昧さ回避|동음이의|消歧义|消歧義|توضيح)",
    re.IGNORECASE,
)
_DISAMBIGUATION_CATEGORY = re.compile(
    r"(?:(?:[\w ]{0,60} )?disambiguation pages(?: [\w ]{1,60})?|begriffsklärung|homonymie|"
    r"(?:wikipedia:)?desambiguación|"
    r"pagine di disambiguazione|wikipedia:doorverwijspagina|strony ujednoznaczniające|!?desambiguaç(?:ão|ões)|"
    r"страницы значений.*|многозначные термины|багатозначні терміни|förgreningssidor|曖昧さ回避|"
    r"(?:全部)?消歧[义義](?:页|頁|页面|頁面)?|동음이의어 문서|صفحات توضيح)",
    re.IGNORECASE,
)
# In any language: "#REDIRECT [[", "#WEITERLEITUNG: [["
_REDIRECT_START = re.compile(r"\s*#\s*[^\W\d_][\w ]{0,40}:?\s*\[\[")


@dataclass(frozen=True, slots=True)
class CirrusArticle:
    """An article of the main namespace.

    Attributes:
        title: as Wikipedia writes it, with spaces.
        text: plain text, as in the dump.
        page_id: Wikipedia's id of the page, or -1.
        popularity: the page's share of the wiki's page views, 0 to 1, or None.
        incoming_links: number of pages of the wiki that link to it, or None.
    """

    title: str
    text: str
    page_id: int
    popularity: float | None
    incoming_links: int | None


class _Target(msgspec.Struct):
    id: str | int | None = msgspec.field(default=None, name="_id")


class _Action(msgspec.Struct):
    index: _Target


class _Document(msgspec.Struct):
    title: str | None = None
    text: str | None = None
    namespace: int | None = None
    page_id: int | None = None
    popularity_score: float | None = None
    incoming_links: int | None = None
    content_model: str | None = None
    source_text: msgspec.Raw = msgspec.Raw()
    # Elasticsearch treats a single value as a list of one.
    template: list[str] | str | None = None
    category: list[str] | str | None = None


_ACTIONS = msgspec.json.Decoder(_Action, strict=False)
_DOCUMENTS = msgspec.json.Decoder(_Document, strict=False)
_ACTION_START = re.compile(rb'\s*\{\s*"index"\s*:')
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def is_cirrus(source: Source) -> bool:
    """Return whether a dump is CirrusSearch's and not XML: its first character, decompressed, is `{`.

    A seekable file object is rewound to its start; one that is not seekable is consumed.

    Raises:
        DataError, NetworkError: the file cannot be opened.
    """
    file, stack = open_source(source)
    with stack:
        seen = 0
        first = b""
        for chunk in plain_chunks(file, ignore):
            first = chunk.lstrip(_BLANKS)[:1]
            seen += len(chunk)
            if first or seen >= _SNIFF_BYTES:
                break
        file.seek(0)
        return first == b"{"


def read_cirrus(source: Source, count: Count = ignore) -> Iterator[CirrusArticle]:
    """Yield the articles of a CirrusSearch dump (gzip, bzip2, zstd or plain, detected from magic bytes) in its order.

    Args:
        source: a path, a URL for fsspec, or an open binary file.
        count: receives `PAGES` for each page, one of `CIRRUS_REASONS` for each that is not an article, and
            `DUMP_DAMAGED` where the rest of the file cannot be read; everything before is read.

    Raises:
        DataError, NetworkError: the file cannot be opened. Damage inside is counted, never raised.
    """
    file, stack = open_source(source)
    with stack:
        pending: _Target | None = None
        for line in _lines(plain_chunks(file, count)):
            found = None if line is None else _parsed(line)
            if isinstance(found, _Target):
                if pending is not None:
                    _count_page(count, DAMAGED_PAGE, "an index line without a document")
                pending = found
                continue
            if found is None:
                _count_page(count, DAMAGED_LINE, "too long or cut off" if line is None else repr(line[:80]))
            else:
                count(PAGES)
                article = _article(found, pending, count)
                if article is not None:
                    yield article
            pending = None
        if pending is not None:
            _count_page(count, DAMAGED_PAGE, "the dump ends after an index line")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yield lines that are not blank; None for one that is too long or cut off."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if not chunk:
            if size:
                yield None
            return
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            size += end - begin
            if size > _MAX_LINE_BYTES:
                yield None
            else:
                parts.append(chunk[begin:end])
                line = b"".join(parts)
                if not line.isspace() and line:
                    yield line
            parts.clear()
            size = 0
            begin = end + 1
        size += len(chunk) - begin
        if size > _MAX_LINE_BYTES:
            parts.clear()
        else:
            parts.append(chunk[begin:])
    if size > _MAX_LINE_BYTES:
        yield None
    elif (line := b"".join(parts)) and not line.isspace():
        yield line


def _parsed(line: bytes) -> _Target | _Document | None:
    try:
        if _ACTION_START.match(line):
            return _ACTIONS.decode(line).index
        return _DOCUMENTS.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except _UNREADABLE:
        return None


def _count_page(count: Count, reason: str, detail: str) -> None:
    count(PAGES)
    count(reason, 1, detail)


def _article(document: _Document, target: _Target | None, count: Count) -> CirrusArticle | None:
    reason = _why_not(document)
    if reason is not None:
        count(reason)
        return None
    assert document.title is not None
    assert document.text is not None
    return CirrusArticle(
        document.title,
        document.text,
        _page_id(document, target),
        document.popularity_score,
        document.incoming_links,
    )


def _why_not(document: _Document) -> str | None:
    if not document.title or document.text is None:
        return DAMAGED_PAGE
    if document.namespace:
        return OTHER_NAMESPACE
    if _is_redirect(document.source_text):
        return REDIRECT
    if document.content_model not in (None, "wikitext"):
        return NOT_WIKITEXT
    if not document.text.strip():
        return EMPTY_ARTICLE
    if _is_disambiguation(document):
        return DISAMBIGUATION
    return None


def _is_redirect(source_text: msgspec.Raw) -> bool:
    """Return whether a page became a redirect after it was indexed (the index has no others)."""
    raw = bytes(memoryview(source_text)[:400])
    if not raw.startswith((b'"#', b'"\\n#', b'" #')):
        return False
    try:
        wikitext = msgspec.json.decode(source_text, type=str)
    except _UNREADABLE:
        return False
    return _REDIRECT_START.match(wikitext) is not None


def _is_disambiguation(document: _Document) -> bool:
    assert document.title is not None
    if _DISAMBIGUATION_TITLE.search(document.title):
        return True
    # A template's name begins with its namespace, in the wiki's language.
    templates = (name.partition(":")[2] for name in _names(document.template))
    if any(_DISAMBIGUATION_TEMPLATE.fullmatch(name) for name in templates):
        return True
    return any(_DISAMBIGUATION_CATEGORY.fullmatch(name) for name in _names(document.category))


def _names(value: list[str] | str | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _page_id(document: _Document, target: _Target | None) -> int:
    if target is not None and target.id is not None:
        try:
            return int(target.id)
        except ValueError:
            pass
    return -1 if document.page_id is None else document.page_id
