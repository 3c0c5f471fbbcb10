"""What an image stands in is found as by walking up from each image."""

from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from openwit.pipeline.readers.pages.surroundings import Ancestors

TAGS = st.sampled_from(
    ["<div>", "<a>", "</a>", "<figure>", "</figure>", "<picture>", "</picture>", "<noscript>", "</div>", "<img>",
     "<div><div><div><div>"]
)  # fmt: skip


def walk(image):
    found = dict.fromkeys(("a", "figure", "picture", "noscript"))
    node = image.parent
    for _ in range(16):
        if node is None or node.tag == "body":
            break
        if node.tag in found and found[node.tag] is None:
            found[node.tag] = node.mem_id
        node = node.parent
    return list(found.values())


@given(st.lists(TAGS, max_size=60).map("".join))
def test_ancestors_are_those_of_a_walk(body):
    tree = LexborHTMLParser(f"<body>{body}<img>")
    ancestors = Ancestors()
    for image in tree.css("img"):
        assert [node and node.mem_id for node in ancestors.around(image)] == walk(image)


def test_what_is_more_than_16_levels_above_does_not_count():
    for levels, counts in ((14, True), (15, True), (16, False)):
        tree = LexborHTMLParser(f"<figure>{'<div>' * levels}<img><img>")
        ancestors = Ancestors()
        assert all((ancestors.around(image)[1] is not None) == counts for image in tree.css("img"))
