import gzip
import hashlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from openwit.pipeline.images.phash import hamming
from openwit.pipeline.images.process import (
    ImageDrop,
    ImageReason,
    ImageSettings,
    ProcessedImage,
    ResizeMode,
    process_image,
)
from openwit.pipeline.images.resize import plan_resize

# Damaged metadata makes Pillow talk; the module silences it outside of pytest, which resets the filters.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

DEFAULT = ImageSettings()
PHOTOS = Path(__file__).parents[3].parent / "shared" / "data" / "photos.parquet"


def kept(body: bytes, settings: ImageSettings = DEFAULT) -> tuple[ProcessedImage, Image.Image]:
    result = process_image(body, settings)
    assert isinstance(result, ProcessedImage), result
    picture = Image.open(io.BytesIO(result.data))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (result.width, result.height))
    picture.load()
    return result, picture


def dropped(body: bytes, settings: ImageSettings = DEFAULT) -> ImageReason:
    result = process_image(body, settings)
    assert isinstance(result, ImageDrop), result
    return result.reason


# What comes out


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats(photo: Any, encoded: Any, distance: Any, name: str) -> None:
    image = photo(800, 600)
    body = encoded(image, name)
    result, picture = kept(body)
    assert (result.width, result.height) == (341, 256)
    assert (result.original_width, result.original_height, result.original_format) == (800, 600, name)
    assert result.sha256 == hashlib.sha256(body).hexdigest()
    assert result.reencoded
    assert distance(picture, image.resize((341, 256), Image.Resampling.BICUBIC)) < (6 if name == "GIF" else 3)


def test_content_type_by_bytes_not_by_name(photo: Any, encoded: Any) -> None:
    assert kept(encoded(photo(), "PNG"))[0].original_format == "PNG"


def test_same_bytes_in_same_bytes_out(photo: Any, encoded: Any) -> None:
    body = encoded(photo(900, 700, seed=3))
    assert process_image(body, DEFAULT) == process_image(body, DEFAULT)


@pytest.mark.parametrize("height", [675, 681, 825, 1029])
def test_reduced_decoding_shifts_nothing(encoded: Any, height: int) -> None:
    """Where an eighth, a quarter or a half of a side is no whole number, nothing may move by the rest."""
    width = height * 4 // 3
    blots = np.random.default_rng(0).integers(0, 256, (height // 10, width // 10, 3)).astype(np.uint8)
    image = Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC)
    for mode in (ResizeMode.KEEP_RATIO, ResizeMode.CENTER_CROP):
        _, picture = kept(encoded(image, quality=95, subsampling=0), ImageSettings(mode=mode))
        box = plan_resize(width, height, ImageSettings(mode=mode)).box
        exact = image.resize(picture.size, Image.Resampling.BICUBIC, box=box)
        last_rows = np.asarray(picture.convert("L"), float)[-20:] - np.asarray(exact.convert("L"), float)[-20:]
        assert np.sqrt(np.mean(last_rows**2)) < 2.5


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        (ResizeMode.KEEP_RATIO, (341, 256)),
        (ResizeMode.KEEP_RATIO_LARGEST, (256, 192)),
        (ResizeMode.CENTER_CROP, (256, 256)),
        (ResizeMode.BORDER, (256, 256)),
        (ResizeMode.NO, (800, 600)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_modes_and_orientation(
    photo: Any, encoded: Any, distance: Any, mode: Any, size: Any, orientation: int
) -> None:
    upright = photo(800, 600)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright if turn[orientation] is None else upright.transpose(turn[orientation])
    result, picture = kept(encoded(stored, exif=exif, quality=92), ImageSettings(mode=mode))
    assert picture.size == size
    assert (result.original_width, result.original_height) == (800, 600)
    plain, expected = kept(encoded(upright, quality=92), ImageSettings(mode=mode))
    assert distance(picture, expected) < 2
    assert hamming(np.uint64(result.phash), np.uint64(plain.phash)) <= 2


@pytest.mark.parametrize("orientation", [2, 4, 5, 7])
def test_mirrored_orientations(photo: Any, encoded: Any, distance: Any, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo(500, 400)
    body = encoded(stored, exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    _, picture = kept(body, ImageSettings(mode=ResizeMode.NO))
    assert distance(picture, expected) < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "LAB"])
def test_modes_of_pixels(photo: Any, encoded: Any, distance: Any, mode: str) -> None:
    image = photo(500, 400)
    expected = image
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        source, expected = Image.fromarray(grey), image.convert("L")
    elif mode == "LAB":
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        source = ImageCms.applyTransform(image, transform)
    else:
        source = image.convert("RGBA").convert(mode) if mode == "LA" else image.convert(mode)
        if mode == "P":
            source = image.quantize(64, dither=Image.Dither.NONE)
        expected = (
            source.convert("RGB") if mode in ("1", "P") else image.convert("L") if mode in ("L", "LA") else image
        )
    name = "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF" if mode == "LAB" else "PNG"
    _, picture = kept(encoded(source, name), ImageSettings(mode=ResizeMode.NO))
    assert distance(picture, expected) < 6


def test_transparency_becomes_white(photo: Any, encoded: Any) -> None:
    image = photo(400, 300).convert("RGBA")
    image.putalpha(0)
    image.paste((10, 20, 30, 255), (0, 0, 200, 300))
    for body in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True)):
        _, picture = kept(body)
        assert all(abs(a - b) < 4 for a, b in zip(picture.getpixel((50, 128)), (10, 20, 30), strict=True))
        assert min(picture.getpixel((330, 128))) > 250


def test_transparent_palette_and_colour_key(encoded: Any) -> None:
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    body = encoded(palette, "GIF", transparency=1)
    assert kept(body)[1].getpixel((9, 9)) == (255, 255, 255)
    key = encoded(Image.new("RGB", (64, 64), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert kept(key)[1].getpixel((9, 9)) == (255, 255, 255)


def test_wide_gamut_is_brought_to_srgb(encoded: Any) -> None:
    """A profile that exchanges red and green by its primaries: ignoring it shows."""
    image = Image.new("RGB", (400, 300), (200, 60, 60))
    body = encoded(image, icc_profile=_swapped_profile())
    red, green, _ = kept(body)[1].getpixel((100, 100))
    assert green > red
    _, plain = kept(encoded(image, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()))
    assert plain.getpixel((100, 100))[0] > 190
    assert kept(encoded(image, icc_profile=b"no profile"))[1].getpixel((100, 100))[0] > 190


def _swapped_profile() -> bytes:
    """sRGB with the red and green primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = (slice(tags[name] + 4, tags[name] + 12) for name in (b"rXYZ", b"gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be")).replace(b"sRGB", b"Swap")


# What passes through


def test_bytes_that_need_no_change_pass_through(photo: Any, encoded: Any) -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0, "quality": 60}):
        body = encoded(photo(320, 256), **options)
        result, _ = kept(body)
        assert result.data is body
        assert not result.reencoded


def test_metadata_is_taken_out_without_touching_the_picture(photo: Any, encoded: Any) -> None:
    exif = Image.Exif()
    exif[0x010F] = "CameraMaker"
    plain = encoded(photo(320, 256))
    body = encoded(photo(320, 256), exif=exif) + b"<script>hidden</script>"
    result, _ = kept(body)
    assert result.data == plain
    assert not result.reencoded
    assert result.sha256 == hashlib.sha256(body).hexdigest()


def test_metadata_does_not_survive_encoding(photo: Any, encoded: Any) -> None:
    exif = Image.Exif()
    exif[0x010F] = "CameraMaker"
    body = encoded(photo(800, 600), exif=exif, comment=b"private remark", icc_profile=_swapped_profile())
    jpeg = kept(body)[0].data
    assert not any(word in jpeg for word in (b"CameraMaker", b"private remark", b"ICC_PROFILE"))


@pytest.mark.parametrize("change", ["grey", "orientation", "profile", "cmyk"])
def test_what_needs_a_change_is_encoded(photo: Any, encoded: Any, change: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    body = {
        "grey": lambda: encoded(photo(320, 256).convert("L")),
        "orientation": lambda: encoded(photo(320, 256), exif=exif),
        "profile": lambda: encoded(photo(320, 256), icc_profile=_swapped_profile()),
        "cmyk": lambda: encoded(photo(320, 256).convert("CMYK")),
    }[change]()
    assert kept(body)[0].reencoded


# What is dropped


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
        b"<!doctype html><img src=x>",
        gzip.compress(b"<svg/>", mtime=0),
        b"%PDF-1.4",
    ],
)
def test_what_is_no_image(body: bytes) -> None:
    assert dropped(body) is ImageReason.NOT_AN_IMAGE


def test_truncated_files(photo: Any, encoded: Any) -> None:
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"):
        body = encoded(photo(), name)
        assert dropped(body[: len(body) // 2]) in (ImageReason.TRUNCATED, ImageReason.DECODE_ERROR), name
    small = encoded(photo(300, 200))
    assert dropped(small[:-200]) is ImageReason.TRUNCATED


def test_size_limits(photo: Any, encoded: Any) -> None:
    assert dropped(encoded(photo(400, 31), "PNG"), ImageSettings(max_aspect_ratio=99)) is ImageReason.TOO_SMALL
    assert dropped(encoded(photo(700, 100))) is ImageReason.BAD_ASPECT_RATIO
    assert dropped(encoded(photo(100, 700))) is ImageReason.BAD_ASPECT_RATIO
    assert dropped(encoded(photo(101, 100)), ImageSettings(max_pixels=10_000)) is ImageReason.TOO_MANY_PIXELS
    kept(encoded(photo(600, 100)))
    kept(encoded(photo(32, 32)))


def _png(width: int, height: int) -> bytes:
    """A PNG that states a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bombs(photo: Any, encoded: Any) -> dict[str, bytes]:
    gif = bytearray(encoded(Image.new("P", (64, 64)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    webp = bytearray(encoded(photo(64, 64), "WEBP", lossless=True, exif=b"Exif\0\0II*\0"))
    at = webp.index(b"VP8X") + 12
    webp[at : at + 6] = (16_382).to_bytes(3, "little") * 2
    bmp = bytearray(encoded(photo(64, 64), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    jpeg = bytearray(encoded(photo(64, 64)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    return {
        "png": _png(30_000, 30_000),
        "gif": bytes(gif),
        "webp": bytes(webp),
        "bmp": bytes(bmp),
        "jpeg": bytes(jpeg),
    }


def test_bombs_are_dropped_by_their_header(photo: Any, encoded: Any) -> None:
    for name, body in _bombs(photo, encoded).items():
        assert dropped(body) is ImageReason.TOO_MANY_PIXELS, name


def test_bombs_take_no_memory(photo: Any, encoded: Any, tmp_path: Path) -> None:
    for name, body in _bombs(photo, encoded).items():
        (tmp_path / name).write_bytes(body)
    program = """
import pathlib, resource, sys
from openwit.pipeline.images.process import ImageDrop, ImageSettings, process_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    assert isinstance(process_image(path.read_bytes(), ImageSettings()), ImageDrop), path
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert int(done.stdout) < 50_000  # kB


def test_only_the_first_of_many_frames_is_read(encoded: Any) -> None:
    first = Image.new("P", (100, 100), 0)
    first.putpalette([200, 10, 10, 10, 10, 200])
    body = encoded(first, "GIF")
    frame = body[body.index(b"\x2c") : -1]
    blue = encoded(Image.new("P", (100, 100), 1), "GIF")
    other = blue[blue.index(b"\x2c") : -1]
    result, picture = kept(body[: body.index(b"\x2c")] + frame + other * 10_000 + b"\x3b")
    assert (result.original_format, picture.size) == ("GIF", (100, 100))
    assert picture.getpixel((50, 50))[0] > 190


def test_tiles_larger_than_the_image_are_refused(encoded: Any) -> None:
    body = bytearray(encoded(Image.new("RGB", (64, 64)), "TIFF"))
    # RowsPerStrip and StripByteCounts become TileWidth and TileLength.
    for old, new, value in ((278, 322, 30_000), (279, 323, 30_000)):
        at = body.index(struct.pack("<H", old), 8)
        body[at : at + 12] = struct.pack("<HHII", new, 4, 1, value)
    assert dropped(bytes(body)) in (ImageReason.TOO_MANY_PIXELS, ImageReason.DECODE_ERROR)


def test_floating_point_has_no_appearance(encoded: Any) -> None:
    assert dropped(encoded(Image.new("F", (64, 64), 0.5), "TIFF")) is ImageReason.UNSUPPORTED_MODE


# Whatever bytes there are


@pytest.fixture(scope="module")
def corpus(photo: Any, encoded: Any) -> list[bytes]:
    small = photo(90, 70)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    return [
        encoded(small, quality=70, exif=exif, icc_profile=_swapped_profile()),
        encoded(small, progressive=True),
        encoded(small, "PNG", exif=exif),
        encoded(small.quantize(16), "PNG", transparency=3),
        encoded(small, "WEBP"),
        encoded(small.convert("RGBA"), "WEBP", lossless=True, exif=exif),
        encoded(small, "GIF"),
        encoded(small, "BMP"),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small, "TIFF", compression="jpeg"),
        encoded(small.convert("CMYK")),
        encoded(small, "AVIF"),
    ]


@given(st.data())
@hypothesis_settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_images_end_as_an_image_or_a_reason(corpus: list[bytes], data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(corpus)))
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    for _ in range(data.draw(st.integers(0, 6))):
        if body:
            # Most damage goes to the headers, where it means something.
            reach = len(body) if data.draw(st.booleans()) else min(len(body), 200)
            body[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    options = ImageSettings(size=data.draw(st.sampled_from([32, 64])), min_size=1, max_pixels=1_000_000)
    result = process_image(bytes(body), options)
    if isinstance(result, ProcessedImage):
        picture = Image.open(io.BytesIO(result.data))
        picture.load()
        assert picture.size == (result.width, result.height)
        assert 0 <= result.phash < 2**64
    else:
        assert result.reason in ImageReason


@given(st.binary(max_size=400), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]))
@hypothesis_settings(max_examples=150, deadline=None)
def test_noise_behind_a_good_start(noise: bytes, start: bytes) -> None:
    assert isinstance(process_image(start + noise, DEFAULT), ImageDrop)


def test_warnings_as_errors_change_nothing(photo: Any, encoded: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dropped(_png(10_000, 10_000)) is ImageReason.TOO_MANY_PIXELS
        kept(encoded(photo()))


@pytest.mark.skipif(not PHOTOS.is_file(), reason="needs ../shared/data/photos.parquet")
def test_real_photos() -> None:
    bodies = next(pq.ParquetFile(PHOTOS).iter_batches(60, columns=["jpeg"])).column("jpeg").to_pylist()
    for body in bodies:
        result, picture = kept(body, ImageSettings(max_aspect_ratio=10))
        assert min(picture.size) == min(256, result.original_width, result.original_height)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in ImageSettings.model_fields.values())
