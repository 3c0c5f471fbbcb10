import io
import itertools

import numpy as np
import pytest
from PIL import Image

from openwit.workflows.demo.concepts import all_concepts
from openwit.workflows.demo.render import Encoding, draw, encode, flatten, perceptual_hash, rasterise
from openwit.workflows.demo.sites import SITES
from openwit.workflows.demo.styles import STYLES

NEAR = 4  # bits of 64 within which two pictures count as the same


@pytest.fixture(scope="module")
def glyphs():
    return {concept.key: rasterise(concept.svg()) for concept in all_concepts(16)}


def distance(first, second):
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(96, 96), (240, 160), (131, 257)])
def test_a_style_fills_any_size_and_repeats_itself(glyphs, style, size):
    glyph = next(iter(glyphs.values()))
    picture = draw(glyph, style, "seed", size)
    assert picture.size == size
    assert picture.tobytes() == draw(glyph, style, "seed", size).tobytes()
    assert np.asarray(flatten(picture).convert("L")).std() > 5


def test_one_emoji_on_two_sites_is_no_near_duplicate(glyphs):
    for key, glyph in glyphs.items():
        pictures = [draw(glyph, style, key, (192, 192)) for style in STYLES]
        assert all(distance(a, b) > NEAR for a, b in itertools.combinations(pictures, 2)), key


def test_two_emoji_on_one_site_are_no_near_duplicates(glyphs):
    for style in STYLES:
        pictures = [draw(glyph, style, key, (192, 192)) for key, glyph in glyphs.items()]
        assert all(distance(a, b) > NEAR for a, b in itertools.combinations(pictures, 2)), style


def test_a_picture_encoded_anew_is_a_near_duplicate(glyphs):
    distances = []
    for key, glyph in glyphs.items():
        picture = draw(glyph, "sticker", key, (256, 256))
        copy = Image.open(io.BytesIO(encode(picture.resize((180, 180)), Encoding("WEBP", 55))))
        distances.append(distance(picture, copy))
    assert sum(bits <= NEAR for bits in distances) >= 0.9 * len(distances)
    assert max(distances) <= 2 * NEAR


def test_no_other_site_has_the_held_out_style():
    styles = [site.style for site in SITES if site.role != "held out"]
    assert "framed_painting" not in styles
    assert [site.name for site in SITES if site.style == "framed_painting"] == ["gallery"]
