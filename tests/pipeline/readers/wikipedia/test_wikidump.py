import bz2
import gzip
import io
import itertools
import random
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.wikipedia.wikidump import (
    ARTICLE_REASONS,
    DISAMBIGUATION,
    DUMP_DAMAGED,
    PAGES,
    Article,
    read_articles,
)
from openwit.schemas.common.errors import OpenWITError

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "wikipedia"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/wikipedia is missing")

HEAD = "<mediawiki xml:lang='en'><siteinfo><sitename>Wikipedia</sitename></siteinfo>\n"
TAIL = "</mediawiki>\n"


def page(title: str, text: str, namespace: int = 0, number: int = 1, extra: str = "", model: str = "wikitext") -> str:
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{extra}"
        f"    <revision>\n      <id>99</id>\n      <model>{model}</model>\n"
        f'      <text bytes="3" xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
    )


def article(number: int) -> str:
    noise = random.Random(number).randbytes(400).hex()
    return page(f"Article {number}", f"Text of article {number}. {noise}", number=number)


def read(data: bytes, **options: int) -> tuple[list[Article], ReasonCounter]:
    tally = ReasonCounter()
    articles = list(read_articles(io.BytesIO(data), tally, **options))
    assert tally.counts[PAGES] == len(articles) + sum(tally.counts[reason] for reason in ARTICLE_REASONS)
    return articles, tally


def ids(articles: list[Article]) -> list[int]:
    return [found.page_id for found in articles]


def multistream(streams: int, pages: int) -> list[bytes]:
    bodies = ["".join(article(stream * pages + n) for n in range(pages)) for stream in range(streams)]
    return [bz2.compress(part.encode()) for part in (HEAD, *bodies, TAIL)]


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress])
def test_reads_articles(compress) -> None:  # type: ignore[no-untyped-def]
    text = "'''AT&T''' <ref>\"x\"</ref> &nbsp; <b>é</b>"
    data = (HEAD + page("Café & Co", text, number=12) + article(2) + TAIL).encode()
    articles, tally = read(compress(data))
    assert articles[0] == Article("Café & Co", text, 12)
    assert ids(articles) == [12, 2]
    assert dict(tally.counts) == {PAGES: 2}


def test_every_page_that_is_no_article_has_its_reason() -> None:
    pages = [
        page("Talk:X", "text", namespace=1),
        page("R", "#REDIRECT [[X]]", extra='    <redirect title="X" />\n'),
        page("R2", " #redirect [[X]]"),
        page("R3", "#WEITERLEITUNG [[X]]"),
        page("Mercury", "'''Mercury''' may be:\n{{disambiguation|geo}}"),
        page("Ada", "{{Disambig}}"),
        page("Bank (disambiguation)", "banks"),
        page("Haus", "{{Begriffsklärung}}"),
        page("Data", "{}", model="json"),
        page("Empty", " \n"),
        "<page><ns>0</ns></page>",
        '<page><title>Gone</title><ns>0</ns><text bytes="0" /></page>',
        page("Kept", "a {{dablink|x}} text that is about disambiguation"),
    ]
    articles, tally = read((HEAD + "".join(pages) + TAIL).encode())
    assert [found.title for found in articles] == ["Kept"]
    assert dict(tally.counts) == {
        PAGES: 13,
        "other_namespace": 1,
        "redirect": 3,
        "disambiguation": 4,
        "not_wikitext": 1,
        "empty_article": 2,
        "damaged_page": 1,
    }


def test_ranges_of_a_multistream_dump_share_its_pages() -> None:
    parts = multistream(5, 4)
    data = b"".join(parts)
    whole = ids(read(data)[0])
    assert whole == list(range(20))
    for cuts in ([0], [0, 1], [0, 1, 2, len(parts[0])], [len(data) * n // 7 for n in range(7)]):
        ranges = itertools.pairwise([*cuts, len(data)])
        found = [number for low, high in ranges for number in ids(read(data, start=low, end=high)[0])]
        assert found == whole
    assert ids(read(data, start=len(parts[0]) + 1, end=len(data))[0]) == list(range(4, 20))


def test_other_files_are_one_piece() -> None:
    data = (HEAD + article(1) + TAIL).encode()
    for form in (data, gzip.compress(data), bz2.compress(data)):
        assert ids(read(form, start=0, end=10)[0]) == [1]
        assert ids(read(form, start=10, end=len(form))[0]) == []


def test_truncated_dumps_give_the_pages_before() -> None:
    text = HEAD + "".join(article(number) for number in range(400)) + TAIL
    cut_plain, tally = read(text.encode()[:200_000])
    assert ids(cut_plain) == list(range(len(cut_plain)))
    assert 150 < len(cut_plain) < 400
    assert tally.counts["damaged_page"] == 1
    zipped = gzip.compress(text.encode())
    cut_gzip, _ = read(zipped[: len(zipped) // 2])
    assert 100 < len(cut_gzip) < 300
    one_stream = bz2.compress(text.encode(), 1)
    cut_bzip2, tally = read(one_stream[: len(one_stream) // 2])
    assert ids(cut_bzip2) == list(range(len(cut_bzip2)))
    assert len(cut_bzip2) > 50
    assert tally.counts[DUMP_DAMAGED] == 1
    assert "ends inside" in tally.details[DUMP_DAMAGED][0]


def test_a_damaged_stream_costs_its_pages_only() -> None:
    parts = multistream(6, 4)
    hurt = bytearray(parts[3])
    hurt[len(hurt) // 2 :][:40] = bytes(40)
    hurt[len(hurt) // 2 : len(hurt) // 2 + 40] = bytes(40)
    articles, tally = read(b"".join((*parts[:3], bytes(hurt), *parts[4:])))
    assert ids(articles) == [*range(8), *range(12, 24)]
    assert tally.counts[DUMP_DAMAGED] == 1
    garbage = b"".join((*parts[:3], b"garbage between streams", *parts[3:]))
    assert ids(read(garbage)[0]) == list(range(24))


def test_what_is_no_dump_gives_nothing() -> None:
    for data in (
        b"",
        b"hello",
        bz2.compress(b"hello"),
        b"BZh91AY&SY" + bytes(50),
        gzip.compress(b"<page>", mtime=0),
        b"\x1f\x8b\x08",
    ):
        assert read(data)[0] == []


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match="does not exist"):
        list(read_articles(tmp_path / "dump.xml.bz2"))


def test_fuzzed_dumps_never_raise() -> None:
    rng = random.Random(0)
    plain = (HEAD + "".join(article(number) for number in range(10)) + TAIL).encode()
    for base in (plain, b"".join(multistream(4, 2)), gzip.compress(plain)):
        for _ in range(60):
            data = bytearray(base)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(50)] = rng.randbytes(rng.randrange(50))
            read(bytes(data[: rng.randrange(1, len(data))]))


@needs_data
def test_the_real_dump_pieces() -> None:
    tally = ReasonCounter()
    articles = list(read_articles(next(DATA.glob("enwiki-latest*.bz2")), tally))
    assert dict(tally.counts) == {PAGES: 206, "redirect": 99, "disambiguation": 8, "other_namespace": 1}
    assert len(articles) == 98
    assert {"Anarchism", "Alaska", "ASCII"} <= {found.title for found in articles}


def test_a_tag_that_asks_for_disambiguation_does_not_make_one() -> None:
    tagged = b"<page><title>Kite</title><ns>0</ns><text>See [[Red]]{{disambiguation needed|date=May}}.</text></page>"
    listing = b"<page><title>Red</title><ns>0</ns><text>Red may be {{disambiguation}}</text></page>"
    tally = ReasonCounter()
    assert [article.title for article in read_articles(io.BytesIO(tagged + listing), tally)] == ["Kite"]
    assert tally.counts[DISAMBIGUATION] == 1


def test_a_cut_gzip_dump_is_said_to_be_damaged() -> None:
    pages = b"".join(b"<page><title>K%d</title><ns>0</ns><text>a kite %d</text></page>" % (n, n) for n in range(99))
    tally = ReasonCounter()
    found = list(read_articles(io.BytesIO(gzip.compress(pages)[:-200]), tally))
    assert 0 < len(found) < 99
    assert tally.counts[DUMP_DAMAGED] == 1


@pytest.mark.parametrize(
    "hostile",
    [
        "<title>" * 50_000,
        "<title>a</title>" + "<text>" * 50_000,
        "<title>a</title>" + "<text " * 50_000,
        "<title>a</title><text>" + "</text" * 50_000,
        "<title>a</title><ns>" + " " * 200_000 + "<text>b</text>",
        "<title>a</title><ns>" + "0" * 200_000 + "</ns><text>b</text>",
    ],
)
def test_unfinished_tags_are_a_counted_reason(hostile: str) -> None:
    found, tally = read(f"{HEAD}<page>{hostile}</page>{article(7)}{TAIL}".encode())
    assert ids(found)[-1] == 7
    assert tally.counts[PAGES] == 2


def test_many_tiny_pages_and_pages_without_an_end() -> None:
    tiny = "<page><title>a</title><text>b</text></page>"
    assert len(read((HEAD + tiny * 30_000 + TAIL).encode())[0]) == 30_000
    found, tally = read((HEAD + "<page>" * 50_000 + TAIL).encode())
    assert (len(found), tally.counts[PAGES]) == (0, 1)


def test_a_dump_of_nothing_but_damage_ends() -> None:
    _, tally = read(b"BZh91AY&SY\x00\x00\x00\x00" * 5_000)
    assert tally.counts[DUMP_DAMAGED] == 1001
