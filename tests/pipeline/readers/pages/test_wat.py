import gzip
import html
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.warc import CUT_SHORT, RECORDS, Page, read_pages
from openwit.pipeline.readers.pages.charset import to_utf8
from openwit.pipeline.readers.pages.html import IMAGE_REASONS, IMAGES, ExtractSettings, FoundImage, extract
from openwit.pipeline.readers.pages.wat import WAT_NOTES, WAT_REASONS, WatPage, read_wat

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "warc"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/warc is missing")

URL = "https://a.example/dir/page.html"
PHOTO = {"path": "IMG@/src", "url": "dog.jpg", "alt": "a dog"}

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def envelope(*links: Any, head: Any = None, kind: str | None = "response", **response: Any) -> dict[str, Any]:
    """An envelope as ia-web-commons writes it; `response` replaces members of HTTP-Response-Metadata."""
    members = {
        "Response-Message": {"Version": "HTTP/1.1", "Status": "200", "Reason": "OK"},
        "Headers-Length": "300",
        "Headers": {"content-type": "text/html; charset=UTF-8", "Server": "x"},
        "HTML-Metadata": {"Head": head or {}, "Links": list(links)},
        "Entity-Length": "1000",
    }
    members.update({name.replace("_", "-"): value for name, value in response.items()})
    return {
        "Container": {"Filename": "CC-0.warc.gz", "Compressed": True, "Offset": "80610308"},
        "Envelope": {
            "Format": "WARC/1.0",
            "WARC-Header-Metadata": {
                **({"WARC-Type": kind} if kind else {}),
                "WARC-Date": "2024-05-18T01:58:10Z",
                "WARC-Target-URI": URL,
            },
            "Payload-Metadata": {
                "Actual-Content-Type": "application/http; msgtype=response",
                "HTTP-Response-Metadata": {name: value for name, value in members.items() if value is not None},
            },
        },
    }


def without_response(kind: str) -> dict[str, Any]:
    wat = envelope(kind=kind)
    del wat["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    return wat


def record(block: object, kind: str = "metadata", length: int | None = None) -> bytes:
    """A record of a WAT file; blocks that are no bytes become JSON."""
    data = block if isinstance(block, bytes) else json.dumps(block, ensure_ascii=False).encode()
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://record.example/\r\n"
        f"WARC-Date: 2024-05-31T01:17:49Z\r\nWARC-Record-ID: <urn:uuid:1>\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data) if length is None else length}"
    )
    return header.encode() + b"\r\n\r\n" + data + b"\r\n\r\n"


def read(data: bytes, **options: Any) -> tuple[list[WatPage], ReasonCounter, ReasonCounter]:
    records, images = ReasonCounter(), ReasonCounter()
    pages = list(read_wat(io.BytesIO(data), records, count_image=images, **options))
    assert set(records.counts) <= {*WAT_REASONS, *WAT_NOTES}
    assert records.counts[RECORDS] == len(pages) + sum(records.counts[reason] for reason in WAT_REASONS)
    assert set(images.counts) <= {*IMAGE_REASONS, IMAGES}
    assert images.counts[IMAGES] == sum(len(page.images) for page in pages) + sum(
        images.counts[reason] for reason in IMAGE_REASONS
    )
    return pages, records, images


def read_one(wat: object) -> tuple[WatPage, ReasonCounter, ReasonCounter]:
    pages, records, images = read(record(wat))
    assert len(pages) == 1, records.counts
    return pages[0], records, images


def pairs(images: list[FoundImage]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(image.url, image.texts) for image in images]


@pytest.mark.parametrize("form", FORMS)
def test_reads_pages_with_their_provenance(form: str) -> None:
    parts = [
        FORMS[form](part)
        for part in (record(b"software: x", "warcinfo"), record(envelope(PHOTO)), record(envelope(PHOTO)))
    ]
    pages, records, images = read(b"".join(parts))
    assert [page.record_offset for page in pages] == [len(parts[0]), len(parts[0] + parts[1])]
    first = pages[0]
    assert (first.url, first.date) == (URL, "2024-05-18T01:58:10Z")
    assert (first.source_filename, first.source_offset) == ("CC-0.warc.gz", 80610308)
    assert first.images == [
        FoundImage("https://a.example/dir/dog.jpg", "src", [("alt", "a dog")], None, relative=True, page_title="")
    ]
    assert dict(records.counts) == {RECORDS: 3, "not_response": 1}
    assert dict(images.counts) == {IMAGES: 2}


def test_every_record_that_is_no_page_has_its_reason() -> None:
    good = envelope(PHOTO)
    cases: list[tuple[str, bytes]] = [
        ("not_response", record(b"x: y", "warcinfo")),
        ("not_response", record(good, "response")),
        ("not_response", record(without_response("request"))),
        ("not_response", record(without_response("metadata"))),
        ("not_response", record({"Envelope": {}})),
        ("revisit", record(without_response("revisit"))),
        ("not_http", record(without_response("response"))),
        ("bad_http", record(envelope(PHOTO, Response_Message=None))),
        ("bad_http", record(envelope(PHOTO, Response_Message={"Status": "OK"}))),
        ("not_200", record(envelope(PHOTO, Response_Message={"Status": "301"}))),
        ("not_200", record(envelope(PHOTO, Response_Message={"Status": 404}))),
        ("not_html", record(envelope(HTML_Metadata=None, Headers={"Content-Type": "image/jpeg"}))),
        ("not_html", record(envelope(HTML_Metadata=None, Headers=None))),
        ("empty_page", record(envelope(HTML_Metadata=None))),
        ("empty_page", record(envelope(HTML_Metadata=None, Headers={"CONTENT-TYPE": ["text/html", "x"]}))),
        ("page_too_large", record(envelope(*[PHOTO] * 2000))),
        ("bad_json", record(b"not json")),
        ("bad_json", record(b"")),
        ("bad_json", record(["a list"])),
        ("bad_json", record({"Container": {}})),
        ("bad_json", record(json.dumps(good).encode()[:-3])),
        ("bad_json", record(b'{"Envelope":' + b"[" * 50_000)),
        ("bad_json", record(b'{"Envelope":{"x":' + b"9" * 10_000 + b',"y":nope}}')),
    ]
    for reason, data in cases:
        pages, records, _ = read(data, max_block_bytes=100_000)
        assert (pages, dict(records.counts)) == ([], {RECORDS: 1, reason: 1}), data[-200:]
    pages, records, _ = read(b"".join(data for _, data in cases) + record(good), max_block_bytes=100_000)
    assert len(pages) == 1
    assert records.counts[RECORDS] == len(cases) + 1


def test_images_are_told_apart_as_in_html() -> None:
    def img(url: str | None, **attributes: str) -> dict[str, str]:
        return {"path": "IMG@/src", **({} if url is None else {"url": url}), **attributes}

    page, _, images = read_one(
        envelope(
            {"path": "A@/href", "url": "cat.jpg", "alt": "no image", "text": "a cat"},
            {"path": "IMG@/longdesc", "url": "about.html"},
            {"path": "STYLE/#text", "href": "background.jpg"},
            {"path": "VIDEO@/poster", "url": "poster.jpg"},
            img("  dog.jpg ", alt=" a dog ", title="Rex"),
            img("https://b.example/dog.jpg", alt="another", title="another"),
            img("./dog.jpg#x", alt="a dog", title="a good dog"),
            img("no-text.jpg", alt="", title=" "),
            img("no-alt.jpg"),
            img(None, alt="x"),
            img(" ", alt="x"),
            img("data:image/gif;base64,AAAA", alt="x"),
            img("ftp://a.example/x.jpg", alt="x"),
            img("favicon.png", alt="x"),
            img("blank.gif", alt="x"),
            img("logo.svg", alt="x"),
        )
    )
    assert pairs(page.images) == [
        ("https://a.example/dir/dog.jpg", [("alt", "a dog"), ("title", "Rex"), ("title", "a good dog")]),
        ("https://b.example/dog.jpg", [("alt", "another")]),
    ]
    assert [image.relative for image in page.images] == [True, False]
    assert dict(images.counts) == {
        IMAGES: 12, "repeated_on_page": 1, "no_text": 2, "no_url": 2, "data_uri": 1, "bad_url": 1, "icon": 1,
        "placeholder": 1, "svg": 1,
    }  # fmt: skip
    pages, _, _ = read(record(envelope(img("logo.svg", alt="x"))), settings=ExtractSettings(drop_svg=False))
    assert len(pages[0].images) == 1


def test_head_gives_open_graph_base_and_title() -> None:
    head = {
        "Base": "/other/",
        "Title": " The page ",
        "Metas": [
            {"http-equiv": "x", "content": "y"},
            {"property": "og:image", "content": "lead.jpg"},
            {"property": "og:image:secure_url", "content": "https://a.example/lead.jpg"},
            {"name": "og:image:alt", "content": "the lead"},
            {"property": "OG:Description", "content": "what it says"},
            {"property": "og:image"},
        ],
    }
    page, _, images = read_one(envelope(PHOTO, head=head))
    assert pairs(page.images) == [
        ("https://a.example/other/dog.jpg", [("alt", "a dog")]),
        ("https://a.example/other/lead.jpg", [("alt", "the lead"), ("og:description", "what it says")]),
    ]
    assert [(image.image_source, image.page_title) for image in page.images] == [
        ("src", "The page"),
        ("og", "The page"),
    ]
    assert dict(images.counts) == {IMAGES: 2}


@pytest.mark.parametrize(
    ("head_links", "links", "expected"),
    [
        ([{"url": "/l", "rel": "License"}], [], "https://a.example/l"),
        ([], [{"url": "/l", "rel": "nofollow license"}], "https://a.example/l"),
        ([], [{"url": "http://creativecommons.org/licenses/by/4.0/"}], "http://creativecommons.org/licenses/by/4.0/"),
        (
            [],
            [{"url": "http://creativecommons.org/licenses/by/4.0/"}, {"url": "/l", "rel": "license"}],
            "https://a.example/l",
        ),
        ([{"url": "http://creativecommons.org/licenses/by/4.0/", "rel": "icon"}], [], None),
        ([], [{"url": "/l", "rel": "license", "path": "FORM@/action"}, {"rel": "license"}], None),
    ],
)
def test_licence(head_links: list[dict[str, str]], links: list[dict[str, str]], expected: str | None) -> None:
    head = {"Link": [{"path": "LINK@/href", **link} for link in head_links]}
    page, _, _ = read_one(envelope(PHOTO, *({"path": "A@/href", **link} for link in links), head=head))
    # rel=license without a URL names the page itself, as it does in HTML
    expected = URL if expected is None and {"rel": "license"} in links else expected
    assert [image.license for image in page.images] == [expected]


def test_pages_without_links_are_pages_without_images() -> None:
    cases: list[dict[str, Any]] = [{}, {"Head": {}}, {"Links": []}, {"Head": {"Title": "x"}, "Links": [{}]}]
    for metadata in cases:
        page, records, images = read_one(envelope(HTML_Metadata=metadata))
        assert page.images == []
        assert (dict(records.counts), dict(images.counts)) == ({RECORDS: 1}, {})


def test_what_the_envelope_does_not_say_comes_from_the_record() -> None:
    arc = envelope(PHOTO, kind=None)
    del arc["Container"]
    arc["Envelope"]["ARC-Header-Metadata"] = arc["Envelope"].pop("WARC-Header-Metadata")
    page, _, _ = read_one(arc)
    assert (page.url, page.date) == ("https://record.example/", "2024-05-31T01:17:49Z")
    assert (page.source_filename, page.source_offset) == (None, None)
    odd = envelope(PHOTO)
    odd["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"] = "hard::name"
    odd["Container"]["Offset"] = "9" * 5000
    page, records, images = read_one(odd)
    assert (page.url, page.images, page.source_offset) == ("hard::name", [], None)
    assert records.counts["bad_page_url"] == 1
    assert images.counts["bad_url"] == 1


def test_one_bad_value_does_not_cost_the_page() -> None:
    wat = envelope(
        PHOTO,
        {"path": "IMG@/src", "url": "cat.jpg", "alt": 7, "title": "a cat"},
        "no link",
        {"path": ["IMG@/src"], "url": "x.jpg", "alt": "x"},
        head={"Base": 3, "Metas": {"property": "og:image"}, "Link": [None, {"url": "/l", "rel": "license"}]},
        Headers={"X": None, "Y": 1.5},
        Response_Message={"Status": 200},
    )
    wat["Container"] = {"Offset": 12, "Filename": False}
    page, records, _ = read_one(wat)
    assert pairs(page.images) == [
        ("https://a.example/dir/dog.jpg", [("alt", "a dog")]),
        ("https://a.example/dir/cat.jpg", [("title", "a cat")]),
    ]
    assert page.images[0].license == "https://a.example/l"
    assert (page.source_filename, page.source_offset) == (None, 12)
    assert dict(records.counts) == {RECORDS: 1, "repaired_json": 1}


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (b"caf\xe9", "caf\ufffd"),
        (rb"a \ud83d dog", "a \ufffd dog"),
        (rb"\udc36\ud83d", "\ufffd\ufffd"),
        (b"a\ndog\x01", "a\ndog\x01"),
        (b"\xed\xa0\xbd dog", "\ufffd\ufffd\ufffd dog"),
    ],
)
def test_bad_unicode_does_not_cost_the_page(damage: bytes, text: str) -> None:
    page, records, _ = read_one(json.dumps(envelope(PHOTO)).encode().replace(b"a dog", damage))
    assert page.images[0].texts == [("alt", text)]
    text.encode()
    assert dict(records.counts) == {RECORDS: 1, "repaired_json": 1}


def test_texts_stay_as_the_crawl_has_them() -> None:
    texts = ("cafÃ©", "a &amp; b", "\U0001f436 dog", "two\nlines")
    page, records, _ = read_one(
        envelope(*({"path": "IMG@/src", "url": f"{n}.jpg", "alt": text} for n, text in enumerate(texts)))
    )
    assert [image.texts for image in page.images] == [[("alt", text)] for text in texts]
    assert dict(records.counts) == {RECORDS: 1}
    pair = json.dumps(envelope({**PHOTO, "alt": "\U0001f436"})).encode()
    assert rb"\ud83d\udc36" in pair
    assert read_one(pair)[0].images[0].texts == [("alt", "\U0001f436")]


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_gives_what_is_there(form: str) -> None:
    parts = [FORMS[form](record(envelope({**PHOTO, "alt": f"dog {n}"}))) for n in range(4)]
    whole = b"".join(parts)
    pages, records, _ = read(whole[: len(whole) - len(parts[3]) // 2])
    assert [page.images[0].texts[0][1] for page in pages] == ["dog 0", "dog 1", "dog 2"]
    assert records.counts["archive_damaged"] == 1
    if records.counts[RECORDS] == 4:
        assert records.counts["damaged_record"] == 1


@pytest.mark.parametrize("length", [5, 3000, 10**12])
def test_a_wrong_length_does_not_swallow_the_next_pages(length: int) -> None:
    parts = [record(envelope({**PHOTO, "alt": f"dog {n}"})) for n in range(4)]
    parts[1] = record(envelope({**PHOTO, "alt": "dog 1"}), length=length)
    pages, records, _ = read(b"".join(parts))
    assert {page.images[0].texts[0][1] for page in pages} >= {"dog 0", "dog 2", "dog 3"}
    assert records.counts["archive_damaged"] >= 1
    if length == 3000:
        assert len(pages) == 4
        assert records.counts[CUT_SHORT] == 1


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    links = [{"path": "IMG@/src", "url": f"{n}.jpg", "alt": f"dog {n}"} for n in range(5)]
    blocks = (b"software: x", envelope(*links), without_response("request"), envelope(PHOTO), envelope(*links[:2]))
    form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    data = bytearray(b"".join(form(record(b, "warcinfo" if isinstance(b, bytes) else "metadata")) for b in blocks))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat", "end"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 300))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=50))
            case "repeat":
                data[at:at] = data[:at]
            case "end":
                del data[at:]
    return bytes(data)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(damaged())
def test_damage_neither_raises_nor_loses_count(data: bytes) -> None:
    pages, _, _ = read(data)
    for page in pages:
        for image in page.images:
            image.url.encode()
            assert all(text.strip() and text.encode() for _, text in image.texts)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.data())
def test_any_value_may_stand_anywhere_in_an_envelope(data: st.DataObject) -> None:
    head = {"Base": "x/", "Metas": [{"property": "og:image", "content": "a.jpg"}], "Link": [{"rel": "license"}]}
    wat = envelope(PHOTO, head=head)
    node: Any = wat
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 9)) == 0:
            node[key] = data.draw(JSON)
            break
        node = node[key]
    _, records, _ = read(record(json.dumps(wat).encode()))
    assert records.counts[RECORDS] == 1
    assert records.counts["bad_json"] == 0 or "Envelope" not in wat or not isinstance(wat["Envelope"], dict)


ATTRIBUTE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["a dog", " a  cat\n"]
)
REFERENCE = st.sampled_from(
    [
        "dog.jpg",
        "/cat.jpg?x=1&y=2",
        "//b.example/x.png",
        "https://a.example/dir/dog.jpg",
        "data:,",
        "",
        "blank.gif",
        "#",
    ]
)
IMAGE = st.fixed_dictionaries({"src": REFERENCE}, optional={"alt": ATTRIBUTE, "title": ATTRIBUTE})


def as_html(tag: str, attributes: dict[str, str]) -> str:
    return f"<{tag} " + " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items()) + ">"


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(IMAGE, max_size=5),
    st.lists(
        st.tuples(st.sampled_from(["og:image", "og:image:alt", "og:description"]), ATTRIBUTE | REFERENCE), max_size=4
    ),
    st.none() | st.sampled_from(["/base/", "https://c.example/", "::"]),
)
def test_same_images_as_from_the_page_itself(
    images: list[dict[str, str]], metas: list[tuple[str, str]], base: str | None
) -> None:
    described = [{"property": name, "content": content} for name, content in metas]
    head = {"Metas": described, "Title": "T", **({} if base is None else {"Base": base})}
    links = [
        {"path": "IMG@/src", "url": image["src"], **{k: v for k, v in image.items() if k != "src"}} for image in images
    ]
    body = "".join(
        [
            "<!DOCTYPE html><meta charset=utf-8><title>T</title>",
            "" if base is None else as_html("base", {"href": base}),
            *(as_html("meta", meta) for meta in described),
            "<body>",
            *(as_html("img", image) for image in images),
        ]
    )
    in_html = ReasonCounter()
    expected = extract(Page(URL, body.encode(), None, 0, None, 200), in_html)
    page, _, in_wat = read_one(envelope(*links, head=head))
    assert page.images == expected
    assert in_wat.counts == in_html.counts


def describe(page: Page) -> dict[str, Any]:
    """What ia-web-commons keeps of a page's images, links and head."""
    tree = LexborHTMLParser(to_utf8(page.body, page.charset))
    links: list[dict[str, str]] = []
    head: dict[str, Any] = {"Metas": [], "Link": []}
    wanted = {"img": ("src", "alt", "title"), "a": ("href", "rel", "title"), "link": ("href", "rel", "type")}
    for node in tree.css("img, a, link, meta, base"):
        attributes = {name: value or "" for name, value in node.attributes.items()}
        tag = node.tag or ""
        if tag == "base" and "href" in attributes:
            head.setdefault("Base", attributes["href"])
        elif tag == "meta":
            head["Metas"].append(
                {name: attributes[name] for name in ("name", "property", "content") if name in attributes}
            )
        elif tag in wanted and wanted[tag][0] in attributes:
            url, *others = wanted[tag]
            link = {"path": f"{tag.upper()}@/{url}", "url": attributes[url]}
            link.update({name: attributes[name] for name in others if name in attributes})
            (head["Link"] if tag == "link" else links).append(link)
    wat = envelope(*links, head=head)
    wat["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"] = page.url
    return wat


@needs_data
def test_real_pages_give_what_their_html_gives_from_src() -> None:
    sources, texts = {"src", "noscript", "og"}, {"alt", "title", "og:description"}
    compared = 0
    pages = list(read_pages(DATA / "example-with-images.warc.gz"))
    described, _, _ = read(b"".join(record(describe(page)) for page in pages))
    for page, wat in zip(pages, described, strict=True):
        found = {image.url: image for image in wat.images}
        for image in extract(page):
            kept = {text for source, text in image.texts if source in texts}
            if image.image_source in sources and kept:
                assert kept <= {text for _, text in found[image.url].texts}
                assert image.license == found[image.url].license
                compared += 1
    assert compared > 100


@needs_data
def test_the_real_file_describes_a_request() -> None:
    records = ReasonCounter()
    assert list(read_wat(DATA / "whirlwind.warc.wat.gz", records)) == []
    assert dict(records.counts) == {RECORDS: 2, "not_response": 2}


def test_an_archive_that_is_no_wat_is_counted() -> None:
    assert set(read(b"<html>")[1].counts) == {"archive_damaged"}
    arc = b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain 2\n1\n\n"
    arc += b"http://a.example/ 1.2.3.4 20080430204826 text/html 2\nhi\n"
    assert read(arc)[1].counts["not_response"] == 1
