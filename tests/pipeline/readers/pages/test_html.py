import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.crawl.warc import Page, read_pages
from openwit.pipeline.readers.pages.html import IMAGE_REASONS, IMAGES, ExtractSettings, FoundImage, extract
from openwit.pipeline.readers.pages.page_images import DroppedImage

DATA = Path(__file__).parents[4].parent / "shared" / "data"
URL = "https://site.example/blog/post.html"


def find(
    body: str | bytes, charset: str | None = None, url: str = URL, options: ExtractSettings | None = None
) -> tuple[list[FoundImage], ReasonCounter]:
    tally = ReasonCounter()
    data = body if isinstance(body, bytes) else body.encode()
    images = extract(Page(url, data, charset, 0, None, 200), tally, settings=options)
    assert tally.counts[IMAGES] == len(images) + sum(tally.counts[reason] for reason in IMAGE_REASONS)
    return images, tally


def only(body: str, **options: str) -> FoundImage:
    images, tally = find(body, **options)
    assert len(images) == 1, tally.counts
    return images[0]


def reason_of(body: str, options: ExtractSettings | None = None) -> str | None:
    images, tally = find(body, options=options)
    reasons = [reason for reason in IMAGE_REASONS if tally.counts[reason]]
    assert len(images) + len(reasons) == 1
    return reasons[0] if reasons else None


def test_an_image_with_its_texts() -> None:
    image = only('<img src="cat.jpg" alt=" A cat &amp; a dog " title="Pets" aria-label="two animals">')
    assert image == FoundImage(
        "https://site.example/blog/cat.jpg",
        "src",
        [("alt", "A cat & a dog"), ("title", "Pets"), ("aria-label", "two animals")],
        None,
        True,
    )


def test_equal_texts_of_an_image_are_one() -> None:
    assert only('<img src=a.jpg alt="A cat" title="A cat">').texts == [("alt", "A cat")]


@pytest.mark.parametrize(
    ("head", "src", "url", "relative"),
    [
        ("", "/x.jpg", "https://site.example/x.jpg", True),
        ("", "//cdn.example/x.jpg", "https://cdn.example/x.jpg", True),
        ("", "http://cdn.example/x.jpg#f", "http://cdn.example/x.jpg", False),
        ("", "../x y.jpg", "https://site.example/x%20y.jpg", True),
        ("<base href='/media/'>", "x.jpg", "https://site.example/media/x.jpg", True),
        ("<base href='https://cdn.example/a/'>", "x.jpg", "https://cdn.example/a/x.jpg", True),
        ("<base target=_blank><base href='/b/'><base href='/c/'>", "x.jpg", "https://site.example/b/x.jpg", True),
        ("<base href='javascript:1'>", "x.jpg", "https://site.example/blog/x.jpg", True),
    ],
)
def test_references_are_resolved(head: str, src: str, url: str, relative: bool) -> None:
    image = only(f"<head>{head}</head><img src='{src}' alt='text'>")
    assert (image.url, image.relative) == (url, relative)


def test_on_a_page_without_usable_url_only_absolute_references_count() -> None:
    images, tally = find("<img src=x.jpg alt=a><img src=http://a.example/x.jpg alt=b>", url="hard::page.html")
    assert [image.url for image in images] == ["http://a.example/x.jpg"]
    assert tally.counts["bad_url"] == 1


@pytest.mark.parametrize(
    ("element", "file", "source"),
    [
        ("<img src=s.jpg srcset='m.jpg 600w, l.jpg 1200w' alt=a>", "l.jpg", "srcset"),
        ("<img src=s.jpg srcset='s.jpg, x.jpg 2x' alt=a>", "x.jpg", "srcset"),
        ("<img src=data:image/gif;base64,R0 data-src=real.jpg alt=a>", "real.jpg", "lazy"),
        ("<img src=thumb.jpg data-original=real.jpg alt=a>", "real.jpg", "lazy"),
        ("<img src=blank.gif data-lazy-src=real.jpg alt=a>", "real.jpg", "lazy"),
        ("<img src=thumb.jpg data-srcset='m.jpg 600w, l.jpg 1200w' alt=a>", "l.jpg", "lazy"),
        ("<img src=data:image/gif;base64,R0 data-big-picture=/p/real.jpg?x=1 alt=a>", "real.jpg?x=1", "lazy"),
        ("<img data-lazysrc=//cdn.example/real alt=a>", "real", "lazy"),
        ("<img src=blank.gif data-set='s.jpg 300w, l.jpg 900w' alt=a>", "l.jpg", "lazy"),
        ("<img src=blank.gif data-bgsrcset='s.jpg 1x, l.jpg 2x' alt=a>", "l.jpg", "lazy"),
        (
            '<img src=blank.gif data-page=/page.html data-json=\'{"a":"x.jpg"}\' data-orig-file=r.png alt=a>',
            "r.png",
            "lazy",
        ),
        ("<img src=blank.gif data-image-link=//a.example/p data-big-image=//a.example/i alt=a>", "i", "lazy"),
        ("<img src=real.jpg data-other=other.jpg alt=a>", "real.jpg", "src"),
        ("<img src=google-pixel-6.jpg data-other=other.jpg alt=a>", "google-pixel-6.jpg", "src"),
        ("<img src=pixel.png srcset='phone-pixel.png 800w' width=16 height=12 alt=a>", "phone-pixel.png", "srcset"),
        ("<amp-img src=amp.jpg alt=a width=1 height=1 layout=responsive></amp-img>", "amp.jpg", "src"),
        ("<img src=wide.jpg alt=a width=16 height=9>", "wide.jpg", "src"),
        ("<img src=wide.jpg alt=a width=1 height=1 style='width:100%;height:auto'>", "wide.jpg", "src"),
        ("<img src=pixel-phone.png alt='The phone on a table'>", "pixel-phone.png", "src"),
        ("<img src=real.jpg data-src='' alt=a>", "real.jpg", "src"),
        ("<img src=real.jpg data-lazy=true alt=a>", "real.jpg", "src"),
        ("<img src=real.jpg data-src=data:image/gif;base64,R0 alt=a>", "real.jpg", "src"),
        ("<img src=real.jpg srcset='data:image/gif;base64,R0 1x' alt=a>", "real.jpg", "src"),
        (
            "<picture><source srcset='w.webp 900w'><source srcset='j.jpg 1800w'><img src=s.jpg alt=a></picture>",
            "j.jpg",
            "picture",
        ),
        ("<picture><source type=image/jxl srcset='w.jxl 900w'><img src=s.jpg alt=a></picture>", "s.jpg", "src"),
        ("<picture><source srcset='w.webp 400w'><img srcset='b.jpg 800w' alt=a></picture>", "b.jpg", "srcset"),
        ("<body><noscript><img src=n.jpg alt=a></noscript>", "n.jpg", "noscript"),
        ("<amp-img src=amp.jpg alt=a width=300 height=200></amp-img>", "amp.jpg", "src"),
    ],
)
def test_the_best_source_of_an_element(element: str, file: str, source: str) -> None:
    image = only(element)
    assert (image.url.rpartition("/")[2], image.image_source) == (file, source)


def test_srcset_width_takes_the_narrowest_that_is_enough() -> None:
    body = "<img src=s.jpg srcset='s.jpg 300w, m.jpg 700w, l.jpg 2000w' alt=a>"
    images, _ = find(body, options=ExtractSettings(srcset_width=512))
    assert images[0].url.endswith("/m.jpg")


def test_the_noscript_copy_of_a_lazy_image_is_the_same_image() -> None:
    images, tally = find(
        "<figure><img src=blank.gif data-src=a.jpg alt='A cat'>"
        "<noscript><img src=a.jpg alt='A cat' title='Tom'></noscript>"
        "<figcaption>Tom, the cat</figcaption></figure>"
    )
    assert len(images) == 1
    assert images[0].image_source == "lazy"
    assert images[0].texts == [("alt", "A cat"), ("figcaption", "Tom, the cat"), ("title", "Tom")]
    assert tally.counts["repeated_on_page"] == 1


def test_noscript_in_the_head_does_not_hide_what_follows() -> None:
    images, _ = find(
        "<head><noscript><img src=t.gif width=1 height=1></noscript><base href=/b/>"
        "<meta property=og:image content=o.jpg><meta property=og:description content=Words></head>"
        "<body><img src=x.jpg alt=a>"
    )
    assert [image.url for image in images] == ["https://site.example/b/x.jpg", "https://site.example/b/o.jpg"]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (
            "<figure><img src=a.jpg><figcaption>A <b>red</b><br>car<script>x()</script></figcaption></figure>",
            ["A red car"],
        ),
        ("<figure><figcaption>Two</figcaption><img src=a.jpg alt=one><img src=b.jpg></figure>", ["one"]),
        (
            "<figure><figure><img src=a.jpg><figcaption>In</figcaption></figure><figcaption>Out</figcaption></figure>",
            ["In"],
        ),
    ],
)
def test_captions_of_figures(body: str, texts: list[str]) -> None:
    image = only(body)
    assert [" ".join(text.split()) for _, text in image.texts] == texts


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<a href=/x><img src=a.jpg> The red car</a>", [("link", "The red car")]),
        ("<a href=/x title='See it'><img src=a.jpg></a>", [("link", "See it")]),
        ("<a href=/x><span><img src=a.jpg></span><h3>Red</h3><p>car</p></a>", [("link", "Red car")]),
        ("<p>Text <a href=/x><img src=a.jpg alt=car></a> more</p>", [("alt", "car")]),
    ],
)
def test_captions_of_links(body: str, texts: list[tuple[str, str]]) -> None:
    assert [(source, " ".join(text.split())) for source, text in only(body).texts] == texts


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<div class='wp-caption'><img src=a.jpg><p class='wp-caption-text'>The <b>lake</b></p></div>", ["The lake"]),
        ("<div class=thumbinner><a><img src=a.jpg></a><div class=thumbcaption>A hill</div></div>", ["A hill"]),
        ("<li class=gallerybox><div><div><img src=a.jpg></div></div><div class=gallerytext>A</div></li>", ["A"]),
        ("<div><div><img src=a.jpg></div><div><span class='x image__caption'>B</span></div></div>", ["B"]),
        ("<div><p class=photoCaption>C</p><img src=a.jpg></div>", ["C"]),
        ("<figure><img src=a.jpg><div class=caption>D</div></figure>", ["D"]),
        ("<figure><img src=a.jpg><figcaption>E</figcaption><p class=caption>F</p></figure>", ["E"]),
        ("<div><img src=a.jpg alt=x><img src=b.jpg><p class=caption>both</p></div>", ["x"]),
        ("<div class='has-caption'><img src=a.jpg alt=x> no caption</div>", ["x"]),
        ("<div><img src=a.jpg alt=x></div><p class=caption>far away", ["x"]),
        ("<div><img src=a.jpg alt=x><p class=table-caption>of a table</p></div>", ["x"]),
        ("<div><img src=a.jpg alt=G><p class=caption>G</p></div>", ["G"]),
    ],
)
def test_captions_that_their_class_tells(body: str, texts: list[str]) -> None:
    image = only(body)
    assert [" ".join(text.split()) for _, text in image.texts] == texts
    assert {source for source, _ in image.texts} <= {"alt", "figcaption"}


@pytest.mark.parametrize(
    ("metas", "found"),
    [
        ({"og:image": "a.jpg", "twitter:image:alt": "A view"}, [("a.jpg", ["A view"])]),
        ({"og:image": "a.jpg", "twitter:image": "a.jpg", "twitter:image:alt": "A view"}, [("a.jpg", ["A view"])]),
        (
            {"og:image": "a.jpg", "og:image:alt": "O", "twitter:image": "t.jpg", "twitter:image:alt": "T"},
            [("a.jpg", ["O"]), ("t.jpg", ["T"])],
        ),
        ({"twitter:image:src": "t.jpg", "twitter:image:alt": "T"}, [("t.jpg", ["T"])]),
        ({"twitter:image": "t.jpg", "og:image": "a.jpg", "og:image:alt": "O"}, [("a.jpg", ["O"])]),
        ({"twitter:image:alt": "T"}, []),
    ],
)
def test_texts_of_open_graph_and_twitter(metas: dict[str, str], found: list[tuple[str, list[str]]]) -> None:
    images, _ = find("".join(f"<meta name={name} content='{content}'>" for name, content in metas.items()))
    got = [(image.url.rpartition("/")[2], [text for _, text in image.texts]) for image in images]
    assert got == found
    assert {image.image_source for image in images} <= {"og"}


def test_dropped_images_are_reported() -> None:
    dropped: list[DroppedImage] = []
    body = (
        "<img src=blank.gif alt=a><img src=x.svg alt=b><img src=p.jpg width=1 height=1 alt=c><img alt=d>"
        "<img src='data:image/gif;base64,R0' alt=e><img src=i.png width=16 height=16 alt=f><img src=blank.gif>"
        "<img src='ftp://a.example/x.jpg' alt=g>"
    )
    extract(Page(URL, body.encode(), None, 0, None, 200), on_drop=dropped.append)
    at = "https://site.example/blog/"
    assert dropped == [
        (f"{at}blank.gif", "a", "placeholder"),
        (f"{at}x.svg", "b", "svg"),
        (f"{at}p.jpg", "c", "tracking_pixel"),
        ("", "d", "no_url"),
        ("data:image/gif;base64,R0", "e", "data_uri"),
        (f"{at}i.png", "f", "icon"),
        ("ftp://a.example/x.jpg", "g", "bad_url"),
    ]


def test_a_link_around_several_images_captions_none() -> None:
    images, _ = find("<a href=/x><img src=a.jpg alt=one><img src=b.jpg alt=two> Both</a>")
    assert [image.texts for image in images] == [[("alt", "one")], [("alt", "two")]]


def test_open_graph() -> None:
    images, tally = find(
        "<meta property='og:description' content='About it'>"
        "<meta property='og:image' content='/a.jpg'><meta property='og:image:secure_url' content='https://x.example/a'>"
        "<meta property='og:image:alt' content='A view'>"
        "<meta name='og:image' content='http://b.example/b.jpg'><meta property='og:image'><meta content=x>"
    )
    assert [(image.url, image.image_source, image.texts) for image in images] == [
        ("https://site.example/a.jpg", "og", [("alt", "A view"), ("og:description", "About it")]),
    ]
    assert tally.counts[IMAGES] == 2
    body_first, _ = find(
        "<meta property=og:image content=a.jpg><meta property=og:description content=D><img src=a.jpg alt=A>"
    )
    assert [(image.image_source, image.texts) for image in body_first] == [
        ("src", [("alt", "A"), ("og:description", "D")])
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<img src=a.jpg>", "no_text"),
        ("<img src=a.jpg alt=''>", "no_text"),
        ("<img src=a.jpg alt='  \n'>", "no_text"),
        ("<img alt=a>", "no_url"),
        ("<img src='' alt=a>", "no_url"),
        ("<img src=data:image/png;base64,AAAA alt=a>", "data_uri"),
        ("<img src='http://[bad' alt=a>", "bad_url"),
        ("<img src='file:///etc/passwd' alt=a>", "bad_url"),
        ("<img src=a.jpg alt=a width=1 height=1>", "tracking_pixel"),
        ("<img src=a.jpg alt=a style='width:1px;height:1px'>", "tracking_pixel"),
        ("<img src=a.jpg alt=a width=16 height=16>", "icon"),
        ("<img src=favicon.ico alt=a>", "icon"),
        ("<img src=x.svg alt=a>", "svg"),
        ("<img src=spacer.gif alt=a>", "placeholder"),
        ("<!-- <img src=a.jpg alt=a> --><script>'<img src=b.jpg alt=b>'</script><img src=c.jpg alt=c>", None),
        ("<meta property=og:image content=a.jpg>", "no_text"),
    ],
)
def test_reasons(body: str, reason: str | None) -> None:
    assert reason_of(body) == reason


@pytest.mark.parametrize(
    ("link", "license_url"),
    [
        ("<a rel='nofollow license' href='/terms'>x</a>", "https://site.example/terms"),
        (
            "<link rel=LICENSE href=https://creativecommons.org/licenses/by/4.0/>",
            "https://creativecommons.org/licenses/by/4.0/",
        ),
        (
            "<a href=https://creativecommons.org/publicdomain/zero/1.0/>x</a>",
            "https://creativecommons.org/publicdomain/zero/1.0/",
        ),
        ("<a href=https://creativecommons.org/>x</a>", None),
        (
            "<a href=https://creativecommons.org/licenses/by/3.0/>x</a><a rel=license href=/l>y</a>",
            "https://site.example/l",
        ),
        ("<a rel=license href=javascript:1>x</a>", None),
        ("<a href=/license>x</a>", None),
    ],
)
def test_the_licence_a_page_states(link: str, license_url: str | None) -> None:
    assert only(f"{link}<img src=a.jpg alt=a>").license == license_url


@pytest.mark.parametrize(
    ("encoding", "header", "meta"),
    [("cp1251", "windows-1251", ""), ("cp1251", None, "<meta charset=windows-1251>"), ("utf-8", None, "")],
)
def test_texts_are_decoded(encoding: str, header: str | None, meta: str) -> None:
    images, _ = find(f"<head>{meta}</head><img src=a.jpg alt='Привет, мир'>".encode(encoding), header)
    assert images[0].texts == [("alt", "Привет, мир")]


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [
                "<img ",
                "src=",
                "alt=",
                "'",
                '"',
                ">",
                "<a href=x>",
                "</a>",
                "<figure>",
                "<figcaption>",
                "</figure>",
                "srcset=",
                "a.jpg 2x,",
                "data-src=",
                "<noscript>",
                "</noscript>",
                "<picture>",
                "<source ",
                "<base href=",
                "http://[",
                "<meta property=og:image content=",
                "&#xD800;",
                "&#0;",
                "\x00",
                "é",
                "width=1",
                "style=",
                "<template>",
                "<svg>",
                "<math>",
                "<table>",
                "<script>",
                "<!--",
                "-->",
                "<plaintext>",
                "<frameset>",
                "<title>",
            ]
        ),
        max_size=60,
    )
)
def test_tag_soup_never_raises(parts: list[str]) -> None:
    images, _ = find(" ".join(parts))
    for image in images:
        assert image.url.startswith(("http://", "https://"))
        assert image.texts
        assert all(text.strip() and text.encode() for _, text in image.texts)


def test_random_bytes_and_deep_nesting_never_raise() -> None:
    rng = random.Random(0)
    for _ in range(100):
        find(rng.randbytes(500) + b"<img src=a.jpg alt=" + rng.randbytes(50) + b">")
    images, _ = find("<div>" * 20_000 + "<a href=x>" + "<img src=a.jpg alt=deep>")
    assert images[0].texts == [("alt", "deep")]


def test_the_order_does_not_depend_on_the_run() -> None:
    body = "".join(f"<img src={n % 7}.jpg alt='text {n}'>" for n in range(40))
    assert find(body)[0] == find(body)[0]
    assert [image.url[-5] for image in find(body)[0]] == list("0123456")


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_a_real_crawl_gives_what_it_is_known_to_hold() -> None:
    tally = ReasonCounter()
    pages = list(read_pages(DATA / "warc" / "example-with-images.warc.gz"))
    pairs = {(image.url, text) for page in pages for image in extract(page, tally) for _, text in image.texts}
    assert len(pages) == 94
    assert len({(url, text) for url, text in pairs if "archive.org" in url}) >= 60
    assert tally.counts["bad_url"] == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_yields_every_source_on_real_pages_and_survives_their_mutations() -> None:
    rng = random.Random(0)
    sources = set()
    for number, page in enumerate(read_pages(DATA / "pages.warc.gz")):
        if number % 4:
            continue
        sources.update((image.image_source, source) for image in extract(page) for source, _ in image.texts)
        if number % 16 == 0:
            body = bytearray(page.body[:200_000])
            for _ in range(50):
                at = rng.randrange(len(body))
                body[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
            extract(Page(page.url, bytes(body), rng.choice([None, "utf-8", "gbk"]), 0, None, 200))
    assert {image for image, _ in sources} == {"src", "srcset", "picture", "lazy", "noscript", "og"}
    assert {text for _, text in sources} >= {"alt", "title", "figcaption", "link", "og:description"}
