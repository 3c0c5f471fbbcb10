from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ignore
from openwit.pipeline.common.urls import resolve
from openwit.pipeline.readers.pages.page_images import SRC, ExtractSettings, PageImages, Reference

_BASES = (
    None,
    "https://example.org/a/b.html?c=d",
    "http://example.org:8080/",
    "https://u:p@example.org/a",
    "https://EXAMPLE.org/a",
    "https://xn--bcher-kva.example/a/",
    "http://127.0.0.1/a",
    "https://example.org",
    "x",
)
_PARTS = st.sampled_from(
    ["/", "//", "..", ".", "a", "B.jpg", "%41", "%", "?", "#", ":", "\\", " ", "é", "http:", "https://", "example.org",
     "xn--a", "@", ";", "\n", "x" * 300]
)  # fmt: skip


@given(st.sampled_from(_BASES), st.lists(_PARTS, max_size=8).map("".join))
def test_the_short_way_to_a_url_gives_what_the_parser_gives(base: str | None, reference: str) -> None:
    images = PageImages(base, ignore, ExtractSettings())
    images.add(Reference(reference, SRC), [("alt", "a red house by the sea")], largest_side=500)

    assert [image.url for image in images.found(None, "")] in ([], [resolve(base, reference)])
    assert images._resolve(reference) == resolve(base, reference)
