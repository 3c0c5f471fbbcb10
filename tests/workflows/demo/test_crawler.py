import collections
import gzip
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest
from protego import Protego
from selectolax.lexbor import LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator

from openwit.schemas.common.errors import OpenWITError
from openwit.workflows.demo.crawler import crawl, file_of, links_of
from openwit.workflows.demo.sites import FRONT_PAGES, HELD_OUT
from openwit.workflows.demo.warc import WARC_DATE

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def crawled(port, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    return folder, crawl(folder, port)


def records(folder):
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise", no_record_parse=False):
                yield path.name, record, record.raw_stream.read()


def test_records_are_what_the_server_serves(crawled, get):
    responses = 0
    for _, record, body in records(crawled[0]):
        if record.rec_type != "response":
            continue
        responses += 1
        host, _, path = record.rec_headers["WARC-Target-URI"].removeprefix("http://").partition("/")
        answer = get(host.partition(".")[0], f"/{path}", **{"Accept-Encoding": "gzip"})
        assert (int(record.http_headers.get_statuscode()), body) == (answer.status, answer.body)
        assert record.http_headers["Content-Type"] == answer.headers["Content-Type"]
    assert responses > 30


def test_the_form_of_a_crawlers_files(crawled):
    kinds = collections.Counter()
    names = set()
    ids = collections.Counter()
    for name, record, _ in records(crawled[0]):
        if name not in names:
            assert record.rec_type == "warcinfo"
            names.add(name)
        kinds[record.rec_type] += 1
        ids[record.rec_headers["WARC-Record-ID"]] += 1
        assert record.rec_headers["WARC-Date"] == WARC_DATE
        if record.rec_type == "request":
            assert record.rec_headers["WARC-Concurrent-To"]
    assert names == {*(f"demo-{n:05d}.warc.gz" for n in range(4)), "heldout-00000.warc.gz"}
    assert kinds["request"] == kinds["response"] > 0
    assert max(ids.values()) == 1


def test_robots_are_obeyed(crawled, get):
    urls = [r.rec_headers["WARC-Target-URI"] for _, r, _ in records(crawled[0]) if r.rec_type == "response"]
    rules = {}
    for url in urls:
        host, _, path = url.removeprefix("http://").partition("/")
        name = host.partition(".")[0]
        if path == "robots.txt":
            continue
        assert name != "flaky"
        if name not in rules:
            answer = get(name, "/robots.txt")
            rules[name] = Protego.parse(answer.body.decode() if answer.status == 200 else "")
        assert rules[name].can_fetch(url, "openwit-demo-crawler"), url
    refused = [url for site in crawled[1] for url in site.refused]
    assert any("/admin/" in url for url in refused)
    assert any("?print=" in url for url in refused)
    assert {site.site for site in crawled[1] if not site.pages} == {"private", "flaky"}


def test_all_pages_of_all_sites_are_found(crawled, web):
    hidden = {"private", "flaky"}
    for site in crawled[1]:
        pages = [*(web / site.site).rglob("*.html"), *(web / site.site).rglob("*.htm")]
        expected = len([page for page in pages if "admin" not in page.parts]) if site.site not in hidden else 0
        assert site.pages == expected, site.site


def test_pictures_behind_robots_are_on_pages_that_were_crawled(crawled, declared):
    blog = b"".join(b for _, r, b in records(crawled[0]) if "//oddments" in (r.rec_headers["WARC-Target-URI"] or ""))
    hot = [p["address"].replace("@PORT@", "").encode() for p in declared if p["site"] in ("private", "flaky")]
    assert hot
    assert all(address.rpartition(b"/")[2] in blog for address in hot)


def test_references_on_pages_lead_to_the_declared_pictures(crawled, declared, get, port):
    found = set()
    for _, record, body in records(crawled[0]):
        if record.rec_type == "response" and "text/html" in record.http_headers["Content-Type"]:
            html = gzip.decompress(body) if record.http_headers["Content-Encoding"] == "gzip" else body
            charset = record.http_headers["Content-Type"].partition("charset=")[2] or "utf-8"
            found |= set(references(html.decode(charset, errors="replace"), record.rec_headers["WARC-Target-URI"]))
    for picture in declared:
        address = picture["address"].replace("@PORT@", str(port))
        assert address in found, address
    for address in sorted(found):
        if address.startswith(f"http://{HELD_OUT}."):
            host, _, path = address.removeprefix("http://").partition("/")
            assert get(host.partition(".")[0], f"/{path}").headers["Content-Type"] == "image/jpeg"


def references(html, url):
    """Addresses of the pictures of a page: sources, lazy sources and source sets, without queries."""
    tree = LexborHTMLParser(html)
    base = tree.css_first("base")
    url = base.attributes["href"] if base else url
    for node in tree.css("img, source"):
        for name in ("src", "data-src", "data-original"):
            value = node.attributes.get(name)
            if value and not value.startswith("data:"):
                yield quote(urljoin(url, value).partition("?")[0], safe=":/%~")
        for part in (node.attributes.get("srcset") or "").split(","):
            if part.strip():
                yield urljoin(url, part.split()[0]).partition("?")[0]


def test_the_same_web_gives_the_same_files(crawled, port, tmp_path):
    crawl(tmp_path, port)
    for path in crawled[0].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_sites_are_spread_over_the_files():
    files = {file_of(site, 4) for site in FRONT_PAGES}
    assert len(files) == 5
    assert file_of("gallery", 4) == "heldout-00000.warc.gz"


def test_links_of_a_page():
    body = b"""<base href="/deep/"><a href=one.html>1</a><A HREF='../two.html#x'>2</a><a href="mailto:a@b">m</a>
    <a href="http://[bad">b</a><a href="">here</a><a>none</a><a href=one.html>again</a>"""
    assert links_of(body, None, "http://a.localhost/x/y.html") == [
        "http://a.localhost/deep/one.html",
        "http://a.localhost/two.html",
        "http://a.localhost/deep/",
    ]


def test_nothing_listens(tmp_path):
    with pytest.raises(OpenWITError, match="nothing on port 1 serves the little web"):
        crawl(tmp_path / "crawl", 1)
    assert not (tmp_path / "crawl").exists()


def test_all_in_one_command(tmp_path):
    command = [
        sys.executable,
        "-m",
        "openwit.workflows.demo",
        "all",
        "--out",
        str(tmp_path),
        "--port",
        "0",
        "--concepts",
        "2",
    ]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "complete already" in second.stdout
    assert len(list((tmp_path / "crawl").iterdir())) == 5
    assert (tmp_path / "wikipedia" / "enwiki-pages-articles.xml.bz2").exists()
