import bz2
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.wikipedia import cirrusdump
from openwit.pipeline.readers.wikipedia.cirrusdump import CIRRUS_REASONS, CirrusArticle, is_cirrus, read_cirrus
from openwit.pipeline.readers.wikipedia.wikidump import DUMP_DAMAGED, PAGES
from openwit.schemas.common.errors import OpenWITError

COMPRESSIONS = [bytes, gzip.compress, bz2.compress, zstandard.compress]


def index(number: int | str, kind: str | None = "page") -> str:
    target = {"_id": str(number)} if kind is None else {"_type": kind, "_id": str(number)}
    return json.dumps({"index": target}, separators=(",", ":")) + "\n"


def document(title: str, text: str | None = "Some text.", **fields: Any) -> str:
    return json.dumps({"namespace": 0, "title": title, "text": text, **fields}) + "\n"


def pair(number: int, title: str, text: str | None = "Some text.", **fields: Any) -> str:
    return index(number) + document(title, text, **fields)


def numbered(count: int) -> str:
    noise = random.Random(7)
    return "".join(pair(n, f"Article {n}", f"Text {n}. {noise.randbytes(300).hex()}") for n in range(count))


def read(data: bytes | str) -> tuple[list[CirrusArticle], ReasonCounter]:
    tally = ReasonCounter()
    raw = data.encode() if isinstance(data, str) else data
    articles = list(read_cirrus(io.BytesIO(raw), tally))
    assert tally.counts[PAGES] == len(articles) + sum(tally.counts[reason] for reason in CIRRUS_REASONS)
    return articles, tally


def why(**fields: Any) -> str | None:
    """The reason why a page with these fields is no article."""
    title = fields.pop("title", "A title")
    articles, tally = read(pair(1, title, fields.pop("text", "Some text."), **fields))
    left = [reason for reason in tally.counts if reason != PAGES]
    assert len(articles) + len(left) == 1
    return left[0] if left else None


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_reads_articles(compress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = 'AT&T "quoted"\u2028 é 日本'
    data = index(12) + document(
        "Café & Co", text, popularity_score=3.5e-7, incoming_links=41, text_bytes=9, language="en", version=3,
        redirect=[{"namespace": 0, "title": "Cafe"}], heading=["History"], template=["Template:Dablink"],
        category=["Coffee", "Articles with links needing disambiguation"], content_model="wikitext",
    )  # fmt: skip
    data += "\n" + index(13, None) + document("Second", popularity_score=None)
    path = tmp_path / "enwiki_content-20251101-00000.json"
    path.write_bytes(compress(data.encode()))
    tally = ReasonCounter()
    assert list(read_cirrus(path, tally)) == [
        CirrusArticle("Café & Co", text, 12, 3.5e-7, 41),
        CirrusArticle("Second", "Some text.", 13, None, None),
    ]
    assert dict(tally.counts) == {PAGES: 2}
    assert is_cirrus(path)


def test_concatenated_members_are_one_dump() -> None:
    parts = [numbered(9).encode()[:2000], numbered(9).encode()[2000:]]
    for compress in COMPRESSIONS:
        articles, tally = read(b"".join(compress(part) for part in parts))
        assert [found.page_id for found in articles] == list(range(9))
        assert DUMP_DAMAGED not in tally.counts
    assert len(read(gzip.compress(parts[0] + parts[1]) + bytes(512))[0]) == 9


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"namespace": 4}, "other_namespace"),
        ({"namespace": 0}, None),
        ({"source_text": "#REDIRECT [[Other]]"}, "redirect"),
        ({"source_text": "\n#WEITERLEITUNG: [[Other]]"}, "redirect"),
        ({"source_text": "# [[First]]\n# [[Second]]"}, None),
        ({"source_text": "Plain wikitext"}, None),
        ({"redirect": [{"namespace": 0, "title": "Leads here"}]}, None),
        ({"content_model": "json"}, "not_wikitext"),
        ({"content_model": None}, None),
        ({"text": " \n"}, "empty_article"),
        ({"text": None}, "damaged_page"),
        ({"title": ""}, "damaged_page"),
        ({"title": None}, "damaged_page"),
        ({"title": 3}, "damaged_line"),
        ({"popularity_score": "often"}, "damaged_line"),
        ({"template": None, "category": None}, None),
    ],
)
def test_every_page_that_is_no_article_has_its_reason(fields: dict[str, Any], reason: str | None) -> None:
    assert why(**fields) == reason


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "Bank (disambiguation)"},
        {"title": "Bank (Begriffsklärung)"},
        {"title": "Меркурий (значения)"},
        {"template": ["Template:Dmbox", "Template:Disambiguation"]},
        {"template": "Template:Disambiguation"},
        {"template": ["Template:Disambiguation cleanup"]},
        {"template": ["Template:Human name disambiguation"]},
        {"template": ["Template:Hndis"]},
        {"template": ["Vorlage:Begriffsklärung"]},
        {"template": ["Modèle:Homonymie"]},
        {"template": ["Шаблон:Неоднозначность"]},
        {"template": ["Template:Aimai"]},
        {"category": ["Disambiguation pages"]},
        {"category": ["All article disambiguation pages"]},
        {"category": ["Disambiguation pages with short descriptions"]},
        {"category": ["Begriffsklärung"]},
        {"category": ["曖昧さ回避"]},
        {"category": ["全部消歧义页面"]},
        {"category": ["Страницы значений по алфавиту"]},
    ],
)
def test_disambiguation_pages_are_told_by_title_template_or_category(fields: dict[str, Any]) -> None:
    assert why(**fields) == "disambiguation"


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "Disambiguation"},
        {"template": ["Template:Disambiguation needed", "Template:Dablink", "Module:Disambiguation/templates"]},
        {"template": ["Template:Disambiguation link"]},
        {"template": ["Disambiguation"]},
        {"category": ["Articles with links needing disambiguation from May 2020", "Word-sense disambiguation"]},
    ],
)
def test_articles_that_only_speak_of_disambiguation_stay(fields: dict[str, Any]) -> None:
    assert why(**fields) is None


def test_lines_out_of_pairs() -> None:
    articles, tally = read(
        index(1)
        + index(2)  # 1 has no document
        + document("Two")
        + document("No index line", page_id=7)
        + document("No number at all")
        + "{broken\n"
        + index(3)
        + "[1, 2]\n"  # instead of 3's document
        + index("x")
        + document("No numeric id")
        + "\r\n \n"
        + index(4)
    )
    assert [(found.title, found.page_id) for found in articles] == [
        ("Two", 2),
        ("No index line", 7),
        ("No number at all", -1),
        ("No numeric id", -1),
    ]
    assert dict(tally.counts) == {PAGES: 8, "damaged_page": 2, "damaged_line": 2}


@pytest.mark.parametrize("compress", COMPRESSIONS[1:])
def test_truncated_dumps_give_the_pages_before(compress) -> None:  # type: ignore[no-untyped-def]
    whole = compress(numbered(4000).encode())
    articles, tally = read(whole[: len(whole) // 2])
    assert [found.page_id for found in articles] == list(range(len(articles)))
    assert 500 < len(articles) < 3000
    assert tally.counts[DUMP_DAMAGED] == 1
    hurt = bytearray(whole)
    hurt[len(whole) // 2 : len(whole) // 2 + 60] = bytes(60)
    articles, tally = read(bytes(hurt))
    assert 0 < len(articles) < 4000
    assert tally.counts[DUMP_DAMAGED] == 1
    garbage, tally = read(whole + b"garbage")
    assert len(garbage) == 4000 or (compress is zstandard.compress and len(garbage) > 3800)  # Arrow drops a buffer
    assert tally.counts[DUMP_DAMAGED] == 1


def test_a_plain_dump_that_ends_inside_a_line() -> None:
    articles, tally = read(numbered(3).encode()[:-200])
    assert len(articles) == 2
    assert dict(tally.counts) == {PAGES: 3, "damaged_line": 1}


def test_a_line_too_long_costs_its_page_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cirrusdump, "_MAX_LINE_BYTES", 300_000)
    long = pair(2, "Long", "x" * 2_000_000)
    articles, tally = read(pair(1, "One") + long + pair(3, "Three") + long.rstrip())
    assert [found.page_id for found in articles] == [1, 3]
    assert dict(tally.counts) == {PAGES: 4, "damaged_line": 2}


def test_other_files_are_not_cirrus(tmp_path: Path) -> None:
    xml = tmp_path / "pages.xml.bz2"
    xml.write_bytes(bz2.compress(b"<mediawiki>"))
    assert not is_cirrus(xml)
    for data, expected in ((b"", False), (b"  \n", False), (b"\xef\xbb\xbf \n{", True), (b"\x1f\x8b\x08", False)):
        assert is_cirrus(io.BytesIO(data)) is expected
    file = io.BytesIO(gzip.compress(numbered(2).encode()))
    assert is_cirrus(file)
    assert len(list(read_cirrus(file))) == 2
    assert not file.closed
    file = io.BytesIO(zstandard.compress(numbered(2).encode()))
    assert is_cirrus(file)
    assert len(list(read_cirrus(file))) == 2
    assert not file.closed
    with pytest.raises(OpenWITError, match="does not exist"):
        is_cirrus(tmp_path / "none.json.gz")
    with pytest.raises(OpenWITError, match="does not exist"):
        list(read_cirrus(tmp_path / "none.json.gz"))


_FIELDS = ["title", "text", "namespace", "template", "category", "source_text", "popularity_score", "index"]
_VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=9), st.floats(), st.lists(st.text(max_size=5), max_size=2)
)
_PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b'{"index":{"_id":"1"}}', b'{"index":3}', b'{"title":"T","text":"x"}', b"{}"]),
    st.just(b'{"title":"\\ud800","text":"x"}'),
    st.dictionaries(st.sampled_from(_FIELDS), _VALUES).map(lambda fields: json.dumps(fields).encode()),
)


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(_PIECES, max_size=8), compress=st.sampled_from(COMPRESSIONS), cut=st.integers(0, 30))
def test_no_bytes_are_lost_or_raise(pieces, compress, cut) -> None:  # type: ignore[no-untyped-def]
    data = compress(b"\n".join(pieces))
    read(data[: len(data) - cut])
    is_cirrus(io.BytesIO(data))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), magic=st.sampled_from([b"", b"\x1f\x8b\x08", b"BZh9", b"\x28\xb5\x2f\xfd"]))
def test_random_files_do_not_raise(data: bytes, magic: bytes) -> None:
    read(magic + data)
