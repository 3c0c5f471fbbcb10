"""Prepare the pictures: from a table of photographs with titles, or from a WARC file with pages and images."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.warc import ArchiveIterator, WarcRecordType

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError
from openwit.workflows.demo.warc import Exchange, write_warc
from openwit.workflows.photos.server import Body

PHOTO_HOSTS = 20
"""Number of hosts over which the photos are spread."""
_PHOTO_COLUMNS = ("jpeg", "title")
_ADDRESS = re.compile(rb"(?i)(?:\bhttps?:)?//((?:[a-z0-9-]+\.)+[a-z]{2,})(?::\d+)?(?=[/\"'?#\s>]|$)")
_HOP_BY_HOP = frozenset({"transfer-encoding", "content-encoding", "content-length", "connection", "keep-alive"})


def table_of_photos(photos: Path, out: Path, port: int) -> dict[tuple[str, str], Body]:
    """Write a table of URL, text and licence for a table of photographs, and return the responses of its URLs.

    Args:
        photos: Parquet file with the columns jpeg and title; license where it has one.
        out: the table written, with `url`, `text` and `license`.

    Raises:
        DataError: the file does not exist, or it lacks a column.
    """
    try:
        table = pq.read_table(photos)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{photos} cannot be read as a table of photographs: {error}") from error
    missing = [name for name in _PHOTO_COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"{photos} has no column {missing[0]!r}")
    pages: dict[tuple[str, str], Body] = {}
    urls = []
    for n, jpeg in enumerate(table.column("jpeg").to_pylist()):
        host, path = f"photos{n % PHOTO_HOSTS}.localhost", f"/{n}.jpg"
        pages[host, path] = Body(jpeg, "image/jpeg")
        urls.append(f"http://{host}:{port}{path}")
    licences = table.column("license") if "license" in table.column_names else pa.nulls(len(urls), pa.string())
    with atomic_path(out) as temporary:
        pq.write_table(pa.table({"url": urls, "text": table.column("title"), "license": licences}), temporary)
    return pages


def crawl_with_images(warc: Path, out: Path, port: int) -> tuple[dict[tuple[str, str], Body], list[bytes]]:
    """Move a crawl to this machine: its pages into a WARC file, its images into the responses of a server.

    Every host gets `.localhost` and the port behind its name, in the addresses of the records and in those of the
    pages, so that nothing outside is asked. Nothing else is changed.

    Args:
        warc: a WARC file with pages and images.
        out: the WARC file written, with its HTML pages.

    Returns:
        What a server must serve, and the bodies of the HTML pages.

    Raises:
        DataError: the file does not exist or holds no page.
    """
    exchanges, images = _read(warc)
    if not exchanges:
        raise DataError(f"{warc} holds no HTML page")
    moved = [
        Exchange(
            _moved(e.url, port), e.request_headers, e.status, e.reason, e.response_headers,
            _ADDRESS.sub(lambda found: b"http://" + _host(found[1].decode(), port).encode(), e.body),
        )
        for e in exchanges
    ]  # fmt: skip
    write_warc(out, moved, "openwit photos workflow")
    pages = {}
    for url, body in images.items():
        parts = urlsplit(_moved(url, port))
        pages[parts.hostname or "", parts.path + (f"?{parts.query}" if parts.query else "")] = body
    return pages, [exchange.body for exchange in moved]


def _read(warc: Path) -> tuple[list[Exchange], dict[str, Body]]:
    if not warc.is_file():
        raise DataError(f"{warc} does not exist")
    exchanges: list[Exchange] = []
    images: dict[str, Body] = {}
    with warc.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
            url, head = record.headers.get("WARC-Target-URI") or "", record.http_headers
            if head is None or head.status_code != 200 or not url.startswith("http"):
                continue
            kind = (head.get("Content-Type") or "").partition(";")[0].strip().lower()
            if kind == "text/html":
                fields = tuple((k, v) for k, v in head.items() if k.lower() not in _HOP_BY_HOP)
                exchanges.append(Exchange(url, (), 200, "OK", fields, record.reader.read()))
            elif kind.startswith("image/"):
                images[url] = Body(record.reader.read(), kind)
    return exchanges, images


def _moved(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(scheme="http", netloc=_host(parts.netloc, port)).geturl()


def _host(netloc: str, port: int) -> str:
    return f"{netloc.partition(':')[0]}.localhost:{port}"


def write_queries(path: Path, words: list[str]) -> None:
    """Write a query list, one query per line."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(words) + "\n", encoding="utf-8")


def frequent_words(texts: list[str], at_least: int = 2) -> list[str]:
    """Return the words of at least three letters that occur in `at_least` texts, in order: a small query list."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in sorted(set(re.findall(r"[^\W\d_]{3,}", text.lower()))):
            counts[word] = counts.get(word, 0) + 1
    return sorted(word for word, n in counts.items() if n >= at_least)
