"""Building blocks of the rendering styles: placing a drawing, backgrounds, shadows, outlines, grain. Pillow and numpy.

Sizes are (width, height) in pixels, colours (red, green, blue) in 0..255, angles degrees counter-clockwise.
"""

import colorsys
import functools
import hashlib
import math

import numpy as np
from PIL import Image, ImageChops, ImageFilter

Colour = tuple[int, int, int]
Size = tuple[int, int]

_TILE = 640  # side of the shared grain tile; larger than any picture


def generator(*parts: str) -> np.random.Generator:
    """Random numbers that depend on the given texts only."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def place(
    glyph: Image.Image,
    size: Size,
    scale: float,
    *,
    angle: float = 0.0,
    centre: tuple[float, float] = (0.5, 0.5),
    mirror: bool = False,
) -> Image.Image:
    """An RGBA layer of `size` with the drawing at `scale` times its short side, turned about `centre` (fractions)."""
    target = scale * min(size)
    while glyph.width > 2 * target:  # sampling alone would alias when it shrinks by more than two
        glyph = glyph.reduce(2)
    zoom = glyph.width / target
    cosine, sine = math.cos(math.radians(angle)) * zoom, math.sin(math.radians(angle)) * zoom
    x, y = centre[0] * size[0], centre[1] * size[1]
    middle = glyph.width / 2
    a, b, d, e = cosine, -sine, sine, cosine
    c, f = middle - a * x - b * y, middle - d * x - e * y
    if mirror:
        a, b, c = -a, -b, glyph.width - c
    return glyph.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def colour(random: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A colour of any hue with saturation and value (0..1) from the given ranges."""
    return hsv(float(random.random()), float(random.uniform(*saturation)), float(random.uniform(*value)))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value in 0..1; the hue wraps."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def mesh(size: Size, corners: list[list[Colour]]) -> Image.Image:
    """A smooth background through a grid of colours (rows of columns)."""
    grid = Image.fromarray(np.array(corners, dtype=np.uint8))
    return grid.resize(size, Image.Resampling.BICUBIC)


def stripes(size: Size, angle: float, period: float, phase: float = 0.0) -> np.ndarray:
    """A wave in -1..1, float32 [height, width], that runs along `angle` with `period` pixels."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    radians = math.radians(angle)
    turns = (x * math.cos(radians) + y * math.sin(radians)) / period + phase
    wave: np.ndarray = np.sin(2 * math.pi * turns, dtype=np.float32)
    return wave


def two_tone(mask: np.ndarray, first: Colour, second: Colour) -> Image.Image:
    """`first` where the mask is true, else `second`."""
    paint = np.array([second, first], dtype=np.uint8)
    return Image.fromarray(paint[mask.astype(np.uint8)])


def paste_over(background: Image.Image, layer: Image.Image) -> Image.Image:
    """Draws an RGBA layer of the same size on the background, in place."""
    background.paste(layer, (0, 0), layer)
    return background


def shadow(background: Image.Image, layer: Image.Image, offset: Size, blur: float, opacity: float) -> Image.Image:
    """Darkens the background under the layer's outline, moved by `offset` and blurred, in place."""
    small = layer.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(blur / 4))
    mask = small.point([round(level * opacity) for level in range(256)]).resize(layer.size)
    background.paste((0, 0, 0), offset, mask)
    return background


def outline(layer: Image.Image, width: float, paint: Colour) -> Image.Image:
    """The layer with a border of `paint` about `width` pixels wide around its shape, like a die-cut sticker."""
    alpha = layer.getchannel("A").reduce(2).filter(ImageFilter.BoxBlur(width / 2))
    grown = alpha.point([min(255, level * 12) for level in range(256)]).resize(layer.size)
    sticker = Image.new("RGBA", layer.size, (*paint, 0))
    sticker.putalpha(grown)
    return Image.alpha_composite(sticker, layer)


def grain(picture: Image.Image, random: np.random.Generator, strength: float) -> Image.Image:
    """Adds grey noise with a standard deviation of `strength` levels."""
    left, top = (int(random.integers(0, _TILE - side + 1)) for side in picture.size)
    noise = _grain_tile(strength).crop((left, top, left + picture.width, top + picture.height))
    if picture.mode == "RGB":
        noise = Image.merge("RGB", (noise, noise, noise))
    return ImageChops.add(picture, noise, 1.0, -128)


def vignette(picture: Image.Image, strength: float) -> Image.Image:
    """Darkens towards the corners, to 1 - strength there."""
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    light = np.clip(255 * (1 - strength * (x**2 + y**2) / 2), 0, 255).astype(np.uint8)
    mask = Image.fromarray(light).resize(picture.size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(picture, Image.merge("RGB", (mask, mask, mask)))


def tint(layer: Image.Image, paint: Colour, amount: float) -> Image.Image:
    """Mixes the layer's colours with one colour; its shape stays."""
    mixed = Image.blend(layer.convert("RGB"), Image.new("RGB", layer.size, paint), amount)
    mixed.putalpha(layer.getchannel("A"))
    return mixed


@functools.cache
def _grain_tile(strength: float) -> Image.Image:
    noise = generator("grain").normal(128, strength, (_TILE, _TILE))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
