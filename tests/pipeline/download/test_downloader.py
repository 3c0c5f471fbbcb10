import gzip
import itertools
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openwit.pipeline.download.downloader import Download, Downloader, DownloadSettings, FetchStatus
from openwit.pipeline.download.status import RETRY_LATER, RETRY_NOW, status_of_http
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings

IMAGE = b"\xff\xd8\xff" + bytes(range(256)) * 200


def settings(**changes: Any) -> DownloadSettings:
    base: dict[str, Any] = {
        "allow_networks": ("127.0.0.0/8",),
        "timeout_s": 4.0,
        "connect_timeout_s": 2.0,
        "stall_s": 1.0,
        "backoff_s": 0.05,
        "max_backoff_s": 0.2,
        "max_bytes": 1_000_000,
    }
    return DownloadSettings(**{**base, **changes})


def fetch(*urls: str, **changes: Any) -> dict[str, Download]:
    with Downloader(settings(**changes)) as downloader:
        downloads = list(downloader.download(urls))
    assert len(downloads) == len(urls)
    return {download.url: download for download in downloads}


def fetch_one(url: str, **changes: Any) -> Download:
    return fetch(url, **changes)[url]


# Answers


def test_success(web: Any) -> None:
    web.pages["/a.jpg"] = lambda h: h.reply(200, IMAGE, Content_Type="image/jpeg")
    download = fetch_one(web.url("/a.jpg"))
    assert download.status is FetchStatus.SUCCESS
    assert download.body == IMAGE
    assert (download.http_status, download.content_type, download.attempts) == (200, "image/jpeg", 1)
    assert download.final_url == download.url
    assert download.seconds > 0


def test_requests_say_who_asks(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    fetch_one(web.url("/a"), user_agent="OpenWIT/1 (mailto:me@example.org)")
    assert all(fields["User-Agent"] == "OpenWIT/1 (mailto:me@example.org)" for fields in web.headers)
    assert len(web.headers) == 2


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (404, FetchStatus.HTTP_NOT_FOUND),
        (410, FetchStatus.HTTP_GONE),
        (401, FetchStatus.HTTP_FORBIDDEN),
        (403, FetchStatus.HTTP_FORBIDDEN),
        (451, FetchStatus.HTTP_FORBIDDEN),
        (429, FetchStatus.HTTP_RATE_LIMITED),
        (418, FetchStatus.HTTP_CLIENT_ERROR),
        (500, FetchStatus.HTTP_SERVER_ERROR),
        (503, FetchStatus.HTTP_SERVER_ERROR),
        (204, FetchStatus.EMPTY_BODY),
        (206, FetchStatus.BAD_RESPONSE),
        (300, FetchStatus.BAD_REDIRECT),
        (999, FetchStatus.BAD_RESPONSE),
    ],
)
def test_http_statuses(web: Any, code: int, status: FetchStatus) -> None:
    web.pages["/a"] = lambda h: h.reply(code, b"" if code == 204 else b"no image")
    download = fetch_one(web.url("/a"))
    assert (download.status, download.http_status, download.body) == (status, code, None)
    assert web.asked("/a") == (7 if code == 429 else 2 if status in RETRY_NOW else 1)


def test_every_http_status_has_a_class() -> None:
    assert all(status_of_http(code) in FetchStatus for code in range(1000))
    assert RETRY_NOW < RETRY_LATER
    assert FetchStatus.SUCCESS not in RETRY_LATER


def test_empty_body(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200)
    assert fetch_one(web.url("/a")).status is FetchStatus.EMPTY_BODY


def test_interim_answers_are_skipped(web: Any) -> None:
    def page(h: Any) -> None:
        h.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Robots-Tag: noai\r\n\r\n")
        h.reply(200, IMAGE)

    web.pages["/a"] = page
    assert fetch_one(web.url("/a")).status is FetchStatus.SUCCESS


def test_compressed_bodies_are_unpacked(web: Any) -> None:
    web.pages["/gzip"] = lambda h: h.reply(200, gzip.compress(IMAGE), Content_Encoding="gzip")
    web.pages["/deflate"] = lambda h: h.reply(200, zlib.compress(IMAGE), Content_Encoding="deflate")
    downloads = fetch(web.url("/gzip"), web.url("/deflate"))
    assert all(download.body == IMAGE for download in downloads.values())


def test_broken_and_stacked_compression(web: Any) -> None:
    web.pages["/broken"] = lambda h: h.reply(200, b"no gzip at all" * 9, Content_Encoding="gzip")
    web.pages["/twice"] = lambda h: h.reply(200, gzip.compress(gzip.compress(IMAGE)), Content_Encoding="gzip, gzip")
    assert {d.status for d in fetch(web.url("/broken"), web.url("/twice")).values()} == {FetchStatus.BAD_ENCODING}


@pytest.mark.parametrize("coding", ["UTF-8", "aws-chunked", "binary", "none", "identity", "a, b", "gzip", "br"])
def test_words_that_are_no_coding_lose_no_image(web: Any, coding: str) -> None:
    web.pages["/a"] = lambda h: h.reply(200, b"\xff\xd8\xff" + IMAGE, Content_Encoding=coding)
    assert fetch_one(web.url("/a")).body == b"\xff\xd8\xff" + IMAGE


def test_a_coding_beside_words_that_are_none_is_undone(web: Any) -> None:
    for number, coding in enumerate(("utf-8, gzip", "X-GZIP", "gzip, aws-chunked")):
        web.pages[f"/{number}"] = lambda h, coding=coding: h.reply(200, gzip.compress(IMAGE), Content_Encoding=coding)
    downloads = fetch(*(web.url(f"/{number}") for number in range(3)))
    assert {download.body for download in downloads.values()} == {IMAGE}


def test_compressed_data_that_ends_early_is_no_image(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, gzip.compress(IMAGE)[:-9], Content_Encoding="gzip")
    assert fetch_one(web.url("/a")).status is FetchStatus.BAD_ENCODING


# Limits


@pytest.mark.parametrize("lines", ["X-Filler: " + "x" * 90 + "\r\n", "A: b\r\n", "HTTP/1.1 100 Continue\r\n\r\n"])
def test_headers_without_end_are_a_bad_response(web: Any, lines: str) -> None:
    def page(h: Any) -> None:
        h.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" if "100" in lines else b"HTTP/1.1 200 OK\r\n")
        while not web.halt.is_set():
            h.wfile.write(lines.encode() * 100)

    web.pages["/a"] = page
    download = fetch_one(web.url("/a"))
    assert (download.status, download.attempts) == (FetchStatus.BAD_RESPONSE, 1)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_server_that_closes_without_an_answer_is_asked_as_often_as_the_log_says(web: Any, retries: int) -> None:
    asked = []

    def close(h: Any) -> None:
        asked.append(1)
        h.close_connection = True

    web.pages["/good"] = lambda h: h.reply(200, IMAGE)
    web.pages["/a"] = close
    # The first answer leaves a connection that is kept, on which the second request is made.
    urls = [web.url("/good"), web.url("/a")]
    settings = {"per_host": 1, "retries": retries, "backoff_s": 0.01, "robots": False}
    download = fetch(*urls, **settings)[web.url("/a")]
    assert download.status is FetchStatus.CONNECTION_LOST
    assert download.attempts == len(asked) == retries + 1


def test_announced_length_beyond_the_cap_is_not_read(web: Any) -> None:
    sent = []

    def page(h: Any) -> None:
        h.send_response(200)
        h.send_header("Content-Length", str(10**9))
        h.end_headers()
        for _ in range(1000):
            h.wfile.write(bytes(100_000))
            sent.append(1)

    web.pages["/a"] = page
    assert fetch_one(web.url("/a")).status is FetchStatus.TOO_LARGE
    assert len(sent) < 200


def test_endless_body_without_length_is_broken_off_at_the_cap(web: Any) -> None:
    def page(h: Any) -> None:
        h.send_response(200)
        h.send_header("Connection", "close")
        h.end_headers()
        while not web.halt.is_set():
            h.wfile.write(bytes(100_000))

    web.pages["/a"] = page
    assert fetch_one(web.url("/a")).status is FetchStatus.TOO_LARGE


def test_lying_length_cannot_pass_the_cap(web: Any) -> None:
    def page(h: Any) -> None:
        h.send_response(200)
        h.send_header("Content-Length", "10")
        h.end_headers()
        h.wfile.write(bytes(5_000_000))

    web.pages["/a"] = page
    download = fetch_one(web.url("/a"))
    assert download.status is FetchStatus.SUCCESS
    assert download.body == bytes(10)


def test_body_of_exactly_the_cap_passes(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, bytes(1000))
    web.pages["/b"] = lambda h: h.reply(200, bytes(1001))
    downloads = fetch(web.url("/a"), web.url("/b"), max_bytes=1000)
    assert downloads[web.url("/a")].status is FetchStatus.SUCCESS
    assert downloads[web.url("/b")].status is FetchStatus.TOO_LARGE


def test_compression_bomb_ends_at_the_cap(web: Any) -> None:
    bomb = gzip.compress(bytes(300_000_000), compresslevel=1)
    web.pages["/a"] = lambda h: h.reply(200, bomb, Content_Encoding="gzip")
    assert fetch_one(web.url("/a"), max_bytes=2_000_000).status is FetchStatus.TOO_LARGE


def test_long_error_pages_are_still_errors(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(404, bytes(2_000_000))
    assert fetch_one(web.url("/a")).status is FetchStatus.HTTP_NOT_FOUND


def test_server_that_never_answers(web: Any) -> None:
    web.pages["/a"] = _silence
    download = fetch_one(web.url("/a"))
    assert (download.status, download.http_status, download.attempts) == (FetchStatus.STALLED, None, 1)


def test_drip_is_broken_off_as_stalled(web: Any) -> None:
    web.pages["/a"] = _drip(web)
    assert fetch_one(web.url("/a")).status is FetchStatus.STALLED


def test_deadline_holds_for_a_drip_that_is_fast_enough(web: Any) -> None:
    web.pages["/a"] = _drip(web)
    download = fetch_one(web.url("/a"), stall_bytes_per_s=0, timeout_s=1.0, connect_timeout_s=1.0)
    assert download.status is FetchStatus.TIMEOUT
    assert 1.0 <= download.seconds < 10


def test_deadline_includes_redirects(web: Any) -> None:
    def page(h: Any) -> None:
        web.halt.wait(0.4)
        h.reply(302, Location=f"/a/{time.monotonic()}")

    web.pages["/a"] = page
    limits = {"timeout_s": 1.0, "connect_timeout_s": 1.0, "max_redirects": 100}
    assert fetch_one(web.url("/a"), **limits).status is FetchStatus.TIMEOUT


def _silence(h: Any) -> None:
    h.server.halt.wait(60)


def _drip(web: Any) -> Any:
    def page(h: Any) -> None:
        h.send_response(200)
        h.send_header("Content-Length", "100000")
        h.end_headers()
        while not web.halt.wait(0.05):
            h.wfile.write(b"x")
            h.wfile.flush()

    return page


def test_time_the_caller_takes_counts_against_no_limit(web: Any) -> None:
    web.pages["/fast"] = lambda h: h.reply(200, IMAGE)

    def slow(h: Any) -> None:
        web.halt.wait(0.5)
        h.reply(200, IMAGE)

    web.pages["/slow"] = slow
    statuses = []
    limits = {"timeout_s": 1.0, "connect_timeout_s": 1.0, "stall_s": 1.0}
    with Downloader(settings(**limits)) as downloader:
        for download in downloader.download([web.url("/fast"), web.url("/slow")]):
            statuses.append(download.status)
            time.sleep(1.5)
    assert statuses == [FetchStatus.SUCCESS] * 2


# Broken connections


def test_reset_is_tried_again(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reset()
    download = fetch_one(web.url("/a"), robots=False, retries=2)
    assert (download.status, download.attempts) == (FetchStatus.CONNECTION_LOST, 3)


def test_second_attempt_may_succeed(web: Any) -> None:
    def page(h: Any) -> None:
        if web.asked("/a") == 1:
            h.reset()
        else:
            h.reply(200, IMAGE)

    web.pages["/a"] = page
    # Without robots.txt the connection is new: on an old one libcurl tries again by itself.
    download = fetch_one(web.url("/a"), robots=False)
    assert (download.status, download.attempts) == (FetchStatus.SUCCESS, 2)


def test_truncated_body_is_no_success(web: Any) -> None:
    def page(h: Any) -> None:
        h.reply(200, IMAGE, Content_Length=str(len(IMAGE) + 1))
        h.close_connection = True

    web.pages["/a"] = page
    download = fetch_one(web.url("/a"))
    assert (download.status, download.body) == (FetchStatus.CONNECTION_LOST, None)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000]
)
def test_what_is_not_http(web: Any, answer: bytes) -> None:
    def page(h: Any) -> None:
        h.wfile.write(answer)
        h.close_connection = True

    web.pages["/a"] = page
    download = fetch_one(web.url("/a"), retries=0)
    assert download.status in (FetchStatus.BAD_RESPONSE, FetchStatus.CONNECTION_LOST)


def test_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a"
    assert fetch_one(url).status is FetchStatus.CONNECT_FAILED
    download = fetch_one(url, robots=False)
    assert (download.status, download.attempts) == (FetchStatus.CONNECT_FAILED, 2)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue is full: connections to it neither succeed nor fail."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        time.sleep(0.1)
        yield server.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_connect_timeout(full_port: int) -> None:
    download = fetch_one(f"http://127.0.0.1:{full_port}/a", robots=False, connect_timeout_s=0.5)
    assert download.status is FetchStatus.CONNECT_TIMEOUT


def test_name_that_does_not_exist() -> None:
    download = fetch_one("http://no-such-host.invalid/a", retries=0)
    assert download.status in (FetchStatus.DNS_NOT_FOUND, FetchStatus.DNS_FAILED)


def test_a_host_that_only_fails_is_given_up(web: Any) -> None:
    web.pages["/bad"] = lambda h: h.reset()
    web.pages["/good"] = lambda h: h.reply(200, IMAGE)
    bad = [web.url(f"/bad/{i}", "bad.localhost") for i in range(50)]
    good = [web.url(f"/good/{i}", "good.localhost") for i in range(5)]
    downloads = fetch(*bad, *good, robots=False, retries=0, per_host=2, host_failures=4)
    counts = Counter(downloads[url].status for url in bad)
    assert counts[FetchStatus.HOST_UNREACHABLE] + counts[FetchStatus.CONNECTION_LOST] == 50
    assert 4 <= counts[FetchStatus.CONNECTION_LOST] <= 6
    assert {downloads[url].status for url in good} == {FetchStatus.SUCCESS}


def test_a_host_that_stalled_again_and_again_is_given_less_time(web: Any) -> None:
    web.pages["/a"] = _silence
    urls = [web.url(f"/a/{i}", "a.localhost") for i in range(6)]
    downloads = fetch(*urls, robots=False, per_host=4)
    assert {d.status for d in downloads.values()} == {FetchStatus.STALLED}
    assert sorted(d.detail for d in downloads.values()) == 2 * ["under 1024 bytes/s for 0.25 s"] + 4 * [
        "under 1024 bytes/s for 1 s"
    ]


# Redirects


def test_redirects_are_followed(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(301, Location="b/c")
    web.pages["/b"] = lambda h: h.reply(307, Location=web.url("/d", "other.localhost"))
    web.pages["/d"] = lambda h: h.reply(200, IMAGE)
    download = fetch_one(web.url("/a"))
    assert download.status is FetchStatus.SUCCESS
    assert download.final_url == web.url("/d", "other.localhost")
    assert download.attempts == 1


def test_redirect_loop(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(302, Location="/a")
    download = fetch_one(web.url("/a"), max_redirects=3)
    assert download.status is FetchStatus.TOO_MANY_REDIRECTS
    assert web.asked("/a") == 4


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", ""])
def test_bad_redirects(web: Any, location: str) -> None:
    web.pages["/a"] = lambda h: h.reply(302, Location=location)
    assert fetch_one(web.url("/a")).status is FetchStatus.BAD_REDIRECT


def test_redirect_without_location(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(302)
    assert fetch_one(web.url("/a")).status is FetchStatus.BAD_REDIRECT


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a",
        "http://localhost:{port}/a",
        "http://a.localhost:{port}/a",
        "http://127.1:{port}/a",
        "http://0x7f000001:{port}/a",
        "http://2130706433:{port}/a",
        "http://0.0.0.0:{port}/a",
        "http://[::1]:{port}/a",
        "http://[::ffff:127.0.0.1]:{port}/a",
        "http://[64:ff9b::7f00:1]:{port}/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
    ],
)
@pytest.mark.parametrize("robots", [True, False])
def test_addresses_that_are_not_global_are_refused(web: Any, url: str, robots: bool) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    download = fetch_one(url.format(port=web.server_port), allow_networks=(), robots=robots)
    assert download.status is FetchStatus.BLOCKED_ADDRESS
    assert web.connections == 0


@pytest.mark.parametrize(
    "where", ["http://10.0.0.1/x", "http://169.254.169.254/", "http://[::1]/", "http://127.0.0.2/"]
)
@pytest.mark.parametrize("robots", [True, False])
def test_redirect_to_a_refused_address(web: Any, where: str, robots: bool) -> None:
    web.pages["/a"] = lambda h: h.reply(302, Location=where)
    download = fetch_one(web.url("/a"), allow_networks=("127.0.0.1/32",), robots=robots)
    assert download.status is FetchStatus.BLOCKED_ADDRESS
    assert download.final_url == where


def test_name_that_resolves_to_a_refused_address(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == "evil.example" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    url = web.url("/a", "evil.example")
    assert fetch_one(url, allow_networks=()).status is FetchStatus.BLOCKED_ADDRESS
    assert web.connections == 0
    # The same name, with the address allowed: what the resolver found is what is connected to.
    assert fetch_one(url).status is FetchStatus.SUCCESS


def test_of_several_addresses_the_refused_ones_are_left_out(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public address and to a private one: the private one is never connected to."""
    real = socket.getaddrinfo

    def both(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "two.example":
            return real(host, *rest, **named)
        return real("127.0.0.2", *rest, **named) + real("127.0.0.1", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    url = web.url("/a", "two.example")
    # The server listens on 127.0.0.1 only.
    assert fetch_one(url, allow_networks=("127.0.0.1/32",)).status is FetchStatus.SUCCESS
    connections = web.connections
    assert fetch_one(url, allow_networks=("127.0.0.2/32",), retries=0).status is FetchStatus.CONNECT_FAILED
    assert web.connections == connections


def test_refused_ports_schemes_and_urls() -> None:
    downloads = fetch("http://127.0.0.1:25/", "ftp://127.0.0.1/", "nonsense", "http://")
    assert [downloads[url].status for url in ("http://127.0.0.1:25/", "ftp://127.0.0.1/", "nonsense", "http://")] == [
        FetchStatus.BLOCKED_ADDRESS,
        FetchStatus.UNSUPPORTED_SCHEME,
        FetchStatus.BAD_URL,
        FetchStatus.BAD_URL,
    ]
    assert all(download.attempts == 0 for download in downloads.values())


def test_proxies_of_the_environment_are_ignored(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    assert fetch_one(web.url("/a")).status is FetchStatus.SUCCESS


# Robots and opt-outs


def test_robots_are_fetched_once_for_an_origin_and_obeyed(web: Any) -> None:
    web.pages["/robots.txt"] = lambda h: h.reply(200, b"User-agent: *\nDisallow: /no\n")
    web.pages["/yes"] = web.pages["/no"] = lambda h: h.reply(200, IMAGE)
    urls = [
        web.url(f"/{kind}/{i}", host)
        for host in ("a.localhost", "b.localhost")
        for kind in ("yes", "no")
        for i in range(20)
    ]
    downloads = fetch(*urls)
    for url, download in downloads.items():
        assert download.status is (FetchStatus.SUCCESS if "/yes" in url else FetchStatus.ROBOTS_DISALLOWED)
    asked = Counter(host for host, path in web.requests if path == "/robots.txt")
    assert asked == {"a.localhost": 1, "b.localhost": 1}
    assert not any(path.startswith("/no") for _, path in web.requests)
    first = dict(reversed(web.requests))
    assert set(first.values()) == {"/robots.txt"}


def test_robots_are_kept_from_call_to_call(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    with Downloader(settings()) as downloader:
        for _ in range(3):
            assert [d.status for d in downloader.download([web.url("/a")])] == [FetchStatus.SUCCESS]
    assert web.asked("/robots.txt") == 1


def test_unreachable_robots_forbid_everything(web: Any) -> None:
    web.pages["/robots.txt"] = lambda h: h.reply(503)
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    downloads = fetch(web.url("/a"), web.url("/a?2"))
    assert {d.status for d in downloads.values()} == {FetchStatus.ROBOTS_UNREACHABLE}
    assert {d.detail for d in downloads.values()} == {"robots.txt: HTTP 503"}
    assert web.asked("/robots.txt") == 2
    assert web.asked("/a") == 0


def test_robots_that_never_answer(web: Any) -> None:
    web.pages["/robots.txt"] = _silence
    assert fetch_one(web.url("/a")).status is FetchStatus.ROBOTS_UNREACHABLE


def test_robots_may_redirect_to_another_host(web: Any) -> None:
    web.pages["a.localhost/robots.txt"] = lambda h: h.reply(301, Location=web.url("/robots.txt", "b.localhost"))
    web.pages["b.localhost/robots.txt"] = lambda h: h.reply(200, b"User-agent: *\nDisallow: /\n")
    assert fetch_one(web.url("/x", "a.localhost")).status is FetchStatus.ROBOTS_DISALLOWED


def test_robots_in_a_redirect_loop_count_as_none(web: Any) -> None:
    web.pages["/robots.txt"] = lambda h: h.reply(302, Location="/robots.txt")
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    assert fetch_one(web.url("/a")).status is FetchStatus.SUCCESS
    assert web.asked("/robots.txt") == 6


def test_robots_of_the_host_redirected_to_are_asked_too(web: Any) -> None:
    web.pages["b.localhost/robots.txt"] = lambda h: h.reply(200, b"User-agent: openwit\nDisallow: /\n")
    web.pages["/a"] = lambda h: h.reply(302, Location=web.url("/b", "b.localhost"))
    assert fetch_one(web.url("/a", "a.localhost")).status is FetchStatus.ROBOTS_DISALLOWED
    assert web.asked("/b") == 0


def test_endless_robots_are_read_to_their_cap(web: Any) -> None:
    def page(h: Any) -> None:
        h.send_response(200)
        h.send_header("Connection", "close")
        h.end_headers()
        h.wfile.write(b"User-agent: *\nDisallow: /no\n")
        while not web.halt.is_set():
            h.wfile.write(b"# more\n" * 10_000)

    web.pages["/robots.txt"] = page
    web.pages["/yes"] = lambda h: h.reply(200, IMAGE)
    downloads = fetch(web.url("/yes"), web.url("/no"))
    assert downloads[web.url("/yes")].status is FetchStatus.SUCCESS
    assert downloads[web.url("/no")].status is FetchStatus.ROBOTS_DISALLOWED


def test_robots_can_be_turned_off(web: Any) -> None:
    web.pages["/robots.txt"] = lambda h: h.reply(200, b"User-agent: *\nDisallow: /\n")
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    assert fetch_one(web.url("/a"), robots=False).status is FetchStatus.SUCCESS
    assert web.asked("/robots.txt") == 0


def test_crawl_delay_spaces_requests(web: Any) -> None:
    times: list[float] = []

    def page(h: Any) -> None:
        times.append(time.monotonic())
        h.reply(200, IMAGE)

    web.pages["/robots.txt"] = lambda h: h.reply(200, b"User-agent: *\nCrawl-delay: 60\n")
    web.pages["/a"] = page
    fetch(*(web.url(f"/a/{i}") for i in range(4)), max_crawl_delay_s=0.2)
    assert len(times) == 4
    assert all(later - earlier > 0.1 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    "fields",
    [
        {"X_Robots_Tag": "noai"},
        {"X_Robots_Tag": "nofollow, noimageindex"},
        {"x_robots_tag": "openwit: none"},
        {"TDM_Reservation": "1"},
    ],
)
def test_opt_out_headers(web: Any, fields: dict[str, str]) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE, **fields)
    download = fetch_one(web.url("/a"))
    assert (download.status, download.body) == (FetchStatus.OPTED_OUT, None)
    assert download.detail
    assert fetch_one(web.url("/a"), opt_outs=False).status is FetchStatus.SUCCESS


def test_opt_outs_of_others_are_not_ours(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE, X_Robots_Tag="googlebot: noai", Tdm_Reservation="0")
    assert fetch_one(web.url("/a")).status is FetchStatus.SUCCESS


def test_rate_limit_holds_the_whole_host_back(web: Any) -> None:
    times: list[float] = []

    def page(h: Any) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            h.reply(429, Retry_After="1")
        else:
            h.reply(200, IMAGE)

    web.pages["/a"] = page
    downloads = fetch(*(web.url(f"/a/{i}") for i in range(3)), per_host=1, max_backoff_s=0.5)
    assert {d.status for d in downloads.values()} == {FetchStatus.SUCCESS}
    assert times[1] - times[0] > 0.9, "as long as it says"


# Many at once


def test_connections_are_reused(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    fetch(*(web.url(f"/a/{i}") for i in range(100)), per_host=4)
    assert web.connections <= 5


def test_connections_are_not_reused_when_told_so(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    fetch(*(web.url(f"/a/{i}") for i in range(20)), reuse_connections=False)
    assert web.connections == 21


def test_limit_per_host_holds_redirects_included(web: Any) -> None:
    def page(h: Any) -> None:
        web.halt.wait(0.02)
        h.reply(200, IMAGE)

    web.pages["/a"] = page
    web.pages["/r"] = lambda h: h.reply(302, Location=web.url("/a/r", "a.localhost"))
    urls = [web.url(f"/a/{i}", host) for i in range(40) for host in ("a.localhost", "b.localhost")]
    urls += [web.url(f"/r/{i}", "c.localhost") for i in range(20)]
    downloads = fetch(*urls, per_host=3)
    assert {d.status for d in downloads.values()} == {FetchStatus.SUCCESS}
    assert web.peak["a.localhost"] == 3
    assert web.peak["b.localhost"] <= 3


def test_urls_are_read_lazily(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    read = itertools.count()
    urls = (web.url(f"/a/{next(read)}") for _ in range(1000))
    with Downloader(settings(lookahead=10, concurrency=4)) as downloader:
        downloads = downloader.download(urls)
        for _ in range(5):
            assert next(downloads).status is FetchStatus.SUCCESS
        assert next(read) < 40
        downloads.close()  # type: ignore[attr-defined]
        assert [d.status for d in downloader.download([web.url("/a")])] == [FetchStatus.SUCCESS]


def test_same_url_twice_is_answered_twice(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    with Downloader(settings()) as downloader:
        assert [d.url for d in downloader.download([web.url("/a")] * 3)] == [web.url("/a")] * 3


def test_one_iteration_at_a_time(web: Any) -> None:
    with Downloader(settings()) as downloader:
        first = downloader.download([web.url("/a"), web.url("/b")])
        next(first)
        with pytest.raises(RuntimeError, match="already"):
            next(downloader.download([web.url("/a")]))


def test_an_error_in_the_source_passes_through(web: Any) -> None:
    def urls() -> Iterator[str]:
        yield web.url("/a")
        raise KeyError("source")

    with Downloader(settings()) as downloader:
        with pytest.raises(KeyError):
            list(downloader.download(urls()))
        assert len(list(downloader.download([web.url("/a")]))) == 1


def test_nothing_to_download() -> None:
    assert fetch() == {}


def test_a_bad_web_ends(web: Any, full_port: int) -> None:
    """360 URLs: every fault at once, over many hosts."""
    web.pages["/good"] = lambda h: h.reply(200, IMAGE)
    web.pages["/drip"] = _drip(web)
    web.pages["/reset"] = lambda h: h.reset()
    web.pages["/loop"] = lambda h: h.reply(302, Location=h.path)
    web.pages["/silent"] = _silence
    web.pages["/away"] = lambda h: h.reply(302, Location="http://169.254.169.254/")
    web.pages["forbidden.localhost/robots.txt"] = lambda h: h.reply(200, b"User-agent: *\nDisallow: /\n")
    web.pages["broken.localhost/robots.txt"] = lambda h: h.reply(500)
    urls = []
    for i in range(30):
        urls += [web.url(f"/good/{i}", f"g{i % 10}.localhost") for _ in range(3)]
        urls += [web.url(f"/{fault}/{i}", f"{fault}{i % 5}.localhost") for fault in ("drip", "reset", "loop")]
        urls += [web.url(f"/silent/{i}", f"s{i % 7}.localhost"), web.url(f"/away/{i}", "away.localhost")]
        urls += [web.url(f"/x/{i}", "forbidden.localhost"), web.url(f"/x/{i}", "broken.localhost")]
    urls += [f"http://127.0.0.1:{full_port}/{i}" for i in range(60)]
    with Downloader(settings(robots=True, per_host=10)) as downloader:
        counts = Counter(download.status for download in downloader.download(urls))
    assert len(urls) == 360
    assert counts == {
        FetchStatus.SUCCESS: 90,
        FetchStatus.STALLED: 60,
        FetchStatus.CONNECTION_LOST: 30,
        FetchStatus.TOO_MANY_REDIRECTS: 30,
        FetchStatus.BLOCKED_ADDRESS: 30,
        FetchStatus.ROBOTS_DISALLOWED: 30,
        FetchStatus.ROBOTS_UNREACHABLE: 30,
        FetchStatus.CONNECT_TIMEOUT: 60,
    }


# TLS


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server with a certificate of its own for a.localhost; gives its port and the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a.localhost"]
    command += ["-addext", "subjectAltName=DNS:a.localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no openssl command to make a certificate with: {error}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)

    def serve() -> None:
        while not stop.is_set():
            try:
                raw, _ = server.accept()
                raw.settimeout(5)
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], certificate
    stop.set()
    thread.join()
    server.close()


def test_tls_with_a_trusted_certificate(tls: tuple[int, Path]) -> None:
    port, certificate = tls
    download = fetch_one(f"https://a.localhost:{port}/a", robots=False, ca_file=str(certificate))
    assert (download.status, download.body) == (FetchStatus.SUCCESS, b"abc")


def test_tls_that_cannot_be_trusted(tls: tuple[int, Path], web: Any) -> None:
    port, certificate = tls
    unknown = f"https://a.localhost:{port}/a"
    assert fetch_one(unknown, robots=False).status is FetchStatus.TLS_FAILED
    other_name = f"https://b.localhost:{port}/a"
    assert fetch_one(other_name, robots=False, ca_file=str(certificate)).status is FetchStatus.TLS_FAILED
    plain = web.url("/a").replace("http:", "https:")
    assert fetch_one(plain).status is FetchStatus.TLS_FAILED


# Settings


def test_settings_name_what_is_wrong() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"allow_networks": ["nowhere"]}, "'nowhere' is not a network"),
        ({"user_agent": "two\nlines"}, "one line"),
        ({"agent_token": "open wit"}, "letters"),
        ({"connect_timeout_s": 60}, "must not exceed timeout_s"),
        ({"concurency": 5}, "did you mean 'concurrency'"),
    ]
    for values, message in cases:
        with pytest.raises(OpenWITError, match=message):
            parse_settings(values, DownloadSettings, "recipe.yaml")


def test_every_setting_is_described() -> None:
    assert all(field.description for field in DownloadSettings.model_fields.values())


def test_missing_certificates_are_named() -> None:
    with pytest.raises(OpenWITError, match="nowhere.pem"):
        Downloader(settings(ca_file="nowhere.pem"))


def test_too_few_open_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    with pytest.raises(OpenWITError, match="ulimit"):
        Downloader(settings())
