"""A fuzz run of the readers: damaged copies of real archives, WAT records, pages and dumps, until the time is up.

    python -m tests.fuzz --data ../shared/data --seconds 120

Each round damages one file (bits flipped, stretches cut, repeated, swapped between files, header numbers changed) and
reads it. It fails on any exception and where what came in is not what went on plus the reasons. A failing input is
kept in the folder given by --keep, its name the seed that makes it again. The suite runs a short one.
"""

import argparse
import bz2
import gzip
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.warc import PAGE_REASONS, RECORDS, Page, read_pages
from openwit.pipeline.readers.pages.html import IMAGE_REASONS, IMAGES, extract
from openwit.pipeline.readers.pages.wat import WAT_REASONS, read_wat
from openwit.pipeline.readers.wikipedia.pageviews import LINES, LINES_ADDED, VIEW_REASONS, sum_views
from openwit.pipeline.readers.wikipedia.wikidump import ARTICLE_REASONS, PAGES, read_articles

LARGEST = 300_000


def damage(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A damaged copy; one to five wounds."""
    wounded = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        if not wounded:
            break
        at = rng.randrange(len(wounded))
        length = min(rng.choice((1, 2, 8, 64, 1000, 20_000)), len(wounded) - at)
        match rng.randrange(7):
            case 0:
                wounded[at] ^= 1 << rng.randrange(8)
            case 1:
                del wounded[at : at + length]
            case 2:
                wounded[at:at] = wounded[at : at + length]
            case 3:
                wounded[at : at + length] = rng.randbytes(length)
            case 4:
                start = rng.randrange(len(other)) if other else 0
                wounded[at : at + length] = other[start : start + length]
            case 5:
                del wounded[at:]
            case 6:
                digits = [i for i in range(at, min(at + 2000, len(wounded))) if 48 <= wounded[i] <= 57]
                for i in digits[: rng.randint(1, 6)]:
                    wounded[i] = rng.randint(48, 57)
    return bytes(wounded)


def check_archive(data: bytes) -> None:
    """Records = pages + reasons, and the same of the images of every page."""
    tally = ReasonCounter()
    pages = 0
    for page in read_pages(io.BytesIO(data), tally):
        pages += 1
        check_images(page)
    _balance(tally, RECORDS, pages, PAGE_REASONS)


def check_page(data: bytes) -> None:
    """Any bytes as a page of some charset."""
    charset = (None, "utf-8", "gbk", "shift_jis", "no-such")[len(data) % 5]
    check_images(Page("http://site.example/a/b.html", data, charset, 0, None, 200))


def check_images(page: Page) -> None:
    """Images = found + reasons; URLs are absolute; texts can be written as UTF-8."""
    tally = ReasonCounter()
    found = extract(page, tally)
    _balance(tally, IMAGES, len(found), IMAGE_REASONS)
    for image in found:
        assert image.url.startswith(("http://", "https://")), image.url
        assert image.texts
        "".join(text for _, text in image.texts).encode("utf-8", "surrogatepass")


def check_wat(data: bytes) -> None:
    """Records = pages + reasons."""
    records, images = ReasonCounter(), ReasonCounter()
    pages = list(read_wat(io.BytesIO(data), records, count_image=images))
    _balance(records, RECORDS, len(pages), WAT_REASONS)
    _balance(images, IMAGES, sum(len(page.images) for page in pages), IMAGE_REASONS)


def check_dump(data: bytes) -> None:
    """Pages = articles + reasons."""
    tally = ReasonCounter()
    articles = sum(1 for _ in read_articles(io.BytesIO(data), tally))
    _balance(tally, PAGES, articles, ARTICLE_REASONS)


def check_views(data: bytes) -> None:
    """Lines = lines added + reasons."""
    tally = ReasonCounter()
    sum_views(io.BytesIO(data), "en", count=tally)
    _balance(tally, LINES, tally.counts[LINES_ADDED], VIEW_REASONS)


def _balance(tally: ReasonCounter, entered: str, left: int, reasons: tuple[str, ...]) -> None:
    lost = sum(tally.counts[reason] for reason in reasons)
    assert tally.counts[entered] == left + lost, (entered, tally.counts[entered], left, dict(tally.counts))


def corpora(data: Path) -> dict[str, tuple[Callable[[bytes], None], list[bytes]]]:
    """What is damaged, by the path it tests; compressed files also as their plain bytes."""
    archives = [path.read_bytes()[:LARGEST] for path in sorted(data.glob("warc/*arc.gz"))]
    archives += [path.read_bytes() for path in sorted(data.glob("warc/malformed/*"))]
    archives += [
        gzip.decompress((data / "warc" / name).read_bytes())[:LARGEST] for name in ("cc.warc.gz", "iana.warc.gz")
    ]
    pages = [page.body[:LARGEST] for _, page in zip(range(120), read_pages(data / "pages.warc.gz"), strict=False)]
    dump = bz2.decompress(next(iter(sorted(data.glob("wikipedia/*markup*.bz2")))).read_bytes())[:LARGEST]
    views = "".join(f"en{('', '.m', '.d')[n % 3]} Title_{n} {n % 90} 0\n" for n in range(3000)).encode()
    wats = [*_wats(pages[:20]), (data / "warc" / "whirlwind.warc.wat.gz").read_bytes()]
    return {
        "archive": (check_archive, archives),
        "page": (check_page, pages),
        "wat": (check_wat, wats),
        "dump": (check_dump, [dump, bz2.compress(dump), gzip.compress(dump, mtime=0)]),
        "views": (check_views, [views, gzip.compress(views, mtime=0)]),
    }


def _wats(pages: list[bytes]) -> list[bytes]:
    """WAT records of pages, in the shape that Common Crawl's writer gives them."""
    records = []
    for body in pages:
        images = extract(Page("http://site.example/", body, None, 0, None, 200))
        links = [{"path": "IMG@/src", "url": image.url, "alt": image.texts[0][1]} for image in images]
        html = {"Head": {"Title": "A page", "Metas": [{"property": "og:image", "content": "x.jpg"}]}, "Links": links}
        response = {
            "Response-Message": {"Status": "200"},
            "Headers": {"Content-Type": "text/html"},
            "HTML-Metadata": html,
        }
        payload = {"Actual-Content-Type": "application/http; msgtype=response", "HTTP-Response-Metadata": response}
        header = {"WARC-Type": "response", "WARC-Target-URI": "http://site.example/"}
        envelope = {"Envelope": {"WARC-Header-Metadata": header, "Payload-Metadata": payload}}
        block = json.dumps(envelope).encode("utf-8", "replace")
        head = "WARC/1.0\r\nWARC-Type: metadata\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(block)}\r\n\r\n"
        records.append(head.encode() + block + b"\r\n\r\n")
    return [b"".join(records), b"".join(gzip.compress(record, mtime=0) for record in records)]


def run(data: Path, seconds: float, seed: int, keep: Path | None) -> tuple[Counter[str], list[str]]:
    """Rounds by path, and what failed."""
    paths = corpora(data)
    rounds: Counter[str] = Counter()
    failures: list[str] = []
    end = time.monotonic() + seconds
    number = seed
    while time.monotonic() < end:
        rng = random.Random(number)
        name = sorted(paths)[number % len(paths)]
        check, files = paths[name]
        broken = damage(rng.choice(files), rng.choice(files), rng)
        try:
            check(broken)
        except Exception as error:
            failures.append(f"{name} {number}: {type(error).__name__}: {error}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{number}").write_bytes(broken)
        rounds[name] += 1
        number += 1
    return rounds, failures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    rounds, failures = run(arguments.data, arguments.seconds, arguments.seed, arguments.keep)
    print(f"{rounds.total():,} rounds: {dict(sorted(rounds.items()))}; {len(failures)} failed")
    for failure in failures[:20]:
        print(failure)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
