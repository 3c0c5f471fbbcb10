import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.errors import OpenWITError
from openwit.workflows.demo.concepts import LANGUAGES, all_concepts, group_of, plain_name, subset, unit_hash

CONCEPTS = all_concepts()


def test_concepts_are_named_drawn_and_unique():
    concepts = CONCEPTS
    assert 1_300 < len(concepts) < 1_700
    assert len({concept.slug for concept in concepts}) == len(concepts)
    assert len({concept.name for concept in concepts}) == len(concepts)
    assert all(concept.slug.isascii() and "/" not in concept.slug for concept in concepts)
    assert all(set(concept.names) == set(LANGUAGES) for concept in concepts)


def test_a_known_concept():
    pizza = next(concept for concept in CONCEPTS if concept.key == "1F355")
    assert (pizza.name, pizza.slug, pizza.group) == ("pizza", "pizza", "food and drink")
    assert pizza.names["ru"] == "пицца"
    assert pizza.svg().startswith("<svg")


def test_variants_are_left_out():
    names = {concept.name for concept in CONCEPTS}
    assert "artist" in names
    assert not names & {"woman artist", "Germany", "family man boy", "waving hand light skin tone", "pirate flag"}


@given(st.integers(1, len(CONCEPTS)), st.integers(1, len(CONCEPTS)))
def test_a_smaller_set_is_contained_in_a_larger(first, second):
    small, large = sorted((first, second))
    assert {concept.key for concept in subset(CONCEPTS, small)} <= {c.key for c in subset(CONCEPTS, large)}
    assert len(subset(CONCEPTS, small)) == small


@pytest.mark.parametrize("limit", [0, -1, 1_000_000])
def test_impossible_number_of_concepts(limit):
    with pytest.raises(OpenWITError, match=f"--concepts {limit} is out of range"):
        all_concepts(limit)


def test_plain_names():
    assert plain_name(":A_button_(blood_type):") == "A button blood type"
    assert plain_name(":men’s_room:") == "men's room"


@given(st.lists(st.text(), min_size=1))
def test_unit_hash_is_a_fraction_and_repeats(parts):
    assert 0 <= unit_hash(*parts) < 1
    assert unit_hash(*parts) == unit_hash(*parts)


@given(st.integers(0, 0x10FFFF))
def test_every_code_point_has_a_group(point):
    assert group_of(point)
