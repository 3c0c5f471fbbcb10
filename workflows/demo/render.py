"""Render a concept's SVG to the picture files of all sites. Runs in worker processes; the only state is a cache."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from openwit.workflows.demo import canvas
from openwit.workflows.demo.styles import STYLES

RASTER = 320
"""Side in pixels at which each SVG is rasterised once."""


@dataclass(frozen=True)
class Encoding:
    """A file format and its settings."""

    format: str  # Pillow's name: JPEG, PNG, WEBP, GIF, BMP
    quality: int = 0  # of JPEG and WEBP, 1..100


@dataclass(frozen=True)
class Output:
    """One file made from a rendering."""

    path: str  # below the web's folder
    size: tuple[int, int]
    encoding: Encoding
    keep: float = 1.0  # share of the bytes written; less than 1 makes a truncated file


@dataclass(frozen=True)
class Rendering:
    """One picture in one style, and the files that hold it."""

    style: str
    seed: str
    size: tuple[int, int]
    outputs: tuple[Output, ...]


def rasterise(svg: str, side: int = RASTER) -> Image.Image:
    """The drawing as a square RGBA image of `side` pixels."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def draw(glyph: Image.Image, style: str, seed: str, size: tuple[int, int]) -> Image.Image:
    """The picture of a drawing in a style; the same arguments give the same pixels."""
    return STYLES[style](glyph, canvas.generator(style, seed), size)


def encode(picture: Image.Image, encoding: Encoding) -> bytes:
    """The picture as a file; transparency is laid on white where the format has none."""
    options: dict[str, int] = {}
    if encoding.format in ("JPEG", "WEBP"):
        options["quality"] = encoding.quality
    if encoding.format == "WEBP":
        options["method"] = 0
    if encoding.format == "PNG":
        options["compress_level"] = 4
    if encoding.format in ("JPEG", "BMP"):
        picture = flatten(picture)
    buffer = io.BytesIO()
    picture.save(buffer, encoding.format, **options)
    return buffer.getvalue()


def flatten(picture: Image.Image) -> Image.Image:
    """The picture without transparency or palette: RGB (or L), on white."""
    if picture.mode == "RGBA":
        white = Image.new("RGB", picture.size, (255, 255, 255))
        return canvas.paste_over(white, picture)
    return picture if picture.mode == "L" else picture.convert("RGB")


def render_concept(svg: str, renderings: tuple[Rendering, ...], web: Path) -> int:
    """Writes the files that are not there yet; returns how many it wrote."""
    missing = [r for r in renderings if any(not (web / output.path).exists() for output in r.outputs)]
    if not missing:
        return 0
    glyph = rasterise(svg)
    written = 0
    for rendering in missing:
        picture = draw(glyph, rendering.style, rendering.seed, rendering.size)
        for output in rendering.outputs:
            shown = picture if output.size == picture.size else _resize(picture, output.size)
            data = encode(shown, output.encoding)
            write_whole(web / output.path, data[: round(len(data) * output.keep)])
            written += 1
    return written


def write_whole(target: Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that a killed run leaves no half file under the final name.

    Without a flush to disk, unlike `schemas.common`: ten thousand flushes take minutes on some disks, and the finished
    web's list of sizes tells a file that a power cut emptied.
    """
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    temporary.write_bytes(data)
    os.replace(temporary, target)


def perceptual_hash(picture: Image.Image) -> int:
    """64-bit DCT hash: grey, 32x32 by area, two-dimensional DCT-II, low 8x8, sign against the median."""
    grey = np.asarray(flatten(picture).convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    steps = np.arange(32)
    basis = np.cos(np.pi * np.outer(np.arange(8), 2 * steps + 1) / 64)
    low = (basis @ grey @ basis.T).ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
