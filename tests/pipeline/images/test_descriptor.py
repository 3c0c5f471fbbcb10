"""What is plain, and which pictures are the same: drawings and flags as well as photographs."""

import io
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from openwit.pipeline.images.descriptor import is_plain, is_similar, may_share_texts, phash_and_descriptor
from openwit.pipeline.images.process import ImageSettings, ProcessedImage, process_image

R, W, B, G, Y, K, A, N, S = (
    "#d21034",
    "#ffffff",
    "#0039a6",
    "#007a3d",
    "#ffce00",
    "#000000",
    "#ff7900",
    "#002b7f",
    "#75aadb",
)
DOWN = {
    "Poland": (W, R), "Indonesia": (R, W), "Ukraine": ("#005bbb", Y), "Germany": (K, R, Y), "Netherlands": (R, W, N),
    "Russia": (W, B, R), "Austria": (R, W, R), "Hungary": (R, W, G), "Bulgaria": (W, G, R), "Estonia": (S, K, W),
    "Lithuania": (Y, G, R), "Armenia": (R, B, A), "Gabon": (G, Y, S), "Sierra Leone": (G, W, S), "Yemen": (R, W, K),
    "Bolivia": (R, Y, G), "Ethiopia": (G, Y, R), "Colombia": (Y, Y, B, R), "Latvia": (R, R, W, R, R),
    "Spain": (R, Y, Y, R), "Thailand": (R, W, B, B, W, R), "Costa Rica": (B, W, R, R, W, B), "Luxembourg": (R, W, S),
    "Mauritius": (R, B, Y, G), "India": (A, W, G), "Iran": (G, W, R), "Argentina": (S, W, S), "Myanmar": (Y, G, R),
    "Gambia": (R, W, B, B, W, G), "Botswana": (S, S, W, K, W, S, S),
}  # fmt: skip
ACROSS = {
    "France": (N, W, R), "Italy": (G, W, R), "Ireland": (G, W, A), "Belgium": (K, Y, R), "Romania": (N, Y, R),
    "Peru": (R, W, R), "Nigeria": (G, W, G), "Mali": (G, Y, R), "Guinea": (R, Y, G), "Ivory Coast": (A, W, G),
    "Chad": (N, Y, R), "Malta": (W, R), "Mongolia": (R, B, R), "Portugal": (G, G, R, R, R), "Canada": (R, W, W, R),
}  # fmt: skip
# Colour of the cross, of its edge, of the ground; where it stands.
CROSSES = {
    "Denmark": (W, W, R, 0.36), "Sweden": (Y, Y, B, 0.36), "Finland": (N, N, W, 0.36), "Norway": (N, W, R, 0.36),
    "Iceland": (R, W, B, 0.36), "England": (R, R, W, 0.5), "Switzerland": (W, W, R, 0.5), "Georgia": (R, W, W, 0.5),
}  # fmt: skip
DISCS = {
    "Japan": (W, R),
    "Bangladesh": (G, R),
    "Palau": ("#4aadd6", Y),
    "Greenland": (W, R),
    "Niger": (W, A),
    "Laos": (N, W),
}


def stripes(colours: tuple[str, ...], *, across: bool, size: tuple[int, int] = (360, 240)) -> Image.Image:
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for n, colour in enumerate(colours):
        a, b = n / len(colours), (n + 1) / len(colours)
        draw.rectangle(
            (a * size[0], 0, b * size[0], size[1]) if across else (0, a * size[1], size[0], b * size[1]), colour
        )
    return image


def cross(inner: str, edge: str, ground: str, place: float) -> Image.Image:
    image = Image.new("RGB", (360, 240), ground)
    draw = ImageDraw.Draw(image)
    for colour, half in ((edge, 28), (inner, 16)):
        draw.rectangle((place * 360 - half, 0, place * 360 + half, 240), colour)
        draw.rectangle((0, 120 - half, 360, 120 + half), colour)
    return image


def disc(ground: str, colour: str) -> Image.Image:
    image = Image.new("RGB", (360, 240), ground)
    ImageDraw.Draw(image).ellipse((108, 48, 252, 192), colour)
    return image


FLAGS = {name: stripes(colours, across=False) for name, colours in DOWN.items()}
FLAGS |= {name: stripes(colours, across=True) for name, colours in ACROSS.items()}
FLAGS |= {name: cross(*how) for name, how in CROSSES.items()}
FLAGS |= {name: disc(*how) for name, how in DISCS.items()}


def encoded(image: Image.Image, name: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def look(image: Image.Image, name: str = "JPEG", **options: Any) -> tuple[int, np.ndarray]:
    result = process_image(encoded(image, name, **options), ImageSettings())
    assert isinstance(result, ProcessedImage), result
    return result.phash, np.frombuffer(result.descriptor, np.uint8)


def plain(image: Image.Image, name: str = "JPEG", **options: Any) -> bool:
    value, descriptor = look(image, name, **options)
    return bool(is_plain(np.array([value], np.uint64), descriptor[np.newaxis])[0])


def drawings() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    white = {name: Image.new("RGB", (300, 200), "white") for name in ("line", "text", "silhouette", "dot", "frame")}
    ImageDraw.Draw(white["line"]).line((20, 100, 280, 100), "black", 2)
    ImageDraw.Draw(white["text"]).text((140, 95), "Hi", "black")
    ImageDraw.Draw(white["silhouette"]).polygon(((100, 180), (150, 60), (200, 180)), "black")
    ImageDraw.Draw(white["dot"]).ellipse((140, 90, 160, 110), "red")
    ImageDraw.Draw(white["frame"]).rectangle((0, 0, 299, 199), None, "grey", 3)
    night = Image.new("RGB", (300, 200), (4, 4, 16))
    for x, y in rng.integers(0, 200, (40, 2)).tolist():
        ImageDraw.Draw(night).ellipse((x, y, x + 2, y + 2), "white")
    snow = Image.fromarray((250 - 8 * rng.random((20, 30, 3))).astype(np.uint8)).resize((300, 200))
    ramp = Image.linear_gradient("L").resize((300, 200)).convert("RGB")
    equal = stripes(("#ff0000", "#008200"), across=True)  # of equal brightness
    return {**white, "night": night, "snow": snow, "gradient": ramp, "equal brightness": equal}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_kept(name: str) -> None:
    assert len(FLAGS) >= 59
    assert not plain(FLAGS[name], "PNG")
    assert not plain(FLAGS[name], quality=60)
    assert not plain(FLAGS[name].resize((90, 60)), "GIF")


@pytest.mark.parametrize("name", drawings())
def test_simple_drawings_are_kept(name: str) -> None:
    assert not plain(drawings()[name])


@pytest.mark.parametrize("colour", ["white", "black", "#eeeeee", "#d21034", "#123456"])
@pytest.mark.parametrize("noise", [0, 1, 4])
def test_placeholders_are_dropped(colour: str, noise: int) -> None:
    image = Image.new("RGB", (320, 240), colour)
    pixels = np.asarray(image, int) + np.random.default_rng(0).integers(-noise, noise + 1, (240, 320, 3))
    noisy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    assert plain(noisy, quality=75)
    assert plain(noisy, "PNG")


def test_photographs_are_never_plain(photo: Any) -> None:
    assert not any(plain(photo(200, 150, seed=n)) for n in range(5))
    assert not plain(photo(200, 150).filter(ImageFilter.GaussianBlur(30)))


def test_different_flags_are_not_near_duplicates() -> None:
    """Except for those that hardly differ, and those that the descriptor cannot tell apart: both are listed."""
    looks = {name: look(image) for name, image in FLAGS.items()}
    same = set()
    for a, b in combinations(FLAGS, 2):
        bits = (looks[a][0] ^ looks[b][0]).bit_count()
        if bits <= 6 and is_similar(looks[a][1][np.newaxis], looks[b][1])[0]:
            same.add((a, b))
    assert same <= ALIKE | NOT_TOLD_APART


ALIKE = {
    ("Lithuania", "Myanmar"), ("Romania", "Chad"), ("Hungary", "Iran"), ("Japan", "Greenland"),
    ("Netherlands", "Luxembourg"), ("Bulgaria", "Yemen"),
}  # fmt: skip
# A fault that is known: colours that change places around the middle, and a disc of a similar colour.
NOT_TOLD_APART = {("Thailand", "Costa Rica"), ("Greenland", "Niger"), ("Japan", "Niger")}


def test_one_colour_has_one_hash_and_no_signs() -> None:
    value, descriptor = phash_and_descriptor(Image.new("RGB", (64, 64), (9, 9, 9)))
    assert value == 1 << 63
    assert descriptor == bytes(32) + bytes([9] * 12)


@pytest.mark.parametrize("across", [True, False])
def test_texts_do_not_move_between_flags_of_other_colours(across: bool) -> None:
    names = ("firebrick", "white", "navy", "seagreen", "gold", "black")
    looks = [
        phash_and_descriptor(stripes((a, b, c), across=across))[1]
        for a, b, c in ((a, b, c) for a in names for b in names for c in names if len({a, b, c}) == 3)
    ]
    assert len(looks) == 120
    assert not any(may_share_texts(a, b) for a, b in combinations(looks, 2) if is_near(a, b))


def is_near(a: bytes, b: bytes) -> bool:
    return bool(is_similar(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)))


def test_texts_move_between_copies_of_a_photograph(photo: Any) -> None:
    shown = photo(200, 150).convert("RGB")
    original = phash_and_descriptor(shown)[1]
    assert may_share_texts(original, phash_and_descriptor(shown.resize((100, 75)))[1])
    assert may_share_texts(original, look(shown, quality=40)[1].tobytes())
    hue = np.array(shown.convert("HSV"))
    hue[..., 0] += 64
    recoloured = Image.fromarray(hue, "HSV").convert("RGB")
    assert not may_share_texts(original, phash_and_descriptor(recoloured)[1])


def shares(a: Image.Image, b: Image.Image) -> bool:
    return may_share_texts(look(a)[1].tobytes(), look(b)[1].tobytes())


def word(text: str, size: int, colour: str = "black") -> Image.Image:
    image = Image.new("RGB", (200, 120), "white")
    ImageDraw.Draw(image).text((100, 60), text, colour, ImageFont.load_default(size), anchor="mm")
    return image


def test_texts_do_not_move_between_different_flags() -> None:
    """Thailand and Costa Rica, Niger and Japan are near duplicates, whose texts stay where they are."""
    looks = {name: look(image)[1].tobytes() for name, image in FLAGS.items()}
    near = {(a, b) for a, b in combinations(FLAGS, 2) if is_near(looks[a], looks[b])}
    assert {("Thailand", "Costa Rica"), ("Japan", "Niger")} <= near
    assert {(a, b) for a, b in near if may_share_texts(looks[a], looks[b])} <= ALIKE


@pytest.mark.parametrize("size", [16, 40, 60])
def test_texts_do_not_move_between_digits_and_words(size: int) -> None:
    texts = [*map(str, range(24)), "cat", "car", "push", "pull", "April", "August"]
    looks = {text: look(word(text, size))[1].tobytes() for text in texts}
    assert [pair for pair in combinations(texts, 2) if may_share_texts(*(looks[text] for text in pair))] == []
    assert not shares(word("7", size), word("7", size, "red"))


def test_texts_move_between_copies_of_a_photograph_only(photo: Any) -> None:
    for seed in range(6):
        original = photo(320, 240, seed=seed)
        # Quality, a smaller size, and a crop of 2 %.
        assert may_share_texts(look(original)[1].tobytes(), look(original, quality=50)[1].tobytes())
        assert shares(original, original.resize((160, 120)))
        assert shares(original, original.crop((3, 2, 317, 238)))
        assert not shares(original, ImageOps.mirror(original))
        assert not shares(original, Image.merge("RGB", original.split()[::-1]))
