"""Pages per CPU second: from a WARC file to (image URL, text) pairs, against the usual ways.

    python benchmarks/candidates.py --warc ../shared/data/pages.warc.gz

Peers extract (src, alt) of every `<img>` with both, resolved against the page: warcio + BeautifulSoup (html.parser),
and fastwarc + lxml. Ours does all that the candidates stage does per page (charset, srcset, lazy loading, noscript,
og:image, captions, rules), so it does more for each page; `ours, src + alt` takes the peers' pairs and no more.
Runs are interleaved in one process; the median of the CPU times counts. Ours is run on the slow peer's subset of
pages too, so that every ratio compares equal work.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import lxml.html
from bs4 import BeautifulSoup
from fastwarc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from openwit.pipeline.readers.crawl.warc import read_pages
from openwit.pipeline.readers.pages.charset import to_utf8
from openwit.pipeline.readers.pages.html import extract

Pairs = set[tuple[str, str]]


def ours(warc: Path, limit: int) -> tuple[int, Pairs]:
    """The project's reader and extractor, everything they find."""
    pairs: Pairs = set()
    pages = 0
    for page in read_pages(warc):
        if pages == limit:
            break
        pages += 1
        pairs.update((image.url, text) for image in extract(page) for _, text in image.texts)
    return pages, pairs


def ours_src_alt(warc: Path, limit: int) -> tuple[int, Pairs]:
    """The project's reader, charset and parser, but only what the peers take: src and alt."""
    pairs: Pairs = set()
    pages = 0
    for page in read_pages(warc):
        if pages == limit:
            break
        pages += 1
        tree = LexborHTMLParser(to_utf8(page.body, page.charset), options=LexborDocumentOptions.WO_EVENTS)
        for image in tree.css("img"):
            attributes = image.attributes
            _add(pairs, page.url, attributes.get("src"), attributes.get("alt"))
    return pages, pairs


def warcio_bs4(warc: Path, limit: int) -> tuple[int, Pairs]:
    """warcio and BeautifulSoup with Python's own parser."""
    pairs: Pairs = set()
    pages = 0
    with warc.open("rb") as file:
        for record in WarcioIterator(file):
            if record.rec_type != "response" or pages == limit:
                continue
            pages += 1
            url = record.rec_headers.get_header("WARC-Target-URI")
            for image in BeautifulSoup(record.content_stream().read(), "html.parser").find_all("img"):
                _add(pairs, url, image.get("src"), image.get("alt"))
    return pages, pairs


def fastwarc_lxml(warc: Path, limit: int) -> tuple[int, Pairs]:
    """fastwarc and lxml."""
    pairs: Pairs = set()
    pages = 0
    with warc.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, auto_decode="all"):
            if pages == limit:
                break
            pages += 1
            url = record.headers.get("WARC-Target-URI")
            try:
                tree = lxml.html.document_fromstring(record.reader.read())
            except (lxml.etree.ParserError, ValueError):
                continue
            for image in tree.iter("img"):
                _add(pairs, url, image.get("src"), image.get("alt"))
    return pages, pairs


def _add(pairs: Pairs, page: str, src: str | None, alt: str | None) -> None:
    if src and alt and alt.strip():
        try:
            pairs.add((urljoin(page, src.strip()), alt.strip()))
        except ValueError:
            return


def measure(
    candidates: dict[str, Callable[[Path, int], tuple[int, Pairs]]], warc: Path, limit: int, repeats: int
) -> dict[str, tuple[float, int, int]]:
    """Pages per CPU second, pages and pairs of each candidate, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    results: dict[str, tuple[int, int]] = {}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.process_time()
            pages, pairs = run(warc, limit)
            seconds[name].append(time.process_time() - start)
            results[name] = (pages, len(pairs))
    return {name: (results[name][0] / statistics.median(seconds[name]), *results[name]) for name in candidates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warc", type=Path, required=True, help="WARC file with HTML responses")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bs4-pages", type=int, default=64, help="pages for BeautifulSoup, which is slow")
    arguments = parser.parse_args()

    fast = {"ours": ours, "ours, src + alt": ours_src_alt, "fastwarc + lxml": fastwarc_lxml}
    slow = {"ours": ours, "ours, src + alt": ours_src_alt, "warcio + BeautifulSoup": warcio_bs4}
    for candidates, limit, repeats in ((fast, -1, arguments.repeats), (slow, arguments.bs4_pages, 1)):
        figures = measure(candidates, arguments.warc, limit, repeats)
        full, same = figures["ours"][0], figures["ours, src + alt"][0]
        for name, (rate, pages, pairs) in figures.items():
            ratios = "" if name.startswith("ours") else f"   ours {full / rate:.1f} x, same pairs {same / rate:.1f} x"
            print(f"{name:24s} {rate:8.1f} pages/CPU s   {pages} pages, {pairs} pairs{ratios}")
        print()


if __name__ == "__main__":
    main()
