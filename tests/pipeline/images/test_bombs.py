"""Images made to hurt: each ends as a reason or as its first frame, in bounded memory and time."""

import functools
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
FIRST_FRAME = "first frame"
LARGE = "3162 x 3162"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def zeros(megabytes: int) -> bytes:
    """A deflate stream of so many megabytes of nothing."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def png(width: int, height: int, data: bytes, *before: bytes, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return PNG_START + header + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def small_png(*before: bytes) -> bytes:
    rows = b"".join(b"\0" + bytes([200, 20, 20]) * 64 for _ in range(64))
    return png(64, 64, zlib.compress(rows), *before)


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def plain(size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, (200, 20, 20))


def gif_of_many_frames() -> bytes:
    """10,000 frames on a canvas of half a million pixels: 20 GB if they were all kept."""
    canvas = Image.new("P", (800, 600), 0)
    canvas.putpalette([200, 20, 20, 10, 10, 200])
    dot = encoded(Image.new("P", (1, 1), 1), "GIF")
    return encoded(canvas, "GIF")[:-1] + dot[dot.index(b"\x2c") : -1] * 10_000 + b"\x3b"


def gif_jumping_canvas() -> bytes:
    """A frame that claims to be far larger than the screen it is drawn on."""
    body = bytearray(encoded(Image.new("P", (64, 64)), "GIF"))
    at = body.index(b"\x2c")
    body[at + 5 : at + 9] = struct.pack("<HH", 65_535, 65_535)
    return bytes(body)


def webp_lying() -> bytes:
    """The canvas of the container is small, the picture inside is not."""
    body = bytearray(encoded(plain((2000, 2000)), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    at = body.index(b"VP8X") + 12
    body[at : at + 6] = (63).to_bytes(3, "little") * 2
    return bytes(body)


def webp_lying_other_way() -> bytes:
    body = bytearray(encoded(plain(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    at = body.index(b"VP8X") + 12
    body[at : at + 6] = (16_383).to_bytes(3, "little") * 2
    return bytes(body)


def tiff(tags: list[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + rest


def tiff_base(width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]


def tiff_huge_counts() -> bytes:
    """Tags that claim four billion values."""
    return tiff([*tiff_base(64, 64), (273, 4, 0xFFFFFFFF, 8), (279, 4, 0xFFFFFFFF, 8), (700, 1, 0xFFFFFFF0, 8)])


def tiff_bomb() -> bytes:
    """A strip of a few kilobytes that unpacks to 4 GB."""
    data = zeros(20)
    tags = [*tiff_base(60_000, 60_000), (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 60_000), (279, 4, 1, len(data))]
    tags[3] = (259, 3, 1, 8)
    return tiff(tags, bytes(120) + data)


def tiff_loop() -> bytes:
    """A directory whose successor is itself."""
    body = bytearray(encoded(plain(), "TIFF"))
    at = struct.unpack_from("<I", body, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", body, at)[0]
    body[end : end + 4] = struct.pack("<I", at)
    return bytes(body)


def jpeg_deep_exif() -> bytes:
    """EXIF whose directory points to itself, as sub-directory and as successor, a thousand times over."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005) * 300)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 900) + entries + struct.pack("<I", 8)
    body = encoded(plain(), "JPEG")
    return body[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + body[2:]


def jpeg_many_scans(times: int = 100_000) -> bytes:
    """A progressive JPEG whose last scan comes over and over: each is a walk over the whole picture."""
    body = encoded(plain((1024, 1024)), "JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    scan = body[last:-2]
    return body[:-2] + scan * min(times, 6_000_000 // len(scan)) + b"\xff\xd9"


def bmp_of_runs() -> bytes:
    """Run-length BMP of a huge picture in a few bytes."""
    head = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 1, 6, 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", 90, 0, 0, 62) + head + bytes(8) + b"\xff\x00" * 2 + b"\0\1"


def avif_lying() -> bytes:
    """The size that the container states is not that of the picture."""
    body = bytearray(encoded(plain(), "AVIF"))
    at = body.index(b"ispe") + 8
    body[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    return bytes(body)


SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'><image href='file:///etc/passwd'/></svg>"
ENTITIES = b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><svg>&b;</svg>"

# What each becomes: reasons, or the picture without what it carried.
CASES: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "png of 30,000 x 30,000": (lambda: png(30_000, 30_000, zeros(20)), {"too_many_pixels"}),
    "png within the cap that unpacks further": (lambda: png(64, 64, zeros(50)), {FIRST_FRAME}),
    "png with 50 MB of iCCP": (
        lambda: small_png(chunk(b"iCCP", b"p\0\0" + zeros(50))),
        {FIRST_FRAME, "decode_error"},
    ),
    "png with 50 MB of zTXt": (
        lambda: small_png(chunk(b"zTXt", b"t\0\0" + zeros(50))),
        {FIRST_FRAME, "decode_error"},
    ),
    "png with 50 MB of iTXt": (
        lambda: small_png(chunk(b"iTXt", b"t\0\1\0\0\0" + zeros(50))),
        {FIRST_FRAME, "decode_error"},
    ),
    "png with 200 texts of 1 MB": (
        lambda: small_png(*[chunk(b"zTXt", b"t%d\0\0" % n + zeros(1)) for n in range(200)]),
        {FIRST_FRAME, "decode_error"},
    ),
    "png chunk that claims 2 GB": (
        lambda: PNG_START + struct.pack(">I", 0x7FFFFFFF) + b"IHDR" + bytes(100),
        {"decode_error", "truncated"},
    ),
    "apng of 4 billion frames": (
        lambda: small_png(chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))),
        {FIRST_FRAME, "decode_error"},
    ),
    "gif of 10,000 frames": (gif_of_many_frames, {FIRST_FRAME}),
    "gif with a frame beyond its screen": (gif_jumping_canvas, {FIRST_FRAME, "decode_error", "too_many_pixels"}),
    "webp larger than it says": (webp_lying, {FIRST_FRAME, "decode_error"}),
    "webp smaller than it says": (webp_lying_other_way, {"decode_error", "too_many_pixels"}),
    "tiff with huge tags": (tiff_huge_counts, {"decode_error", "truncated", "unsupported_mode"}),
    "tiff of 4 GB in a strip": (tiff_bomb, {"too_many_pixels"}),
    "tiff in a loop": (tiff_loop, {FIRST_FRAME, "decode_error"}),
    "jpeg with EXIF in a loop": (jpeg_deep_exif, {FIRST_FRAME}),
    "jpeg of many scans": (jpeg_many_scans, {"too_many_scans"}),
    "jpeg of a hundred scans": (lambda: jpeg_many_scans(80), {FIRST_FRAME}),
    "jpeg with scans in its tail": (
        lambda: encoded(plain(), "JPEG") + b"\xff\xda" * 5000,
        {FIRST_FRAME},
    ),
    "bmp of runs": (bmp_of_runs, {"too_many_pixels", "decode_error"}),
    "avif that lies": (avif_lying, {"too_many_pixels", "decode_error"}),
    "svg": (lambda: SVG, {"not_an_image"}),
    "xml of entities": (lambda: ENTITIES, {"not_an_image"}),
    "gif that is JavaScript": (lambda: b"GIF89a/*" + bytes(60) + b"*/=1;alert(1)//;", {"decode_error", "truncated"}),
    "jpeg that is a zip": (lambda: encoded(plain(), "JPEG") + b"PK\x03\x04" + bytes(5000), {FIRST_FRAME}),
    "pdf that holds a jpeg": (lambda: b"%PDF-1.4\n" + encoded(plain(), "JPEG"), {"not_an_image"}),
    "jpeg that holds a pdf": (
        lambda: encoded(plain(), "JPEG", comment=b"\n%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj"),
        {FIRST_FRAME},
    ),
    "png that is html": (lambda: small_png(chunk(b"tEXt", b"c\0<script>alert(1)</script>")), {FIRST_FRAME}),
}  # fmt: skip

PROGRAM = """
import io, json, pathlib, resource, sys, time
from PIL import Image
from openwit.pipeline.images.process import ImageDrop, ImageSettings, process_image
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = io.BytesIO()
Image.effect_noise((900, 700), 50).convert("RGB").save(out, "JPEG")
process_image(out.getvalue(), ImageSettings())  # what every process pays once is no bomb's doing
for path in sys.argv[1:]:
    body = pathlib.Path(path).read_bytes()
    before, started = peak(), time.process_time()
    result = process_image(body, ImageSettings())
    dropped = isinstance(result, ImageDrop)
    print(json.dumps({
        "ended": str(result.reason) if dropped else "first frame",
        "kilobytes": peak() - before,
        "seconds": time.process_time() - started,
        "jpeg": "" if dropped else result.data.hex(),
    }))
"""


def run(bodies: dict[str, bytes], folder: Path) -> dict[str, dict[str, Any]]:
    """How a process of its own fares with bodies, one after another: a peak counts for the body that raised it."""
    paths = []
    for number, body in enumerate(bodies.values()):
        paths.append(folder / f"{number:02d}")
        paths[-1].write_bytes(body)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)],
        capture_output=True, text=True, check=True, timeout=100, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    return dict(zip(bodies, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    rows = zlib.compress((b"\0" + bytes([200, 20, 20, 128]) * 3162) * 3162, 1)
    bodies = {name: make() for name, (make, _) in CASES.items()}
    # The large one last, as only a higher peak shows.
    return run({**bodies, LARGE: png(3162, 3162, rows, colour=6)}, tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize("name", CASES)
def test_memory_and_time_are_bounded(name: str, endings: dict[str, dict[str, Any]]) -> None:
    found, expected = endings[name], CASES[name][1]
    assert found["ended"] in expected, found
    # 50,000,000 pixels of four bytes and the copies of them would be a gigabyte; nothing here comes near.
    assert found["kilobytes"] < 160_000, found
    assert found["seconds"] < 5, found
    if found["ended"] == FIRST_FRAME:
        jpeg = bytes.fromhex(found["jpeg"])
        assert Image.open(io.BytesIO(jpeg)).mode == "RGB"
        assert not any(word in jpeg for word in (b"PK\x03\x04", b"%PDF", b"<script", b"alert"))


def test_memory_by_the_pixel(endings: dict[str, dict[str, Any]]) -> None:
    """Ten million pixels with alpha: decoded, flattened, resized. So `max_pixels` bounds what an image may take."""
    assert endings[LARGE]["ended"] == FIRST_FRAME
    assert endings[LARGE]["kilobytes"] * 1024 < 20 * 3162**2, endings[LARGE]
