"""Images per CPU second to 256 px, and how near they come to a Lanczos reference.

    python benchmarks/resize.py --photos ../shared/data/photos.parquet --limit 300 --rounds 5

Decode, shrink so that the short side is 256 px, encode as JPEG at quality 95: with `process_image` (which also
checks, hashes and fingerprints), with Pillow's Lanczos filter on the full decode, and with OpenCV as img2dataset
does (imdecode, INTER_AREA, imencode). PSNR is that of the decoded result against the full decode resized by
Pillow's Lanczos filter and not encoded; the reference favours Lanczos and bicubic filters over area averages.
One thread each; the rounds interleave the three; figures are medians. Photos come from a Parquet file with a
column `jpeg`. `--tiles 4` first makes mosaics of 4 x 4 photos, so that sources have the size of camera originals.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from openwit.pipeline.images.process import ImageDrop, ImageSettings, process_image

SIZE = 256
QUALITY = 95


def load_photos(path: Path, limit: int, tiles: int) -> list[bytes]:
    """JPEGs whose short side is above the target; with tiles > 1, mosaics of that many photos a side.

    A mosaic has the detail of real photographs at the size of a camera's original.
    """
    if not path.is_file():
        sys.exit(f"{path} does not exist: name a Parquet file with a column `jpeg` by --photos")
    bodies: list[bytes] = pq.read_table(path, columns=["jpeg"]).column("jpeg").to_pylist()
    photos = [body for body in bodies if min(Image.open(io.BytesIO(body)).size) > SIZE]
    if tiles == 1:
        return photos[:limit]
    each = tiles * tiles
    count = min(limit, len(photos) // each)
    return [_mosaic(photos[i * each : (i + 1) * each], tiles) for i in range(count)]


def _mosaic(bodies: list[bytes], tiles: int) -> bytes:
    cells = [ImageOps.fit(Image.open(io.BytesIO(body)).convert("RGB"), (400, 300)) for body in bodies]
    image = Image.new("RGB", (400 * tiles, 300 * tiles))
    for number, cell in enumerate(cells):
        image.paste(cell, (400 * (number % tiles), 300 * (number // tiles)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


def reference(body: bytes) -> Image.Image:
    """The full decode at the target size by Lanczos, not encoded."""
    image = Image.open(io.BytesIO(body)).convert("RGB")
    scale = SIZE / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS)


def by_ours(body: bytes) -> bytes:
    """`process_image`, its hashes included."""
    result = process_image(body, _SETTINGS)
    assert not isinstance(result, ImageDrop), result
    return result.data


def by_lanczos(body: bytes) -> bytes:
    """Full decode, Lanczos, encode."""
    out = io.BytesIO()
    reference(body).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def opencv_area() -> Callable[[bytes], bytes]:
    """img2dataset's way: imdecode, INTER_AREA, imencode, on one thread."""
    try:
        import cv2
    except ImportError:
        sys.exit("OpenCV is missing: pip install 'opencv-python-headless<5' (only this benchmark needs it)")
    cv2.setNumThreads(1)

    def run(body: bytes) -> bytes:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
        height, width = image.shape[:2]
        scale = SIZE / min(height, width)
        size = round(width * scale), round(height * scale)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return bytes(cv2.imencode(".jpg", small, [int(cv2.IMWRITE_JPEG_QUALITY), QUALITY])[1])

    return run


def psnr(result: bytes, target: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB over all channels."""
    image = np.asarray(Image.open(io.BytesIO(result)).convert("RGB"), np.float64)
    error = np.mean((image - np.asarray(target, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0


_SETTINGS = ImageSettings(size=SIZE, quality=QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file with a column jpeg")
    parser.add_argument("--limit", type=int, default=300, help="photos used")
    parser.add_argument("--tiles", type=int, default=1, help="mosaics of so many photos a side, for larger sources")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()

    bodies = load_photos(arguments.photos, arguments.limit, arguments.tiles)
    if not bodies:
        sys.exit(f"{arguments.photos} has no photo whose short side is above {SIZE} px")
    ways = {"OpenCV area": opencv_area(), "Pillow Lanczos": by_lanczos, "process_image": by_ours}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            started = time.process_time()
            for body in bodies:
                way(body)
            speeds[name].append(len(bodies) / (time.process_time() - started))
    targets = [reference(body) for body in bodies]
    quality = {name: [psnr(way(b), t) for b, t in zip(bodies, targets, strict=True)] for name, way in ways.items()}

    pixels = statistics.mean(t.width * t.height for t in (Image.open(io.BytesIO(b)) for b in bodies)) / 1e6
    print(
        f"{len(bodies)} photos, mean {pixels:.2f} MP, {statistics.mean(map(len, bodies)) / 1e3:.0f} kB, to {SIZE} px"
    )
    print(f"{'way':<16}{'images/CPU s':>14}{'ratio':>8}{'PSNR median':>13}{'mean':>8}{'min':>8}")
    base = statistics.median(speeds["OpenCV area"])
    for name in ways:
        speed, decibels = statistics.median(speeds[name]), quality[name]
        print(
            f"{name:<16}{speed:>14.1f}{speed / base:>8.2f}{statistics.median(decibels):>13.2f}"
            f"{statistics.mean(decibels):>8.2f}{min(decibels):>8.2f}"
        )
    if arguments.json:
        figures = {name: {"images_per_cpu_s": speeds[name], "psnr": quality[name]} for name in ways}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
