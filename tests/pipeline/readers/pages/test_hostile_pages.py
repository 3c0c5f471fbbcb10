"""Pages built to cost time: the operations grow with the size, not with its square."""

import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.warc import Page
from openwit.pipeline.readers.pages import markup_limits, page_images
from openwit.pipeline.readers.pages.captions import CAPTION_TOO_FAR, MAX_CAPTION_NODES
from openwit.pipeline.readers.pages.html import IMAGES, extract
from openwit.pipeline.readers.pages.markup_limits import (
    MAX_ATTRIBUTES,
    MAX_DEPTH,
    MAX_FORMATTING,
    MAX_ROOTS,
    limit_markup,
)
from openwit.pipeline.readers.pages.page_images import TAGS_LEFT_OUT

IMG = "<img src=a.jpg alt=a>"
SHAPES: dict[str, Callable[[int], str]] = {
    "srcset of unusable candidates": lambda n: (
        "<img alt=a srcset='" + ", ".join(f"blank.gif?{i} {i}w" for i in range(n)) + "'>"
    ),
    "picture": lambda n: "<picture>" + "<source srcset='a.jpg 1x'>" * n + "<img src=b.jpg alt=a>" * n + "</picture>",
    "nested figures": lambda n: f"<figure>{IMG}" * n,
    "nested figures, captions last": lambda n: "<figure>" * n + IMG + "<figcaption>x</figcaption>" * n,
    "empty nodes before an image": lambda n: "<figure>" * 12 + "<b></b>" * n + IMG * n,
    "attributes": lambda n: "<img " + " ".join(f"data-a{i}=x" for i in range(n)) + " src=a.jpg alt=a>",
    "attributes of a link": lambda n: "<a " + " ".join(f"b{i}=x" for i in range(n)) + ">" + IMG * n,
    "depth": lambda n: "<div>" * n + IMG * n,
    "links": lambda n: "".join(f"<a href={i}><b>" for i in range(n)) + IMG * n,
    "open formatting": lambda n: "".join(f"<p><b a{i}>" for i in range(n)) + IMG,
    "repeated bodies": lambda n: "".join(f"<BODY a{i}></b><hTmL b{i}></b>" for i in range(n)) + IMG,
    "one URL": lambda n: "".join(f"<img src=a.jpg alt='text {i}'>" for i in range(n)),
    "noscript": lambda n: f"<figure><noscript>{IMG}</noscript>" * n,
    "data URIs": lambda n: "<img srcset='" + "data:,b 2x," * n + "' src='data:," + "A" * n + "' alt=a>",
    "base": lambda n: "<base>" * n + "<base href='" + "b/" * 100 + "'>" + IMG * n,
    "title of a link": lambda n: "<a title='" + "t " * n + "'>" + "".join(f"<img src={i}.jpg>" for i in range(n)),
    "caption classes": lambda n: f"<div>{IMG}" * n + "<p class=wp-caption-text>x" * n,
    "classes": lambda n: "<div class='" + "caption- " * n + "'>" + IMG * n,
    "licences": lambda n: "<a href=https://creativecommons.org/licenses/by/4.0/>" * n + IMG,
    "metas": lambda n: "<meta property=og:image content=a.jpg><meta property=og:image:alt content=x>" * n,
}


def calls_of(body: str) -> int:
    """Count the calls, of Python's and of C's functions."""
    calls = 0

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    page = Page("https://site.example/x/", body.encode(), "utf-8", 0, None, 200)
    sys.setprofile(profile)
    try:
        extract(page)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("name", SHAPES)
def test_operations_grow_with_the_size(name: str) -> None:
    small, medium, large = (calls_of(SHAPES[name](n)) for n in (1100, 2200, 4400))
    assert medium <= 2.3 * small + 1000
    assert large <= 2.3 * medium + 1000


def depth_of(html: bytes | str) -> int:
    deepest = 0
    for node in LexborHTMLParser(html).css("*"):
        depth, parent = 0, node.parent
        while parent is not None:
            depth, parent = depth + 1, parent.parent
        deepest = max(deepest, depth)
    return deepest


def test_the_parser_gets_limited_markup() -> None:
    deep, cut = limit_markup("<div>" * 2000 + "text" + IMG)
    assert cut == 2000 - MAX_DEPTH
    assert depth_of(deep) <= MAX_DEPTH + 5
    bold, cut = limit_markup("".join(f"<p><b a{i}>" for i in range(2000)))
    assert cut == 2000 - MAX_FORMATTING
    assert len(LexborHTMLParser(bold).css("b")) <= 2000 * MAX_FORMATTING + MAX_FORMATTING
    attributes = " ".join(f"a{i}='>'" for i in range(5000))
    limited, cut = limit_markup(f"<div {attributes}>{IMG}")
    assert cut == 1
    assert len(LexborHTMLParser(limited).css("div")[0].attributes) == MAX_ATTRIBUTES
    bodies = "".join(f"<body a{i}=x></p>" for i in range(100)) + IMG
    limited, cut = limit_markup(bodies)
    assert cut == 100 - MAX_ROOTS
    body = LexborHTMLParser(limited).body
    assert body is not None
    assert list(body.attributes) == [f"a{i}" for i in range(MAX_ROOTS)]
    assert limit_markup("<b>x</b><br><h1>y</h1>" * 100) == ("<b>x</b><br><h1>y</h1>" * 100, 0)
    assert len(LexborHTMLParser(limited).css("img")) == 1


@pytest.mark.parametrize(
    "page",
    [
        "<p>one<p>two<br><li>three" * 3000,
        "<svg>" + "<path d='M0 0'/>" * 5000 + "</svg>",
        "<script>" + "if (a<b) {}" * 5000 + "</script>" + IMG,
        "<img src='data:image/png;base64," + "A" * 20_000 + "' alt=a>",
        "<svg><path d='" + "M 10 20 " * 3000 + "'/></svg>",
        "<!--" + "<div>" * 3000 + "-->" + IMG,
        b"\xff<div>" * 10,
        "<" * 30_000,
        "",
    ],
)
def test_ordinary_markup_passes_unchanged(page: str | bytes) -> None:
    assert limit_markup(page) == (page, 0)


def test_pictures_and_captions_nest_no_deeper_than_others() -> None:
    # Their cost is in the parser and in its queries, which a count of calls does not see.
    for tag in ("picture", "figcaption"):
        limited, cut = limit_markup(f"<{tag}>" * 2000 + IMG)
        assert cut == 2000 - MAX_DEPTH
        assert depth_of(limited) <= MAX_DEPTH + 5
    body = f"<picture>{IMG}<picture><source srcset='b.jpg 9x'><img src=c.jpg alt=c></picture></picture>"
    images = extract(Page("https://site.example/", body.encode(), None, 0, None, 200))
    assert [image.url.rpartition("/")[2] for image in images] == ["a.jpg", "b.jpg"]


def test_end_tags_of_nothing_do_not_hide_what_opens_after_them() -> None:
    tags = "".join(f"<b id={n}>" for n in range(3000)) + "<p>" * 2000
    _, cut = limit_markup(tags)
    assert cut > 2000
    for stray in (1, 3000, 9000):
        assert limit_markup("</b>" * stray + tags)[1] == cut


def test_limits_are_counted() -> None:
    tally = ReasonCounter()
    extract(Page("https://site.example/", ("<div>" * 5000 + IMG).encode(), None, 0, None, 200), tally)
    assert tally.counts[TAGS_LEFT_OUT] == 5000 - MAX_DEPTH
    body = f"<figure>{'<i></i>' * MAX_CAPTION_NODES}{IMG}<figcaption>x</figcaption></figure>"
    extract(Page("https://site.example/", body.encode(), None, 0, None, 200), tally)
    assert tally.counts[CAPTION_TOO_FAR] == 1


def test_images_after_the_limit_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_images, "MAX_IMAGES", 3)
    tally = ReasonCounter()
    images = extract(Page("https://site.example/", (IMG * 5).encode(), None, 0, None, 200), tally)
    assert len(images) == 1
    assert tally.counts[IMAGES] == 5
    assert tally.counts["too_many_images"] == 2


MARKUP = st.lists(
    st.sampled_from(["<div", "<b", "</b>", " a=", "=", '"', "'", " ", ">", "x", "<p>", "=''", '="', "/>", "<!--"]),
    max_size=30,
).map("".join)


@given(MARKUP)
@example("<b a=\"x>y\" b='>'>" * 70)
@example('<b a= ">">' * 70)
def test_the_short_way_to_the_end_of_a_tag_changes_nothing(markup: str) -> None:
    document = "<b>" * MAX_FORMATTING + markup
    fast = markup_limits._Limiter(document).run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markup_limits, "_USUAL_REST", re.compile(r"(?!)"))
        assert markup_limits._Limiter(document).run() == fast
