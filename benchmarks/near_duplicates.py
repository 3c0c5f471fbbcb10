"""Which changed copies of a photo are found, and which different photos are taken for copies; beside imagehash.

    python benchmarks/near_duplicates.py --photos ../shared/data/photos.parquet --limit 600 --workers 2

Every photo is changed in each way and written anew (JPEG at quality 95 where the change is not the encoding), then
goes through `process_image` as a fetched image does. Recall is the share of changed photos that come within R bits of
the unchanged one. "A crop of 5 %" takes away 5 % of the width and of the height in all, half of it on each side for
the middle, all of it on two sides for a corner (a different one for each photo).

Columns: `ours` compares the hashes of the table, as `wit dedup` does among the images of a dataset; `+mirror` also the
mirrored hash; `exclude` is `wit dedup --exclude` with the photo as the evaluation image and its changed copy in the
dataset, `reverse` the same with the changed copy as the evaluation image. imagehash is `imagehash.phash` of the same
files. False positives are counted over all pairs of different photos, unchanged (for `exclude`: both ways round).
The last part times the hash alone, on pictures of 256 px that are decoded already, in CPU time on one thread.
Photos come from a Parquet file with the columns `jpeg` and `image_id`; needs `pip install ImageHash`.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from openwit.pipeline.decontamination.images import read_evaluation_images
from openwit.pipeline.decontamination.index import EvaluationIndex
from openwit.pipeline.decontamination.variants import grey_of, variant_hashes
from openwit.pipeline.images.descriptor import is_similar
from openwit.pipeline.images.phash import grey_thumbnail, hamming, phash, phash_pair_batch
from openwit.pipeline.images.process import ImageDrop, process_image
from openwit.pipeline.images.settings import ImageSettings

SETTINGS = ImageSettings()
DISTANCES = (4, 6, 8)
EXCLUDE_AT = 4
_LARGEST_SHOWN = 12


def encoded(image: Image.Image, name: str = "JPEG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **(options or ({"quality": 95} if name == "JPEG" else {})))
    return out.getvalue()


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these shares of its width and height."""
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round(w - right * w), round(h - bottom * h)))


def corner(image: Image.Image, share: float, number: int) -> Image.Image:
    x, y = number % 2, number // 2 % 2
    return cut(image, share * x, share * y, share * (1 - x), share * (1 - y))


def at_random(image: Image.Image, most: float, number: int) -> Image.Image:
    return cut(image, *np.random.default_rng(number).uniform(0, most, 4))


def square(image: Image.Image, share: float = 1.0) -> Image.Image:
    w, h = image.size
    side = share * min(w, h)
    return cut(image, (1 - side / w) / 2, (1 - side / h) / 2, (1 - side / w) / 2, (1 - side / h) / 2)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def captioned(image: Image.Image) -> Image.Image:
    """A white bar of a tenth of the height with a line of text, below."""
    bar = image.height // 10
    canvas = Image.new("RGB", (image.width, image.height + bar), "white")
    canvas.paste(image)
    ImageDraw.Draw(canvas).text((8, image.height + bar // 4), "A photograph with a caption below", "black")
    return canvas


def bordered(image: Image.Image) -> Image.Image:
    """A black frame of 3 % of the short side."""
    wide = max(1, round(0.03 * min(image.size)))
    canvas = Image.new("RGB", (image.width + 2 * wide, image.height + 2 * wide), "black")
    canvas.paste(image, (wide, wide))
    return canvas


def middle(share: float) -> Callable[[Image.Image, int], bytes]:
    return lambda image, _: encoded(cut(image, *(share / 2,) * 4))


CHANGES: dict[str, Callable[[Image.Image, int], bytes]] = {
    "JPEG quality 50": lambda image, _: encoded(image, quality=50),
    "JPEG quality 30": lambda image, _: encoded(image, quality=30),
    "PNG": lambda image, _: encoded(image, "PNG"),
    "WebP quality 50": lambda image, _: encoded(image, "WEBP", quality=50),
    "half the size": lambda image, _: encoded(scaled(image, 0.5)),
    "short side 160": lambda image, _: encoded(scaled(image, 160 / min(image.size))),
    "brighter by 10 %": lambda image, _: encoded(ImageEnhance.Brightness(image).enhance(1.1)),
    "brighter by 20 %": lambda image, _: encoded(ImageEnhance.Brightness(image).enhance(1.2)),
    "grey": lambda image, _: encoded(image.convert("L")),
    "middle, crop of 2 %": middle(0.02),
    "middle, crop of 5 %": middle(0.05),
    "middle, crop of 8 %": middle(0.08),
    "middle, crop of 10 %": middle(0.10),
    "corner, crop of 2 %": lambda image, n: encoded(corner(image, 0.02, n)),
    "corner, crop of 5 %": lambda image, n: encoded(corner(image, 0.05, n)),
    "corner, crop of 7 %": lambda image, n: encoded(corner(image, 0.07, n)),
    "corner, crop of 10 %": lambda image, n: encoded(corner(image, 0.10, n)),
    "each side 0-2.5 % at random": lambda image, n: encoded(at_random(image, 0.025, n)),
    "each side 0-5 % at random": lambda image, n: encoded(at_random(image, 0.05, n)),
    "middle square": lambda image, _: encoded(square(image)),
    "middle square, 224 of 256": lambda image, _: encoded(square(image, 224 / 256)),
    "squashed to a square": lambda image, _: encoded(image.resize((300, 300), Image.Resampling.LANCZOS)),
    "mirrored": lambda image, _: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "mirrored, crop of 5 %": lambda image, _: encoded(
        cut(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), *(0.025,) * 4)
    ),
    "caption bar of 10 %": lambda image, _: encoded(captioned(image)),
    "frame of 3 %": lambda image, _: encoded(bordered(image)),
}


def hashes_of(body: bytes) -> tuple[tuple[int, int, int], bytes]:
    """Ours, ours of the mirrored picture, and imagehash's, of one file; and its fingerprint."""
    import imagehash

    result = process_image(body, SETTINGS)
    assert not isinstance(result, ImageDrop), result
    with Image.open(io.BytesIO(result.data)) as picture:
        mirrored = phash_pair_batch(grey_thumbnail(picture)[np.newaxis])[1][0]
    with Image.open(io.BytesIO(body)) as image:
        theirs = int(str(imagehash.phash(image)), 16)
    return (result.phash, int(mirrored), theirs), result.descriptor


def evaluation_table(bodies: list[bytes]) -> pa.Table:
    """The photos as evaluation images, read as a user's Parquet file would be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evaluation.parquet"
        pq.write_table(pa.table({"jpeg": bodies}), path, row_group_size=500)
        return read_evaluation_images([str(path)], SETTINGS)


def changed_hashes(element: tuple[int, bytes]) -> tuple[list[tuple[tuple[int, int, int], bytes]], list[list[int]]]:
    """Of one photo: the hashes of itself and its changed copies; the hashes of those as evaluation images."""
    number, body = element
    image = Image.open(io.BytesIO(body)).convert("RGB")
    copies = [body, *(change(image, number) for change in CHANGES.values())]
    table = evaluation_table(copies)
    return [hashes_of(copy) for copy in copies], table.column("hashes").to_pylist()


def nearest(hashes: list[list[int]], others: np.ndarray) -> np.ndarray:
    """int64 (N,): distance of each of `others` to the nearest hash in the list of the same place."""
    return np.array(
        [hamming(np.array(own, np.uint64), other).min() for own, other in zip(hashes, others, strict=True)]
    )


def recalls(photos: list[tuple[int, bytes]], workers: int) -> dict[str, dict[str, float]]:
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(changed_hashes, photos, chunksize=8))
    values = np.array([[hashes for hashes, _ in own] for own, _ in found], np.uint64)  # [photo, 1 + change, which]
    looks = np.array([[np.frombuffer(look, np.uint8) for _, look in own] for own, _ in found])
    rows: dict[str, dict[str, float]] = {}
    for column, name in enumerate(CHANGES, 1):
        ours = hamming(values[:, 0, 0], values[:, column, 0])
        mirror = np.minimum(ours, hamming(values[:, 0, 0], values[:, column, 1]))
        theirs = hamming(values[:, 0, 2], values[:, column, 2])
        exclude = nearest([forms[0] for _, forms in found], values[:, column, 0])
        reverse = nearest([forms[column] for _, forms in found], values[:, 0, 0])
        row = {f"ours {r}": ours <= r for r in DISTANCES}
        same = is_similar(looks[:, 0], looks[:, column])
        row |= {f"alike {r}": (ours <= r) & same for r in DISTANCES[1:]}
        row |= {f"+mirror {EXCLUDE_AT}": mirror <= EXCLUDE_AT}
        row |= {f"exclude {EXCLUDE_AT}": exclude <= EXCLUDE_AT, f"reverse {EXCLUDE_AT}": reverse <= EXCLUDE_AT}
        row |= {f"imagehash {r}": theirs <= r for r in DISTANCES}
        rows[name] = {key: float(np.mean(hit)) for key, hit in row.items()}
    return rows


def false_positives(bodies: list[bytes], names: list[str], workers: int) -> None:
    """Counts pairs of different photos by distance, and names the nearest for a look at them."""
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(hashes_of, bodies, chunksize=32))
    values = np.array([hashes for hashes, _ in found], np.uint64)
    looks = np.array([np.frombuffer(look, np.uint8) for _, look in found])
    n = len(bodies)
    first, second = np.triu_indices(n, 1)
    distances = {
        "ours": hamming(values[first, 0], values[second, 0]),
        "+mirror": np.minimum(
            hamming(values[first, 0], values[second, 0]), hamming(values[first, 0], values[second, 1])
        ),
        "imagehash": hamming(values[first, 2], values[second, 2]),
    }
    near = np.flatnonzero(distances["ours"] <= _LARGEST_SHOWN)
    unlike = near[~is_similar(looks[first[near]], looks[second[near]])]
    distances["and alike"] = distances["ours"].copy()
    distances["and alike"][unlike] = 64
    print(f"\nPairs of different photos within R bits, of {len(first):,} pairs")
    print(f"{'':<12}" + "".join(f"{f'R={r}':>8}" for r in (*DISTANCES, 10, 12)))
    for name, distance in distances.items():
        print(f"{name:<12}" + "".join(f"{int((distance <= r).sum()):>8}" for r in (*DISTANCES, 10, 12)))
    table = evaluation_table(bodies)
    for r in DISTANCES:
        pairs = excluded_pairs(table, values[:, 0], r)
        different = [names[a] + " " + names[b] for a, b in pairs]
        print(f"exclude R={r}: {len(pairs)} of {n * (n - 1):,} ordered pairs" + _some(different))
    near = np.flatnonzero(np.minimum(distances["+mirror"], distances["imagehash"]) <= _LARGEST_SHOWN)
    for at in near[np.argsort(distances["+mirror"][near], kind="stable")][:20]:
        each = ", ".join(f"{name} {int(distance[at])}" for name, distance in distances.items())
        print(f"  {names[first[at]]} and {names[second[at]]}: {each}")


def excluded_pairs(table: pa.Table, hashes: np.ndarray, distance: int) -> list[tuple[int, int]]:
    """(photo, evaluation photo) that are not the same but within the distance in some form."""
    flat = np.concatenate([np.array(row, np.uint64) for row in table.column("hashes").to_pylist()])
    owner = np.repeat(np.arange(table.num_rows), [len(row) for row in table.column("hashes").to_pylist()])
    found = []
    for photo, value in enumerate(hashes):
        near = np.unique(owner[hamming(flat, value) <= distance])
        found += [(photo, int(other)) for other in near if other != photo]
    return found


def _some(names: list[str]) -> str:
    return ": " + "; ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else ""


def speeds(bodies: list[bytes], rounds: int = 5) -> dict[str, float]:
    """CPU milliseconds an image; the ways take turns, medians of the rounds."""
    import imagehash

    pictures = []
    for body in bodies:
        result = process_image(body, SETTINGS)
        assert not isinstance(result, ImageDrop)
        picture = Image.open(io.BytesIO(result.data))
        picture.load()
        pictures.append(picture)
    thumbnails = np.stack([grey_thumbnail(picture) for picture in pictures])
    ways: dict[str, Callable[[], object]] = {
        "phash": lambda: [phash(picture) for picture in pictures],
        "imagehash.phash": lambda: [imagehash.phash(picture) for picture in pictures],
        "mirrored hash more, of ready thumbnails": lambda: phash_pair_batch(thumbnails),
        "all forms for --exclude": lambda: [variant_hashes(grey_of(picture)) for picture in pictures],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            times[name].append(1000 * (time.process_time() - started) / len(pictures))
    return {name: float(np.median(values)) for name, values in times.items()}


def lookup_speed(table: pa.Table, n: int = 10_000) -> None:
    """A file of n hashes against the table, as a worker of the stage does it."""
    rng = np.random.default_rng(0)
    own = np.array([row[0] for row in table.column("hashes").to_pylist() if row], np.uint64)
    hashes = own[rng.integers(0, len(own), n)] ^ rng.integers(0, 2**63, n).astype(np.uint64)
    EvaluationIndex(table, EXCLUDE_AT).lookup(hashes[:1])
    index = EvaluationIndex(table, EXCLUDE_AT)
    started = time.process_time()
    index.lookup(hashes)
    print(f"lookup of {n:,} hashes among {table.num_rows:,} images: {time.process_time() - started:.3f} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file with columns jpeg and image_id")
    parser.add_argument("--limit", type=int, default=600, help="photos that are changed; false positives use all")
    parser.add_argument("--workers", type=int, default=1, help="processes (figures do not depend on it)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    try:
        import imagehash
    except ImportError:
        sys.exit("imagehash is missing: pip install ImageHash (only this benchmark needs it)")
    if not arguments.photos.is_file():
        sys.exit(f"{arguments.photos} does not exist: name a Parquet file with a column `jpeg` by --photos")
    table = pq.read_table(arguments.photos, columns=["jpeg", "image_id"])
    bodies, names = table.column("jpeg").to_pylist(), table.column("image_id").to_pylist()

    photos = list(enumerate(bodies[: arguments.limit]))
    print(f"Recall of changed copies, {len(photos)} photos; imagehash {imagehash.__version__}")
    rows = recalls(photos, arguments.workers)
    keys = list(next(iter(rows.values())))
    print(f"{'change':<29}" + "".join(f"{key:>13}" for key in keys))
    for name, row in rows.items():
        print(f"{name:<29}" + "".join(f"{row[key]:>13.3f}" for key in keys))
    false_positives(bodies, names, arguments.workers)
    print()
    figures = speeds(bodies[:200])
    for name, milliseconds in figures.items():
        print(f"{name:<42}{milliseconds:>8.3f} CPU ms an image")
    lookup_speed(evaluation_table(bodies[:200]))
    if arguments.json:
        arguments.json.write_text(json.dumps({"recall": rows, "cpu_ms": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
