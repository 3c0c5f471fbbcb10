"""The rendering styles: how each site draws an emoji.

A style takes the drawing (RGBA, square), random numbers of its own and a size, and returns a picture of that size, RGB
unless it says otherwise. Backgrounds, positions and angles differ from picture to picture as well as from site to
site: flat drawings that differ in a mouth would otherwise share a perceptual hash.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from openwit.workflows.demo import canvas
from openwit.workflows.demo.canvas import Colour, Size

Style = Callable[[Image.Image, np.random.Generator, Size], Image.Image]


def clipart(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """RGBA: the bare drawing on a transparent ground, as cut out by hand."""
    return canvas.place(
        glyph,
        size,
        random.uniform(0.72, 1.0),
        angle=random.uniform(-9, 9),
        centre=(random.uniform(0.42, 0.58), random.uniform(0.42, 0.58)),
    )


def sticker(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """A die-cut sticker with a white border and a shadow on a bright gradient."""
    hue = random.random()
    first, second = (
        canvas.hsv(hue, 0.55, random.uniform(0.55, 1)),
        canvas.hsv(hue + 0.12, 0.7, random.uniform(0.35, 1)),
    )
    third = canvas.hsv(hue + random.uniform(-0.2, 0.2), 0.4, random.uniform(0.5, 1))
    corners = [[first, third], [third, second]] if random.random() < 0.5 else [[second, first], [first, third]]
    background = canvas.mesh(size, corners)
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.62, 0.78),
        angle=random.uniform(-16, 16),
        centre=(random.uniform(0.42, 0.58), random.uniform(0.42, 0.58)),
    )
    layer = canvas.outline(layer, size[0] / 40, (255, 255, 255))
    canvas.shadow(background, layer, (size[0] // 50, size[0] // 40), size[0] / 40, 0.45)
    return canvas.paste_over(background, layer)


def press_photo(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """As if photographed: out-of-focus coloured lights, the subject off centre, vignette and grain."""
    base = random.random()
    grid: list[list[Colour]] = [
        [
            canvas.hsv(base + random.uniform(-0.3, 0.3), random.uniform(0.1, 0.6), random.uniform(0.2, 0.95))
            for _ in range(5)
        ]
        for _ in range(4)
    ]
    background = canvas.mesh(size, grid)
    side = random.choice([0.36, 0.64])
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.7, 0.92),
        angle=random.uniform(-7, 7),
        centre=(side + random.uniform(-0.03, 0.03), random.uniform(0.46, 0.56)),
    )
    layer = canvas.tint(layer, canvas.hsv(base, 0.3, 0.7), 0.16)
    canvas.shadow(background, layer, (0, size[1] // 24), size[1] / 16, 0.6)
    picture = canvas.vignette(canvas.paste_over(background, layer), 0.55)
    return canvas.grain(picture, random, 7.0)


def product(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """A shop's shot: mirrored, on a coloured table before a pale wall, with a ribbon across one corner."""
    width, height = size
    wall, table = canvas.colour(random, (0.02, 0.2), (0.8, 1)), canvas.colour(random, (0.1, 0.55), (0.35, 0.85))
    background = Image.new("RGB", size, wall)
    draw = ImageDraw.Draw(background)
    left, right = (height * random.uniform(0.45, 0.9) for _ in "lr")
    draw.polygon([(0, left), (width, right), (width, height), (0, height)], fill=table)
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.66, 0.84),
        angle=random.uniform(-5, 5),
        centre=(random.uniform(0.44, 0.56), random.uniform(0.44, 0.56)),
        mirror=True,
    )
    canvas.shadow(background, layer, (0, height // 14), height / 12, 0.5)
    canvas.paste_over(background, layer)
    _ribbon(draw, size, int(random.integers(0, 4)), canvas.colour(random, (0.6, 0.95), (0.4, 0.9)))
    return background


def pencil(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """Greyscale (mode L): a tilted pencil drawing with hatching on rough paper."""
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.68, 0.9),
        angle=random.choice([-1, 1]) * random.uniform(9, 25),
        centre=(random.uniform(0.44, 0.56), random.uniform(0.44, 0.56)),
    )
    shades = [int(value) for value in random.integers(175, 256, 9)]
    paper = Image.fromarray(np.array(shades, dtype=np.uint8).reshape(3, 3)).resize(size, Image.Resampling.BICUBIC)
    grey = ImageOps.grayscale(canvas.paste_over(Image.merge("RGB", (paper, paper, paper)), layer))
    lines = canvas.stripes(size, random.uniform(20, 160), random.uniform(4, 6), random.random())
    hatching = Image.fromarray((170 + 85 * (lines > -0.2)).astype(np.uint8))
    shaded = ImageChops.screen(grey, Image.new("L", size, 55))
    drawn = Image.composite(
        ImageChops.multiply(shaded, hatching), shaded, grey.point([255 * (v < 150) for v in range(256)])
    )
    return canvas.grain(drawn, random, 11.0)


def retro(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """Palette picture (mode P, 32 colours, dithered) on a tiled two-colour pattern: the web of 1996."""
    period = random.uniform(0.18, 0.7) * size[0]
    waves = canvas.stripes(size, random.uniform(0, 180), period, random.random())
    if random.random() < 0.5:
        waves = waves * canvas.stripes(size, random.uniform(0, 180), period, random.random())
    first, second = canvas.colour(random, (0.3, 1), (0.6, 1)), canvas.colour(random, (0.3, 1), (0.1, 0.55))
    background = canvas.two_tone(waves > 0, first, second)
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.76, 0.98),
        angle=random.choice([0, 0, -10, 10]),
        centre=(random.uniform(0.45, 0.55), random.uniform(0.45, 0.55)),
    )
    picture = canvas.paste_over(background, layer)
    return picture.quantize(32, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.FLOYDSTEINBERG)


def night(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """A small, blue-tinted subject under a moon and stars."""
    width, height = size
    top, bottom = canvas.hsv(random.uniform(0.58, 0.68), 0.8, 0.16), canvas.hsv(random.uniform(0.55, 0.85), 0.6, 0.5)
    sky = canvas.mesh(size, [[top], [bottom]] if random.random() < 0.7 else [[bottom], [top]])
    draw = ImageDraw.Draw(sky)
    for x, y, radius in random.random((60, 3)):
        dot = 0.4 + radius * size[0] / 180
        draw.ellipse((x * width - dot, y * height - dot, x * width + dot, y * height + dot), fill=(230, 232, 255))
    x, y, radius = random.random() * width, random.random() * height, random.uniform(0.12, 0.3) * width
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=canvas.hsv(0.14, 0.15, random.uniform(0.7, 1)))
    sky = sky.reduce(2).filter(ImageFilter.GaussianBlur(1)).resize(size)
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.56, 0.74),
        angle=random.uniform(-20, 20),
        centre=(random.uniform(0.38, 0.62), random.uniform(0.42, 0.62)),
    )
    layer = canvas.tint(layer, (60, 70, 190), 0.25)
    return canvas.paste_over(sky, layer)


def framed_painting(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """The held-out style: a painting in a gilt frame with a mount, on a lit gallery wall."""
    wall_hue, bright = random.random(), random.uniform(0.3, 0.95)
    lit, dim = canvas.hsv(wall_hue, 0.25, bright), canvas.hsv(wall_hue, 0.35, bright * random.uniform(0.25, 0.8))
    wall = canvas.mesh(size, [[lit, dim], [dim, dim]] if random.random() < 0.5 else [[dim, lit], [dim, dim]])
    left, top, right, bottom = (random.uniform(0.01, 0.16) for _ in "ltrb")
    box = (left * size[0], top * size[1], (1 - right) * size[0], (1 - bottom) * size[1])
    inner = _frame(ImageDraw.Draw(wall), box, canvas.hsv(random.uniform(0.08, 0.13), 0.7, random.uniform(0.4, 0.9)))
    painting_size = (inner[2] - inner[0], inner[3] - inner[1])
    ground, other = canvas.colour(random, (0.2, 0.6), (0.3, 1)), canvas.colour(random, (0.2, 0.5), (0.15, 0.9))
    third = canvas.colour(random, (0.2, 0.5), (0.2, 0.95))
    painting = canvas.mesh(painting_size, [[ground, other], [third, ground], [other, third]])
    layer = canvas.place(glyph, painting_size, random.uniform(0.84, 1.0), angle=random.uniform(-4, 4))
    canvas.paste_over(painting, layer)
    painting = ImageOps.posterize(painting.filter(ImageFilter.MedianFilter(3)), 5)
    weave = canvas.stripes(painting_size, 0, 3.0) * canvas.stripes(painting_size, 90, 3.0)
    cloth = Image.fromarray((238 + 17 * weave).astype(np.uint8))
    wall.paste(ImageChops.multiply(painting, Image.merge("RGB", (cloth, cloth, cloth))), inner[:2])
    return wall


def postcard(glyph: Image.Image, random: np.random.Generator, size: Size) -> Image.Image:
    """A card with a coloured border and slanted bands; used by the small sites, each with its own numbers."""
    width, height = size
    hue = random.random()
    waves = canvas.stripes(size, random.uniform(30, 150), random.uniform(0.5, 1.2) * width, random.random())
    card = canvas.two_tone(
        waves > 0.1, canvas.hsv(hue, 0.3, 0.98), canvas.hsv(hue + 0.45, 0.3, random.uniform(0.4, 0.8))
    )
    layer = canvas.place(
        glyph,
        size,
        random.uniform(0.6, 0.8),
        angle=random.uniform(-12, 12),
        centre=(random.uniform(0.42, 0.58), random.uniform(0.42, 0.58)),
    )
    canvas.paste_over(card, layer)
    border = max(3, width // 24)
    ImageDraw.Draw(card).rectangle(
        (0, 0, width - 1, height - 1), outline=canvas.hsv(hue + 0.6, 0.7, 0.5), width=border
    )
    return card


STYLES: dict[str, Style] = {
    "clipart": clipart,
    "sticker": sticker,
    "press_photo": press_photo,
    "product": product,
    "pencil": pencil,
    "retro": retro,
    "night": night,
    "framed_painting": framed_painting,
    "postcard": postcard,
}


def _ribbon(draw: ImageDraw.ImageDraw, size: Size, corner: int, paint: Colour) -> None:
    width, height = size
    inner, outer = 0.22, 0.42
    points = [(inner, 0.0), (outer, 0.0), (0.0, outer), (0.0, inner)]
    flip_x, flip_y = corner % 2, corner // 2
    draw.polygon([(abs(flip_x - x) * width, abs(flip_y - y) * height) for x, y in points], fill=paint)


def _frame(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], gilt: Colour
) -> tuple[int, int, int, int]:
    """Draws a gilt frame with a mount inside `box`; returns the opening in whole pixels."""
    left, top, right, bottom = box
    unit = min(right - left, bottom - top)
    bands = (
        (0.0, canvas.hsv(0.1, 0.8, 0.3)),
        (0.01, gilt),
        (0.05, canvas.hsv(0.1, 0.8, 0.35)),
        (0.06, (244, 240, 228)),
    )
    for inset, paint in bands:
        draw.rectangle(
            (left + inset * unit, top + inset * unit, right - inset * unit, bottom - inset * unit), fill=paint
        )
    mount = 0.1 * unit
    return round(left + mount), round(top + mount), round(right - mount), round(bottom - mount)
