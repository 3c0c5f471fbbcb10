"""Every format with every feature that changes what is seen: against the picture that went in."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from openwit.pipeline.images.process import ImageReason, ImageSettings, ProcessedImage, ResizeMode, process_image

AS_IT_IS = ImageSettings(mode=ResizeMode.NO)
WHITE = (255, 255, 255)


def seen(body: bytes) -> Image.Image:
    """The picture that comes out, at its own size."""
    result = process_image(body, AS_IT_IS)
    assert isinstance(result, ProcessedImage), result
    return Image.open(io.BytesIO(result.data))


def pixel(picture: Image.Image, x: int, y: int) -> np.ndarray:
    colour: np.ndarray = np.asarray(picture, float)[y, x]
    return colour


def with_alpha(image: Image.Image) -> Image.Image:
    """Its right half is half transparent."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (image.width // 2, 0, *image.size))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


PLAIN = [
    ("JPEG", {"quality": 92}, 3),
    ("JPEG", {"quality": 92, "progressive": True}, 3),
    ("JPEG", {"quality": 92, "restart_marker_rows": 1}, 3),
    ("JPEG", {"quality": 92, "subsampling": "4:1:1"}, 4),
    ("PNG", {}, 2),
    ("PNG", {"compress_level": 0}, 2),
    ("WEBP", {"quality": 90}, 3),
    ("WEBP", {"lossless": True}, 2),
    ("GIF", {}, 8),
    ("BMP", {}, 2),
    ("TIFF", {}, 2),
    ("TIFF", {"compression": "tiff_lzw"}, 2),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, 2),
    ("TIFF", {"compression": "jpeg"}, 4),
    ("TIFF", {"big_tiff": True}, 2),
    ("AVIF", {"quality": 90}, 3),
    ("AVIF", {"quality": 90, "subsampling": "4:4:4"}, 3),
]


@pytest.mark.parametrize(("name", "options", "close"), PLAIN, ids=lambda value: str(value))
def test_plain(photo: Any, encoded: Any, distance: Any, name: str, options: dict[str, Any], close: float) -> None:
    image = photo(200, 150)
    assert distance(seen(encoded(image, name, **options)), image) < close


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_grey(photo: Any, encoded: Any, distance: Any, name: str) -> None:
    image = photo(200, 150).convert("L")
    assert distance(seen(encoded(image, name)), image) < 4


def test_cmyk_as_adobe_and_others_write_it(photo: Any, encoded: Any, distance: Any) -> None:
    image = photo(200, 150)
    assert distance(seen(encoded(image.convert("CMYK"), quality=95)), image) < 3
    assert distance(seen(encoded(image.convert("CMYK"), "TIFF")), image) < 3


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_alpha_on_white(photo: Any, encoded: Any, distance: Any, name: str) -> None:
    image = with_alpha(photo(200, 150))
    options: Any = {"WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(name, {})
    assert distance(seen(encoded(image, name, **options)), on_white(image)) < 3


def test_alpha_of_lossy_webp(photo: Any, encoded: Any, distance: Any) -> None:
    image = with_alpha(photo(200, 150))
    assert distance(seen(encoded(image, "WEBP", quality=90)), on_white(image)) < 4


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_with_transparent_entry(encoded: Any, form: str) -> None:
    image = Image.new("P", (60, 40), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.paste(1, (30, 0, 60, 40))
    picture = seen(encoded(image, form, transparency=1))
    assert tuple(pixel(picture, 50, 20)) == WHITE
    assert np.allclose(pixel(picture, 10, 20), (200, 0, 0), atol=3)


def test_palette_with_an_alpha_each_entry(encoded: Any) -> None:
    image = Image.new("P", (60, 40), 0)
    image.putpalette([200, 0, 0, 0, 0, 0])
    image.paste(1, (30, 0, 60, 40))
    picture = seen(encoded(image, "PNG", transparency=b"\xff\x80"))
    assert np.allclose(pixel(picture, 50, 20), (127, 127, 127), atol=3)


def test_sixteen_bits(photo: Any, encoded: Any, distance: Any) -> None:
    grey = photo(200, 150).convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for name in ("PNG", "TIFF"):
        assert distance(seen(encoded(wide, name)), grey) < 2, name


def test_sixteen_bit_colour_png(photo: Any, distance: Any) -> None:
    image = photo(60, 40)
    assert distance(seen(_png16(np.asarray(image).astype(np.uint16) * 257)), image) < 4


def _png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_give_their_first_frame(encoded: Any, name: str) -> None:
    frames = [Image.new("RGB", (80, 60), colour) for colour in ((200, 20, 20), (20, 200, 20), (20, 20, 200))]
    body = encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=100)
    assert np.allclose(pixel(seen(body), 40, 30), (200, 20, 20), atol=6)


def test_first_frame_of_a_gif_that_covers_only_a_part(encoded: Any) -> None:
    """The canvas around it shows nothing: white."""
    image = Image.new("P", (40, 40), 0)
    image.putpalette([200, 20, 20, 0, 0, 0])
    body = bytearray(encoded(image, "GIF", transparency=1))
    body[6:10] = struct.pack("<HH", 80, 80)
    picture = seen(bytes(body))
    assert picture.size == (80, 80)
    assert np.allclose(pixel(picture, 20, 20), (200, 20, 20), atol=6)
    assert np.allclose(pixel(picture, 60, 60), WHITE, atol=6)


def test_tiled_tiff(photo: Any, distance: Any) -> None:
    """Uncompressed tiles of 64 x 48 pixels, laid out by hand."""
    image = photo(192, 144)
    pixels = np.asarray(image)
    tiles = [pixels[y : y + 48, x : x + 64].tobytes() for y in range(0, 144, 48) for x in range(0, 192, 64)]
    assert distance(seen(_tiff(tiles, (192, 144), (64, 48))), image) < 2


def _tiff(tiles: list[bytes], size: tuple[int, int], tile: tuple[int, int]) -> bytes:
    n = len(tiles)
    entries = 11
    extra = 8 + 2 + 12 * entries + 4
    bits_at, offsets_at, counts_at = extra, extra + 6, extra + 6 + 4 * n
    data_at = counts_at + 4 * n
    offsets = np.cumsum([data_at, *map(len, tiles[:-1])])
    tags = [
        (256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2),
        (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, tile[0]), (323, 4, 1, tile[1]), (324, 4, n, offsets_at),
        (325, 4, n, counts_at),
    ]  # fmt: skip
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", 8, 8, 8)
    return head + struct.pack(f"<{n}I", *offsets) + struct.pack(f"<{n}I", *map(len, tiles)) + b"".join(tiles)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 95}),
    ],
    ids=str,
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(photo: Any, encoded: Any, distance: Any, name: str, options: Any, orientation: int) -> None:
    """The decoders of TIFF and AVIF turn images themselves: nothing may be turned twice."""
    image = photo(120, 90)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(image, "PNG", exif=exif(orientation)))))
    body = encoded(image, name, exif=exif(orientation), **options)
    assert distance(seen(body), expected) < 3
    result = process_image(body, ImageSettings(size=45))
    assert isinstance(result, ProcessedImage)
    assert (result.original_width, result.original_height) == expected.size


PRIMARIES = {
    # Chromaticities x, y of red, green, blue: Display P3 and Adobe RGB (1998), both of D65.
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), 2.2),
    "Adobe RGB (1998)": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), 563 / 256),
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65, D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.96422, 1.0, 0.82521])


def _to_d50(primaries: Any) -> np.ndarray:
    """[3, 3]: columns are the XYZ (D50) of the primaries."""
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    xyz = xyz * np.linalg.solve(xyz, D65)
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ D65))
    adapted: np.ndarray = np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ xyz
    return adapted


def _profile(name: str) -> bytes:
    """An ICC matrix profile (version 2) of the primaries and a pure power curve."""
    *primaries, gamma = PRIMARIES[name]
    columns = _to_d50(primaries)

    def s15(values: Any) -> bytes:
        return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in values)

    text = name.encode()
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + s15(D50),
        **{t: b"XYZ \0\0\0\0" + s15(columns[:, i]) for i, t in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **{t: b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) for t in (b"rTRC", b"gTRC", b"bTRC")},
    }
    at, table, data = 132 + 12 * len(tags), b"", b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", at + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = bytearray(128)
    head[:4] = struct.pack(">I", 128 + len(body))
    head[8:24] = struct.pack(">I", 0x02400000) + b"mntrRGB XYZ "[:12]
    head[36:40] = b"acsp"
    head[68:80] = s15(D50)
    return bytes(head) + body


def _expected(name: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The sRGB values of a colour of a space, by the formulae of both."""
    *primaries, gamma = PRIMARIES[name]
    srgb = _to_d50(((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)))
    linear = np.linalg.solve(srgb, _to_d50(primaries) @ (np.array(colour) / 255) ** gamma)
    linear = np.clip(linear, 0, 1)
    encoded: np.ndarray = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded


@pytest.mark.parametrize("space", list(PRIMARIES))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("colour", [(180, 90, 60), (80, 160, 90), (60, 70, 190), (128, 128, 128)])
def test_wide_gamuts_become_srgb(encoded: Any, space: str, name: str, colour: tuple[int, int, int]) -> None:
    options = {"quality": 98, "subsampling": 0} if name == "JPEG" else {"lossless": True} if name == "WEBP" else {}
    body = encoded(Image.new("RGB", (64, 64), colour), name, icc_profile=_profile(space), **options)
    assert ImageCms.getProfileDescription(io.BytesIO(_profile(space))).strip() == space
    got = pixel(seen(body), 30, 30)
    assert np.abs(got - _expected(space, colour)).max() < 4
    if colour != (128, 128, 128):
        assert np.abs(got - colour).max() > 4  # else the test would show nothing


def test_profile_of_an_image_with_alpha(encoded: Any) -> None:
    image = Image.new("RGBA", (64, 64), (80, 160, 90, 255))
    image.paste((80, 160, 90, 0), (32, 0, 64, 64))
    picture = seen(encoded(image, "PNG", icc_profile=_profile("Adobe RGB (1998)")))
    assert np.abs(pixel(picture, 10, 30) - _expected("Adobe RGB (1998)", (80, 160, 90))).max() < 4
    assert np.allclose(pixel(picture, 50, 30), WHITE, atol=2)


def test_what_pillow_reads_but_we_do_not_take(photo: Any, encoded: Any) -> None:
    """The list of formats is closed: nothing else reaches a decoder."""
    for name in ("PPM", "ICO", "TGA", "JPEG2000", "PCX", "DDS"):
        result = process_image(encoded(photo(64, 64), name), AS_IT_IS)
        assert getattr(result, "reason", None) is ImageReason.NOT_AN_IMAGE, name
