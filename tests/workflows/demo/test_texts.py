import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.workflows.demo.concepts import Concept, all_concepts
from openwit.workflows.demo.sites import SITES
from openwit.workflows.demo.texts import with_article, words_for

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1).map(lambda name: f"the {name}")


@given(NAMES, st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1))
def test_html_says_what_the_author_meant(name, key):
    concept = Concept(key, name, "slug", "things", {})
    words = words_for(concept, "site", "en", ("picture of {name}",), ("{Name}",))
    assert html.unescape(words.alt_html) == words.alt
    if words.kind in ("plain", "entities"):
        assert name in words.alt.replace("\u00a0", " ")


def test_all_kinds_of_alt_texts_occur_and_most_are_plain():
    concepts = all_concepts()
    kinds = [words_for(c, s.name, s.language, s.alts, s.captions).kind for s in SITES[:7] for c in concepts]
    assert 0.9 < kinds.count("plain") / len(kinds) < 0.97
    assert set(kinds) == {
        "plain", "empty", "file name", "boilerplate", "url", "stuffed", "entities", "spaces", "control"
    }  # fmt: skip


def test_texts_in_the_language_of_the_site():
    heart = next(concept for concept in all_concepts() if concept.name == "red heart")
    assert "сердце" in words_for(heart, "kartinki", "ru", ("рисунок: {name}",), ("{name}",)).caption


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pizza", "a pizza"), ("ear", "an ear"), ("eyes", "eyes"), ("octopus", "an octopus"), ("Gemini", "Gemini")],
)
def test_articles(name, expected):
    assert with_article(name) == expected
