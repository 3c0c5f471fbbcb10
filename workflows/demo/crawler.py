"""Crawl the pages of all sites politely, breadth first from their front pages, with one connection per host."""

import asyncio
import hashlib
import socket
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from protego import Protego
from selectolax.lexbor import LexborHTMLParser

from openwit.schemas.common.errors import NetworkError
from openwit.workflows.demo.progress import Advance, progress
from openwit.workflows.demo.sites import FRONT_PAGES, HELD_OUT
from openwit.workflows.demo.warc import Exchange, write_warc

AGENT = "openwit-demo-crawler/1.0 (+http://localhost/)"
ROBOTS_TOKEN = "openwit-demo-crawler"
PAGES_PER_SITE = 1_000
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_LARGEST_PAGE = 8 * 1024 * 1024


@dataclass
class SiteCrawl:
    """The result of the crawl of one site."""

    site: str
    exchanges: list[Exchange] = field(default_factory=list)
    pages: int = 0  # answers of status 200 with HTML
    refused: list[str] = field(default_factory=list)  # addresses robots.txt keeps us from
    failed: list[str] = field(default_factory=list)  # addresses that gave no answer


class LoopbackResolver(AbstractResolver):
    """Resolve `localhost` and names below it to loopback (RFC 6761 section 6.3), whatever the system does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The loopback address; raises OSError for other names."""
        del family
        if host != "localhost" and not host.endswith(".localhost"):
            raise OSError(f"{host} is not on this machine")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """Holds nothing."""


def crawl(folder: Path, port: int, files: int = 4) -> list[SiteCrawl]:
    """Crawl the little web that is served on a port and write it as WARC files.

    Training and other sites go to `demo-00000.warc.gz` and so on, by a hash of their name; the held-out site goes to
    `heldout-00000.warc.gz`, so that a build can leave it out by file.

    Raises:
        NetworkError: nothing answers on the port, or what answers is not the little web.
    """
    with progress("crawling", None, "pages") as advance:
        crawls = asyncio.run(_crawl_all(FRONT_PAGES, port, advance))
    if not any(site.pages for site in crawls):
        raise NetworkError(
            f"nothing on port {port} serves the little web; start it with: python -m openwit.workflows.demo serve"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, exchanges in _by_file(crawls, files).items():
        write_warc(folder / name, exchanges, AGENT)
    return crawls


def file_of(site: str, files: int) -> str:
    """Return the WARC file of a site."""
    if site == HELD_OUT:
        return "heldout-00000.warc.gz"
    number = int.from_bytes(hashlib.blake2b(site.encode(), digest_size=8).digest(), "big") % files
    return f"demo-{number:05d}.warc.gz"


def links_of(body: bytes, charset: str | None, url: str) -> list[str]:
    """Return the http addresses that a page links to, absolute, without fragments, in order, each once."""
    tree = LexborHTMLParser(body.decode(charset or "utf-8", errors="replace"))
    base_node = tree.css_first("base[href]")
    base = urljoin(url, (base_node.attributes["href"] or "") if base_node else "")
    links: dict[str, None] = {}
    for node in tree.css("a[href]"):
        try:
            link = urldefrag(urljoin(base, (node.attributes["href"] or "").strip())).url
        except ValueError:  # a malformed address, such as an unclosed IPv6 bracket
            continue
        if link.startswith(("http://", "https://")):
            links[link] = None
    return list(links)


async def _crawl_all(sites: Sequence[str], port: int, advance: Advance) -> list[SiteCrawl]:
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), limit_per_host=1)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=_TIMEOUT,
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
    ) as session:
        return list(await asyncio.gather(*(_crawl_site(session, site, port, advance) for site in sites)))


async def _crawl_site(session: aiohttp.ClientSession, site: str, port: int, advance: Advance) -> SiteCrawl:
    result = SiteCrawl(site)
    authority = f"{site}.localhost:{port}"
    front = f"http://{authority}/"
    robots = await _robots(session, authority, result)
    if robots is None:
        result.refused.append(front)
        return result
    pause = float(robots.crawl_delay(ROBOTS_TOKEN) or 0.0)
    queue, seen = deque([front]), {front}
    while queue and result.pages < PAGES_PER_SITE:
        url = queue.popleft()
        if not robots.can_fetch(url, ROBOTS_TOKEN):
            result.refused.append(url)
            continue
        await asyncio.sleep(pause)
        for link in await _fetch_page(session, url, result, advance):
            if link not in seen and urlsplit(link).netloc == authority and not _is_picture(link):
                seen.add(link)
                queue.append(link)
    return result


async def _robots(session: aiohttp.ClientSession, authority: str, result: SiteCrawl) -> Protego | None:
    """Return the site's rules, or None if nothing may be fetched, as after a server error (RFC 9309 2.3.1.4)."""
    exchange, text, _ = await _fetch(session, f"http://{authority}/robots.txt", result)
    if exchange is None or exchange.status >= 500:
        return None
    if exchange.status >= 400:
        return Protego.parse("")
    return Protego.parse(text.decode("utf-8", errors="replace"))


async def _fetch_page(session: aiohttp.ClientSession, url: str, result: SiteCrawl, advance: Advance) -> list[str]:
    exchange, body, answer = await _fetch(session, url, result)
    if exchange is None or answer is None or exchange.status != 200 or answer.content_type != "text/html":
        return []
    result.pages += 1
    advance()
    return links_of(body, answer.charset, url)


async def _fetch(
    session: aiohttp.ClientSession, url: str, result: SiteCrawl
) -> tuple[Exchange | None, bytes, aiohttp.ClientResponse | None]:
    """Fetch and record an address; return the exchange, the decompressed body, and the response's headers."""
    headers = {"User-Agent": AGENT, "Accept": "text/html,*/*;q=0.5", "Accept-Encoding": "gzip"}
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as answer:
            body = await answer.content.read(_LARGEST_PAGE)
            while not answer.content.at_eof() and len(body) < _LARGEST_PAGE:
                body += await answer.content.read(_LARGEST_PAGE - len(body))
    except (aiohttp.ClientError, TimeoutError, OSError):
        result.failed.append(url)
        return None, b"", None
    exchange = Exchange(
        url=url,
        request_headers=(("Host", urlsplit(url).netloc), *headers.items()),
        status=answer.status,
        reason=answer.reason or "",
        response_headers=tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers
        ),
        body=body,
    )
    result.exchanges.append(exchange)
    return exchange, _decompressed(body, answer.headers.get("Content-Encoding", "")), answer


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding != "gzip":
        return body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        return unpacker.decompress(body, _LARGEST_PAGE)
    except zlib.error:
        return b""


def _is_picture(url: str) -> bool:
    return urlsplit(url).path.lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"))


def _by_file(crawls: Sequence[SiteCrawl], files: int) -> dict[str, list[Exchange]]:
    """Return the exchanges of each file; a file without a site still exists, with its warcinfo alone."""
    contents: dict[str, list[Exchange]] = {f"demo-{number:05d}.warc.gz": [] for number in range(files)}
    for site in crawls:
        contents.setdefault(file_of(site.site, files), []).extend(site.exchanges)
    return contents
