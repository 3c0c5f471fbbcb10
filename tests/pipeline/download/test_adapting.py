"""Transfers at once to a real server that bears much, little, or says that it is overloaded."""

import threading
import time
from collections import Counter
from typing import Any

from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.downloader import Downloader, DownloadSettings, FetchStatus
from openwit.pipeline.download.host_limits import START
from openwit.pipeline.download.status import RETRY_LATER

IMAGE = b"\xff\xd8\xff" + bytes(5000)


def fetch(urls: list[str], **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"allow_networks": ("127.0.0.0/8",), "robots": False, "backoff_s": 0.05}
    with Downloader(DownloadSettings(**base | changes)) as downloader:
        return {download.url: download for download in downloader.download(urls)}


def test_a_host_that_bears_much_is_given_more(web: Any) -> None:
    def page(h: Any) -> None:
        time.sleep(0.01)
        h.reply(200, IMAGE)

    web.pages["/a"] = page
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(300)]
    assert {d.status for d in fetch(urls, per_host=20).values()} == {FetchStatus.SUCCESS}
    assert START < web.peak["a.localhost"] <= 20


def test_a_host_that_serves_one_after_another_is_not_given_more(web: Any) -> None:
    one, seen = threading.Lock(), [0]
    late: Counter[str] = Counter()

    def page(h: Any) -> None:
        with one:
            seen[0] += 1
            if seen[0] > 100:
                late["a.localhost"] = max(late["a.localhost"], web.active["a.localhost"])
            time.sleep(0.03)
        h.reply(200, IMAGE)

    web.pages["/a"] = page
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(150)]
    assert {d.status for d in fetch(urls, per_host=32).values()} == {FetchStatus.SUCCESS}
    assert web.peak["a.localhost"] <= 2 * START, "one step of the slow start, which is taken back"
    assert late["a.localhost"] < 2 * START


def test_503_shrinks_the_limit_and_its_retry_after_holds_the_host_back(web: Any) -> None:
    times: list[float] = []
    peaks: list[int] = []

    def page(h: Any) -> None:
        times.append(time.monotonic())
        peaks.append(web.active["a.localhost"])
        if len(times) <= START:
            time.sleep(0.05)
            h.reply(503, Retry_After="1")
        else:
            time.sleep(0.02)
            h.reply(200, IMAGE)

    web.pages["/a"] = page
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(16)]
    downloads = fetch(urls, per_host=32, max_backoff_s=0.6)
    assert {d.status for d in downloads.values()} == {FetchStatus.SUCCESS}
    assert times[START] - times[START - 1] > 0.9, "Retry-After of the host, also beyond max_backoff_s"
    assert max(peaks[START : START + 2]) <= START // 2


def test_a_host_that_only_says_429_is_given_up(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(429)
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(40)]
    downloads = fetch(urls, retries=0, max_refusal_s=0.5)
    assert {d.status for d in downloads.values()} == {FetchStatus.HTTP_RATE_LIMITED}
    assert START + 2 <= sum(d.attempts for d in downloads.values()) <= 2 * START
    assert {d.status for d in downloads.values()} <= RETRY_LATER


def test_a_host_that_wants_too_long_a_pause_is_given_up_at_once(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(503, Retry_After="3600")
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(40)]
    downloads = fetch(urls, retries=3)
    assert {d.status for d in downloads.values()} == {FetchStatus.HTTP_SERVER_ERROR}
    assert sum(d.attempts for d in downloads.values()) <= START


def test_no_image_is_lost_to_a_host_that_allows_so_many_requests_a_second(web: Any) -> None:
    tokens, refused = [4.0, time.monotonic()], [0]
    lock = threading.Lock()

    def page(h: Any) -> None:
        with lock:
            now = time.monotonic()
            tokens[:] = [min(4.0, tokens[0] + 40 * (now - tokens[1])), now]
            good = tokens[0] >= 1
            tokens[0] -= good
            refused[0] += not good
        h.reply(200, IMAGE) if good else h.reply(429)

    web.pages["/a"] = page
    urls = [web.url(f"/a/{n}", "a.localhost") for n in range(60)]
    downloads = fetch(urls, per_host=32)
    assert {d.status for d in downloads.values()} == {FetchStatus.SUCCESS}
    assert 1 <= refused[0] <= 25, "it is asked slower"


def test_a_source_that_has_nothing_at_the_moment_is_asked_again(web: Any) -> None:
    web.pages["/a"] = lambda h: h.reply(200, IMAGE)
    backlog, ready = Backlog(), threading.Event()
    asked = [0]

    def source() -> Any:
        yield web.url("/a/1")
        while not ready.is_set():
            asked[0] += 1
            yield None
        yield web.url("/a/2")

    def open_later() -> None:
        time.sleep(0.3)
        ready.set()
        backlog.wake()

    threading.Thread(target=open_later).start()
    with Downloader(DownloadSettings(allow_networks=("127.0.0.0/8",), robots=False)) as downloader:
        assert [d.status for d in downloader.download(source(), backlog)] == [FetchStatus.SUCCESS] * 2
    assert asked[0] < 20, "it is not asked in a busy loop"
