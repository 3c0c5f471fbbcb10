"""Between which near duplicates texts move: photographs, drawings, flags, words and charts of known relation.

    python benchmarks/text_transfer.py --photos ../shared/data/photos.parquet --skip 250

A pair is "same" if one picture is the other written anew, halved or cropped by 2 %, and "different" if a caption of
one may be false of the other: recoloured, mirrored, another picture. Recoloured and mirrored pictures whose pixels
hardly differ (grey or symmetrical ones) are left out. Every picture is encoded and goes through `process_image`.
Drawings are those of the demo, in each of its styles. For each kind: pairs, near duplicates among them, and how many
of these give their texts. `--skip` leaves out the photos, drawings and words on which the limits were chosen.
"""

import argparse
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps, ImageStat

from openwit.pipeline.images.descriptor import is_similar, may_share_texts
from openwit.pipeline.images.process import ProcessedImage, process_image
from openwit.pipeline.images.settings import ImageSettings
from openwit.workflows.demo.concepts import all_concepts
from openwit.workflows.demo.render import draw, flatten, rasterise
from openwit.workflows.demo.styles import STYLES

Look = tuple[int, bytes]
COLOURS = ("#d21034", "#ffffff", "#0039a6", "#007a3d", "#ffce00", "#000000")
_HARDLY = 2.0


def look(image: Image.Image, name: str = "JPEG", **options: Any) -> Look | None:
    """Return hash and descriptor of an image that was encoded."""
    out = io.BytesIO()
    image.save(out, name, **({"quality": 92} if name == "JPEG" and not options else options))
    result = process_image(out.getvalue(), ImageSettings())
    return (result.phash, result.descriptor) if isinstance(result, ProcessedImage) else None


def copies(image: Image.Image) -> Iterator[Look | None]:
    """Yield the looks of copies that show the same."""
    w, h = image.size
    x, y = max(1, round(w / 100)), max(1, round(h / 100))
    yield look(image, quality=50)
    yield look(image, "WEBP", quality=75)
    yield look(image.resize((w // 2, h // 2), Image.Resampling.BICUBIC), quality=85)
    yield look(image.crop((x, y, w - x, h - y)), quality=90)


def hue(image: Image.Image, turn: int) -> Image.Image:
    """Return an image with its hue rotated by `turn` of 256 steps."""
    h, s, v = image.convert("HSV").split()
    return Image.merge("HSV", (h.point(lambda level: (level + turn) % 256), s, v)).convert("RGB")


def differ(a: Image.Image, b: Image.Image) -> bool:
    return max(ImageStat.Stat(ImageChops.difference(a, b)).mean) > _HARDLY


class Count:
    """Counts pairs, near duplicates and transfers of texts by kind."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Counter[str]] = {}

    def add(self, kind: str, relation: str, a: Look | None, b: Look | None) -> None:
        if a is None or b is None:
            return
        count = self.found.setdefault((kind, relation), Counter())
        count["pairs"] += 1
        signs = (np.frombuffer(x[1], np.uint8) for x in (a, b))
        if (a[0] ^ b[0]).bit_count() <= 6 and is_similar(*signs):
            count["near"] += 1
            count["moved"] += may_share_texts(a[1], b[1])

    def add_images(self, kind: str, images: list[Image.Image], *, copied: slice = slice(None)) -> None:
        """Count copies and changes of images, and all pairs of different ones."""
        looks = [look(image) for image in images]
        for image, mine in list(zip(images, looks, strict=True))[copied]:
            for copy in copies(image):
                self.add(kind, "same: re-encoded, halved, cropped by 2 %", mine, copy)
            for turn, name in ((85, "recoloured (hue + 85)"), (25, "recoloured (hue + 25)")):
                if differ(image, hue(image, turn)):
                    self.add(kind, name, mine, look(hue(image, turn)))
            if differ(image, ImageOps.mirror(image)):
                self.add(kind, "mirrored", mine, look(ImageOps.mirror(image)))
        for a, b in itertools.combinations(looks, 2):
            self.add(kind, "another", a, b)


def photographs(path: Path, skip: int, limit: int) -> list[Image.Image]:
    bodies = pq.read_table(path, columns=["jpeg"]).column(0).slice(skip, limit).to_pylist()
    return [Image.open(io.BytesIO(body)).convert("RGB") for body in bodies]


def drawings(style: str, skip: bool) -> list[Image.Image]:
    chosen = {concept.key for concept in all_concepts(120)}
    rest = [concept for concept in all_concepts(240) if not (skip and concept.key in chosen)]
    pictures = (draw(rasterise(concept.svg()), style, concept.key, (256, 256)) for concept in rest[:60])
    return [flatten(picture).convert("RGB") for picture in pictures]


def flags() -> list[Image.Image]:
    images = []
    for colours, across in itertools.product(itertools.permutations(COLOURS, 3), (True, False)):
        image = Image.new("RGB", (3, 1) if across else (1, 3))
        image.putdata([tuple(bytes.fromhex(colour[1:])) for colour in colours])
        images.append(image.resize((360, 240), Image.Resampling.NEAREST))
    return images


def words(size: int, area: tuple[int, int], skip: bool) -> list[Image.Image]:
    numbers = [str(n) for n in (range(100, 160) if skip else range(100))]
    texts = numbers + ("red bed hot hop lion loin exit edit north south June July" if skip else "cat car left").split()
    images = []
    for text in texts:
        image = Image.new("RGB", area, "white")
        font = ImageFont.load_default(size)
        ImageDraw.Draw(image).text((area[0] / 2, area[1] / 2), text, "black", font, anchor="mm")
        images.append(image)
    return images


def charts(seed: int) -> list[Image.Image]:
    """Return charts of six bars, and of each another one with one bar changed."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(40):
        heights = random.integers(20, 200, 6)
        for changed in (False, True):
            heights[int(random.integers(6))] = int(random.integers(20, 200)) if changed else heights[0]
            image = Image.new("RGB", (320, 240), "white")
            pen = ImageDraw.Draw(image)
            pen.line((20, 10, 20, 220, 310, 220), "black", 2)
            for n, height in enumerate(heights.tolist()):
                pen.rectangle((35 + 45 * n, 220 - height, 65 + 45 * n, 219), "#3366cc")
            images.append(image)
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--limit", type=int, default=250)
    args = parser.parse_args()
    count, skip = Count(), args.skip > 0
    count.add_images("photographs", photographs(args.photos, args.skip, args.limit))
    for style in STYLES:
        count.add_images("drawings", drawings(style, skip), copied=slice(0, None, 2))
    count.add_images("flags of three stripes", flags(), copied=slice(0, None, 4))
    for size, area in ((40, (200, 120)), (90, (200, 120)), (24, (300, 300))):
        count.add_images("words and numbers", words(size, area, skip), copied=slice(0, None, 4))
    count.add_images("charts of bars", charts(2 if skip else 1), copied=slice(0, None, 2))
    print("| kind | pairs | number | near duplicates | texts move |\n|---|---|---|---|---|")
    for (kind, relation), found in count.found.items():
        print(f"| {kind} | {relation} | {found['pairs']:,} | {found['near']:,} | {found['moved']:,} |")


if __name__ == "__main__":
    main()
